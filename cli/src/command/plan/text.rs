//! The plan for people: tables and sentences.

use splitplace_proto::center::{PlanDiffResponse, PlanResponse};

use crate::output::{bytes, micros, table};

pub(super) fn show(plan: &PlanResponse) {
    println!("plan {}, after plan {}", plan.generation, plan.parent);
    for model in &plan.models {
        println!();
        let taken = match &model.taken[..] {
            "" => String::new(),
            arm => format!(" · requests take {arm}"),
        };
        println!("{} version {}{taken}", model.model, model.version);
        let mut rows = table(["arm", "kind", "runs", "sends between", "expected", "pinned"]);
        for arm in &model.arms {
            rows.add_row([
                arm.arm.clone(),
                arm.kind.clone(),
                arm.way.clone(),
                some_bytes(arm.bytes_between),
                time(arm.predicted_us),
                arm.pinned.clone(),
            ]);
        }
        println!("{rows}");
    }
    beside(plan);
}

/// Bytes, or a dash for none.
pub(super) fn some_bytes(number: u64) -> String {
    match number {
        0 => "–".into(),
        number => bytes(number),
    }
}

/// What holds for all models.
fn beside(plan: &PlanResponse) {
    if !plan.drained.is_empty() {
        println!("\ndrained: {}", plan.drained.join(", "));
    }
    if !plan.assumed.is_empty() {
        println!("\nplanned as if: {}", plan.assumed.join("; "));
    }
    if plan.links.is_empty() {
        return;
    }
    println!("\nlinks that are not as they were known to be");
    let mut rows = table(["from", "to", "rate", "delay", "nine of ten: rate", "delay"]);
    for link in &plan.links {
        rows.add_row([
            place(&link.from),
            place(&link.to),
            rate(link.bytes_per_second),
            time(link.delay_us),
            rate(link.late_bytes_per_second),
            time(link.late_delay_us),
        ]);
    }
    println!("{rows}");
}

pub(super) fn explain(plan: &PlanResponse) {
    println!("plan {}: {}", plan.generation, plan.explanation);
    for model in &plan.models {
        println!();
        println!("{}", model.model);
        for arm in &model.arms {
            println!("  {} runs {}", arm.arm, arm.way);
            if !arm.pinned.is_empty() {
                println!("    an operator has pinned it: {}", arm.pinned);
            }
            let Some(why) = &arm.why else {
                println!("    a node of it is not there, so nothing can be said of it");
                continue;
            };
            let expected = time(why.expected_us);
            if why.runner_up.is_empty() {
                println!("    {expected} expected; there is no other way");
            } else if why.expected_us <= why.runner_up_us {
                println!(
                    "    {expected} expected; the runner-up, {}, loses by {}",
                    why.runner_up,
                    time(why.runner_up_us - why.expected_us)
                );
            } else {
                println!(
                    "    {expected} expected; {} would save {}, which is not worth moving for",
                    why.runner_up,
                    time(why.expected_us - why.runner_up_us)
                );
            }
            for switch in &why.switches {
                let side = if switch.at_bytes_per_second < switch.now_bytes_per_second {
                    "below"
                } else {
                    "above"
                };
                println!(
                    "    {} → {} at {side} {} (now {}): {}",
                    place(&switch.from),
                    place(&switch.to),
                    rate(switch.at_bytes_per_second),
                    rate(switch.now_bytes_per_second),
                    switch.becomes
                );
            }
        }
    }
    beside(plan);
    if !plan.events.is_empty() {
        println!("\nthe last plans");
    }
    for event in &plan.events {
        println!(
            "  {} plan {}: {}; planned in {}, loaded in {}, {} sent",
            when(event.unix_ms),
            event.generation,
            event.said,
            time(event.planned_us),
            time(event.loaded_us),
            bytes(event.sent_bytes)
        );
    }
}

pub(super) fn diff(found: &PlanDiffResponse) {
    println!(
        "plan {} after plan {}: {} fragments to load, {} to drop, {} stay where they are",
        found.after, found.before, found.loaded, found.dropped, found.kept
    );
    if found.changes.is_empty() {
        return;
    }
    let mut rows = table([
        "model",
        "arm",
        "before",
        "after",
        "expected before",
        "after",
    ]);
    let known = |us: u64| if us == 0 { "–".into() } else { time(us) };
    let way = |text: &str| {
        if text.is_empty() {
            "–".to_owned()
        } else {
            text.to_owned()
        }
    };
    for change in &found.changes {
        rows.add_row([
            change.model.clone(),
            change.arm.clone(),
            way(&change.before),
            way(&change.after),
            known(change.before_us),
            known(change.after_us),
        ]);
    }
    println!("{rows}");
}

fn place(name: &str) -> String {
    if name.is_empty() {
        "the centre".into()
    } else {
        name.into()
    }
}

/// A rate in megabits a second.
fn rate(bytes_per_second: f64) -> String {
    if bytes_per_second.is_finite() {
        format!("{:.1} Mbit/s", bytes_per_second * 8e-6)
    } else {
        "no limit".into()
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds of less than a century"
)]
fn time(us: u64) -> String {
    micros(us as f64)
}

/// An instant of today, in universal time.
fn when(unix_ms: u64) -> String {
    let instant = i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let told = |at: jiff::Timestamp| {
        let at = at.to_zoned(jiff::tz::TimeZone::UTC);
        at.strftime("%H:%M:%S").to_string()
    };
    instant.map_or_else(String::new, told)
}
