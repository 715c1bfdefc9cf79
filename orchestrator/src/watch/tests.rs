//! The book: what goes in comes out, and nothing grows without bound.

use super::{traffic::NAMES, *};

fn request(number: u64) -> RequestView {
    RequestView {
        id: number.to_string(),
        model: "m".into(),
        samples: 1,
        arm: "base/chain".into(),
        exit: "last".into(),
        context: "loose".into(),
        reason: "best".into(),
        propensity: 1.0,
        accuracy: 0.9,
        sla_us: 20_000,
        predicted_us: 8_000,
        response_us: 10_000,
        ending: "answered".into(),
        held: true,
        attempts: 1,
        hops: vec![
            HopView {
                node: "a".into(),
                branch: 0,
                hop: 0,
                codec: "raw".into(),
                transfer_us: 1000,
                queue_us: 2000,
                compute_us: 4000,
                encode_us: 100,
            },
            HopView {
                node: String::new(),
                branch: 0,
                hop: 1,
                codec: "raw".into(),
                transfer_us: 900,
                queue_us: 0,
                compute_us: 0,
                encode_us: 0,
            },
        ],
        ..RequestView::default()
    }
}

#[test]
fn a_window_is_the_sum_of_its_seconds_and_leaves_out_the_running_one() {
    let mut book = Book::default();
    for second in 0..30 {
        book.ended(second, request(second), None);
        let mut lost = request(100 + second);
        (lost.ending, lost.held) = ("expired".into(), false);
        book.ended(second, lost, Some(Loss::Expired));
    }
    let seen = book.seen("m").unwrap();
    let window = seen.window(29, 10);
    assert_eq!((window.ended, window.answered, window.held), (20, 10, 10));
    assert_eq!(window.lost[Loss::Expired as usize], 10);
    assert_eq!(window.parts.response.total(), 10);
    assert_eq!(window.arms[0], 10);
    assert!((window.response - 0.1).abs() < 1e-9);
    assert_eq!(seen.arms(), ["base/chain"]);
    assert!((view::rate(seen, 29) - 2.0).abs() < 1e-9);
    assert_eq!(seen.total(), (30, 30));
    // Time has passed without a request.
    assert_eq!(seen.window(200, 10).ended, 0);
}

#[test]
fn the_slowest_branch_counts() {
    let mut book = Book::default();
    let mut two = request(1);
    let mut other = two.hops.clone();
    for hop in &mut other {
        hop.branch = 1;
        hop.compute_us *= 4;
    }
    two.hops.extend(other);
    book.ended(0, two, None);
    let window = book.seen("m").unwrap().window(1, 10);
    assert!(window.parts.compute.quantile(1.0).unwrap() >= 16e-3);
    assert!(window.parts.queue.quantile(1.0).unwrap() <= 3e-3);
}

#[test]
fn nothing_grows_without_bound() {
    let mut book = Book::default();
    for number in 0..5_000u64 {
        let mut one = request(number);
        one.model = format!("m{}", number % 200);
        one.arm = format!("arm{}", number % 97);
        one.exit = format!("exit{}", number % 89);
        one.context = format!("context{}", number % 11);
        one.sla_us = number;
        one.hops[0].node = format!("node{number}");
        if number % 2 == 0 {
            one.ending = "failed".into();
            book.ended(number, one, Some(Loss::Unreachable));
        } else {
            book.ended(number, one, None);
        }
        book.nodes.link(1.0, ("a", &number.to_string()), 0, 0, 0);
        book.nodes.link(1.0, ("b", &number.to_string()), 0, 0, 0);
    }
    assert!(book.models().count() <= MODELS + 1);
    for (_, seen) in book.models() {
        assert!(seen.slots().count() <= traffic::SECONDS);
        assert!(seen.arms().len() <= NAMES && seen.exits().len() <= NAMES);
        assert!(seen.hops().count() <= traffic::HOPS);
        assert!(seen.slas().count() <= traffic::SLAS);
    }
    assert!(book.bandit.rows().len() <= bandit::ROWS + 1);
    assert!(book.nodes.links().count() <= nodes::LINKS);
    let count = |order| book.requests.list(order, None, usize::MAX).len();
    assert_eq!(count(requests::Order::Newest), requests::RECENT);
    assert_eq!(count(requests::Order::Lost), requests::LOST);
}

