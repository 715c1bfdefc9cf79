//! How cost grows with the fleet: `tests/scenarios/city.toml` with 20, 200 and 2 000 sites of five nodes
//! and 50 requests a second each; 2 000 are 10 000 nodes and 100 000 requests a second. The production
//! brain decides about every request. Expected: some 10 µs a request, growing with the logarithm of the
//! fleet; memory linear in the fleet. Processor time is what counts (planning the fleet once is in it), so
//! that a busy machine shows the same.
//!
//! `cargo bench -p splitplace-twin --bench scale [-- SECONDS]`: simulated seconds, 60 unless said.

use std::{fs, time::Instant};

use splitplace_twin::scenario::Scenario;

/// Seconds of processor time that this process took, in steps of a hundredth.
fn processor() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let words = stat.rsplit(')').next().unwrap_or("").split_whitespace();
    let ticks: f64 = words
        .skip(11)
        .take(2)
        .filter_map(|word| word.parse::<f64>().ok())
        .sum();
    ticks / 100.0
}

/// Kilobytes of a line of `/proc/self/status`.
fn memory(line: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = status.lines().find_map(|l| l.strip_prefix(line));
    let number = value.and_then(|v| v.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0.0)
}

fn main() {
    let seconds = std::env::args()
        .find_map(|word| word.parse::<u32>().ok())
        .unwrap_or(60);
    let text = include_str!("../../tests/scenarios/city.toml");
    println!(
        "sites  nodes  requests    plan s   wall s    cpu s  us/request  Mevents/s  peak MB  lost"
    );
    for copies in [20, 200, 2000] {
        let text = text
            .replace("copies = 2000", &format!("copies = {copies}"))
            .replace("duration-s = 60", &format!("duration-s = {seconds}"));
        let begin = Instant::now();
        let scenario = Scenario::parse("city", &text).expect("a shipped scenario");
        let first = splitplace_fleet::Snapshot {
            nodes: scenario
                .world
                .workers
                .iter()
                .map(|worker| (worker.node.id.clone(), worker.node.clone()))
                .collect(),
            links: scenario.world.links.clone(),
            at: splitplace_fleet::Timestamp::ZERO,
        };
        let planner: &dyn splitplace_twin::planner::Planner = &scenario.planner;
        let plan = planner.plan(
            &first,
            &splitplace_plan::Plan::default(),
            splitplace_plan::Generation(1),
        );
        let planned = begin.elapsed().as_secs_f64();
        drop(plan);
        let (begin, before) = (Instant::now(), processor());
        let report = scenario.replicate(0);
        let took = begin.elapsed().as_secs_f64();
        let busy = processor() - before;
        let total = report.total();
        let requests = report.counts.arrived as f64;
        println!(
            "{copies:5} {:6} {requests:9} {planned:9.2} {took:8.1} {busy:8.1} {:11.2} {:10.2} {:8.0} {:5.3} %",
            scenario.world.workers.len(),
            busy * 1e6 / requests,
            report.events as f64 / busy / 1e6,
            memory("VmHWM:") / 1e3,
            total.loss() * 100.0,
        );
    }
}
