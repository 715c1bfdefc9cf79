//! Effects of nodes and segments: against the normal equations, and what they are for.

use proptest::prelude::*;
use splitplace_plan::effects::{Effects, Priors, Seen, fit};

const PRIORS: Priors = Priors {
    common: 0.25,
    node: 0.06,
    segment: 0.04,
    noise: 0.01,
};

/// The same minimum by Gaussian elimination of the ridge's normal equations: O(effects³).
fn oracle(seen: &[Seen], nodes: usize, segments: usize, priors: &Priors) -> Vec<f64> {
    let size = 1 + nodes + segments;
    let mut rows = vec![vec![0.0; size + 1]; size];
    for (at, row) in rows.iter_mut().enumerate() {
        row[at] = priors.noise
            / match at {
                0 => priors.common,
                at if at <= nodes => priors.node,
                _ => priors.segment,
            };
    }
    for one in seen {
        let at = [0, 1 + one.node, 1 + nodes + one.segment];
        for i in at {
            for j in at {
                rows[i][j] += 1.0;
            }
            rows[i][size] += one.log;
        }
    }
    for pivot in 0..size {
        let (done, rest) = rows.split_at_mut(pivot + 1);
        for row in rest {
            let factor = row[pivot] / done[pivot][pivot];
            for (cell, above) in row.iter_mut().zip(&done[pivot]) {
                *cell -= factor * above;
            }
        }
    }
    let mut solved = vec![0.0; size];
    for row in (0..size).rev() {
        let rest: f64 = (row + 1..size).map(|at| rows[row][at] * solved[at]).sum();
        solved[row] = (rows[row][size] - rest) / rows[row][row];
    }
    solved
}

fn flat(effects: &Effects) -> Vec<f64> {
    let nodes = effects.nodes.iter().map(|(effect, _)| *effect);
    let all = std::iter::once(effects.common).chain(nodes);
    all.chain(effects.segments.iter().copied()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Where nothing is odd, it is the ridge regression.
    #[test]
    fn they_solve_the_normal_equations(
        seen in proptest::collection::vec((0..4usize, 0..6usize, -0.25..0.25f64), 1..30)
    ) {
        let seen: Vec<Seen> = seen
            .into_iter()
            .map(|(node, segment, log)| Seen { node, segment, log })
            .collect();
        let nodes = seen.iter().map(|one| one.node).max().unwrap_or(0) + 1;
        let segments = seen.iter().map(|one| one.segment).max().unwrap_or(0) + 1;
        let found = flat(&fit(&seen, &PRIORS));
        let wanted = oracle(&seen, nodes, segments, &PRIORS);
        for (found, wanted) in found.iter().zip(&wanted) {
            prop_assert!((found - wanted).abs() < 1e-6, "{found} {wanted}");
        }
    }
}

fn seen(node: usize, segment: usize, factor: f64) -> Seen {
    Seen {
        node,
        segment,
        log: factor.ln(),
    }
}

#[test]
fn a_slow_node_is_told_from_a_slow_segment() {
    // Node 1 takes twice what others do, segment 0 three quarters more than predicted everywhere.
    let mut all = Vec::new();
    for node in 0..3 {
        for segment in 0..8 {
            let slow = if node == 1 { 2.0 } else { 1.0 };
            let long = if segment == 0 { 1.75 } else { 1.0 };
            all.push(seen(node, segment, slow * long));
        }
    }
    let effects = fit(&all, &PRIORS);
    let node = |at: usize| effects.nodes[at].0;
    assert!((node(1) - node(0) - 2f64.ln()).abs() < 0.05, "{effects:?}");
    assert!((node(2) - node(0)).abs() < 1e-6);
    let segment = |at: usize| effects.segments[at];
    assert!((segment(0) - segment(1) - 1.75f64.ln()).abs() < 0.05);
}

#[test]
fn one_segment_on_one_node_is_blamed_on_nobody_alone_and_more_make_surer() {
    let one = fit(&[seen(0, 0, 1.5)], &PRIORS);
    let shares = [one.common, one.nodes[0].0, one.segments[0]];
    let all: f64 = shares.iter().sum();
    assert!(all < 1.5f64.ln() && all > 0.9 * 1.5f64.ln());
    // In the ratio of what was expected of each.
    for (share, prior) in shares
        .iter()
        .zip([PRIORS.common, PRIORS.node, PRIORS.segment])
    {
        assert!((share / shares[0] - prior / PRIORS.common).abs() < 1e-6);
    }
    let many: Vec<Seen> = (0..9).map(|segment| seen(0, segment, 1.5)).collect();
    let many = fit(&many, &PRIORS);
    assert!(many.nodes[0].1 < one.nodes[0].1 && one.nodes[0].1 < PRIORS.node);
    // What is common to all nodes that were seen is not one node's.
    assert!(many.common > many.nodes[0].0);
}

#[test]
fn an_odd_run_does_not_make_a_node_slow_and_nothing_seen_is_no_effect() {
    let mut all: Vec<Seen> = (0..2)
        .flat_map(|node| (0..10).map(move |segment| seen(node, segment, 1.0)))
        .collect();
    // Interrupted: thirty times as long. One outright absurd.
    all[3].log = 30f64.ln();
    all[4].log = f64::INFINITY;
    let effects = fit(&all, &PRIORS);
    assert!(
        effects.nodes[0].0 - effects.nodes[1].0 < 0.15,
        "{effects:?}"
    );
    assert_eq!(fit(&[], &PRIORS), Effects::default());
}