#[test]
fn the_bandit_s_row_is_the_mean_of_its_rewards() {
    let mut bandit = Bandit::default();
    for number in 0..4 {
        let mut one = request(number);
        one.held = number % 2 == 0;
        one.propensity = if one.held { 1.0 } else { 0.5 };
        one.reason = if one.held { "best" } else { "explored" }.into();
        bandit.learn(&one);
    }
    let row = &bandit.rows()[0];
    assert_eq!((row.count, row.explored), (4, 2));
    assert!((row.reward - (0.95 + 0.45) / 2.0).abs() < 1e-12);
    assert!((row.propensity - 0.75).abs() < 1e-12);
    // Four values, two at each end, half a point apart: s = 0.2887, s / √4 · 1.96.
    assert!((row.confidence.unwrap() - 1.96 * 0.288_675 / 2.0).abs() < 1e-4);
}

#[test]
fn requests_are_found_by_number_and_listed_by_order() {
    let mut book = Book::default();
    for number in 0..10 {
        let mut one = request(number);
        one.response_us = if number == 3 { 99_000 } else { number };
        let loss = (number == 7).then_some(Loss::Broken);
        if loss.is_some() {
            one.ending = "failed".into();
        }
        book.ended(0, one, loss);
    }
    let ids = |order, count| -> Vec<String> {
        let list = book.requests.list(order, Some("m"), count);
        list.iter().map(|one| one.id.clone()).collect()
    };
    assert_eq!(ids(requests::Order::Newest, 2), ["9", "8"]);
    assert_eq!(ids(requests::Order::Slowest, 1), ["3"]);
    assert_eq!(ids(requests::Order::Lost, 9), ["7"]);
    assert_eq!(book.requests.find("5").unwrap().response_us, 5);
    assert!(book.requests.find("55").is_none());
}

#[test]
fn audits_tell_how_far_the_answers_are_those_of_the_networks_end() {
    let mut book = Book::default();
    for number in 0..8 {
        let exit = if number < 6 { "early" } else { "last" };
        let request = RequestView {
            exit: exit.into(),
            ..request(number)
        };
        book.ended(5, request, None);
    }
    let agreement = |book: &mut Book| {
        let seen = book.model(&ModelName::new("m")).clone();
        seen.agreement(&seen.window(6, 10))
    };
    assert_eq!(agreement(&mut book), None);
    for agrees in [true, false, true] {
        let seen = book.model(&ModelName::new("m"));
        seen.audited([("early", agrees), ("never answers", false)]);
    }
    // Six answers agree in two of three cases, two always.
    let told = agreement(&mut book).unwrap();
    assert!((told - 0.75).abs() < 1e-12, "{told}");
}

#[test]
fn a_node_is_as_busy_as_its_report_says() {
    use splitplace_proto::control::{FragmentReport, LinkReport, Report, ServiceTime};
    let report = |done: u64, bytes: u64| Report {
        fragments: vec![FragmentReport {
            service: Some(ServiceTime {
                count: done,
                mean_seconds: 0.01,
                variance_seconds2: 0.0,
            }),
            queued: 3,
            ..FragmentReport::default()
        }],
        links: vec![LinkReport {
            peer: "b".into(),
            frames: bytes / 100,
            bytes,
            ..LinkReport::default()
        }],
        ..Report::default()
    };
    let mut nodes = Nodes::default();
    nodes.reported(10.0, "a", 2, &report(1_000_000, 5_000));
    assert_eq!(nodes.node("a").busy, 0.0);
    for half in 1..=20u32 {
        let at = 10.0 + f64::from(half) / 2.0;
        nodes.reported(at, "a", 2, &report(50, 5_000 + u64::from(half) * 1_000));
    }
    let seen = nodes.node("a");
    // 50 runs of 10 ms in half a second on two cores.
    assert!((seen.busy - 0.5).abs() < 1e-3, "{seen:?}");
    assert!((seen.computed_per_second - 100.0).abs() < 0.1);
    assert_eq!(seen.queued, 3);
    let (from, to, link) = nodes.links().next().unwrap();
    assert_eq!((from, to), ("a", "b"));
    assert!((link.bytes_per_second - 2_000.0).abs() < 2.0);
    let mut distrusted = report(50, 30_000);
    distrusted.links[0].distrust = "é".repeat(10_000);
    nodes.reported(21.0, "a", 2, &distrusted);
    assert_eq!(nodes.distrust("a", "b").chars().count(), 300);
    assert_eq!(nodes.distrust("b", "a"), "");
    nodes.reported(22.0, "a", 2, &report(50, 30_000));
    assert_eq!(nodes.distrust("a", "b"), "");
    nodes.reported(23.0, "a", 2, &distrusted);
    nodes.forget("a");
    assert_eq!(nodes.links().count(), 0);
    assert_eq!(nodes.distrust("a", "b"), "");
}
