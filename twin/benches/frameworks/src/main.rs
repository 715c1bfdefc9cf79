//! The twin's own network against candle and burn: the same chains of recurrent steps (a gated unit with the same
//! weights over the same inputs), forwards and back to every weight. Who is quicker at the sizes of ChainNet, do all
//! agree, and what does each cost to build?
//!
//! ```text
//! cargo run --release --manifest-path twin/benches/frameworks/Cargo.toml
//! cargo tree --manifest-path twin/benches/frameworks/Cargo.toml --no-default-features --features candle
//! ```
//!
//! All run in turn within every repetition, so that a machine that slows down slows all of them; what is told is the
//! median, and the median of the ratios within a repetition. Each on one thread (`RAYON_NUM_THREADS=1` for the
//! frameworks). Expected before it was measured: a step is six operations on some thousand numbers, microseconds of
//! arithmetic; a framework adds for each an allocation, a node and a dispatch, so it loses by several times on small
//! graphs and by little where the products are large.

mod ours;
#[cfg(feature = "burn")]
mod with_burn;
#[cfg(feature = "candle")]
mod with_candle;

use std::time::Instant;

/// Columns of a state; inputs have twice as many.
pub const HIDDEN: usize = 32;

/// How many chains lie side by side, and how many steps they have.
#[derive(Clone, Copy)]
pub struct Size {
    pub rows: usize,
    pub steps: usize,
}

/// Weights and inputs that all are given: `w` and `u` with the gates r, z, n side by side in their columns.
pub struct Given {
    pub size: Size,
    pub w: Vec<f32>,
    pub b: Vec<f32>,
    pub u: Vec<f32>,
    pub c: Vec<f32>,
    /// Step by step.
    pub x: Vec<f32>,
}

/// The last states, and the gradients of their sum by `w` and `u`, laid out as they were given.
pub struct Found {
    pub state: Vec<f32>,
    pub w: Vec<f32>,
    pub u: Vec<f32>,
}

/// Someone who can run the chains.
pub trait Contestant {
    fn name(&self) -> &'static str;
    fn run(&self) -> Found;
}

/// Numbers between -0.3 and 0.3, always the same.
fn drawn(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        // Numerical Recipes' congruential generator: inputs for timing need no better.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 * 0.6 - 0.3
    };
    (0..count).map(|_| next()).collect()
}

fn given(size: Size) -> Given {
    Given {
        size,
        w: drawn(2 * HIDDEN * 3 * HIDDEN, 1),
        b: drawn(3 * HIDDEN, 2),
        u: drawn(HIDDEN * 3 * HIDDEN, 3),
        c: drawn(3 * HIDDEN, 4),
        x: drawn(size.steps * size.rows * 2 * HIDDEN, 5),
    }
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// The largest difference, over the largest number.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "the same shapes");
    let most = |all: &mut dyn Iterator<Item = f32>| all.fold(0.0, f32::max);
    let difference = most(&mut a.iter().zip(b).map(|(a, b)| (a - b).abs()));
    difference / most(&mut a.iter().map(|a| a.abs()))
}

fn main() {
    let runs = std::env::args().nth(1).and_then(|runs| runs.parse().ok());
    let runs = runs.unwrap_or(201);
    // A system with two chains as a search judges it; 32 systems as a training step takes them; many.
    for (rows, steps) in [(2, 12), (64, 12), (512, 12)] {
        let given = given(Size { rows, steps });
        let contestants: Vec<Box<dyn Contestant>> = vec![
            Box::new(ours::Ours::new(&given)),
            #[cfg(feature = "candle")]
            Box::new(with_candle::Candle::new(&given)),
            #[cfg(feature = "burn")]
            Box::new(with_burn::Burn::new(&given)),
        ];
        let first = contestants[0].run();
        let mut times = vec![Vec::new(); contestants.len()];
        for _ in 0..runs {
            for (contestant, times) in contestants.iter().zip(&mut times) {
                let begin = Instant::now();
                std::hint::black_box(contestant.run());
                times.push(begin.elapsed().as_secs_f64());
            }
        }
        println!(
            "{rows} chains of {steps} steps, {HIDDEN} columns, forwards and back, {runs} times"
        );
        for (contestant, own) in contestants.iter().zip(&times) {
            let found = contestant.run();
            let ratios = own.iter().zip(&times[0]).map(|(own, ours)| own / ours);
            println!(
                "  {:24} {:9.1} µs, {:5.2} times ours; apart from ours by {:.0e} in states, {:.0e} and {:.0e} in gradients",
                contestant.name(),
                median(own.clone()) * 1e6,
                median(ratios.collect()),
                apart(&first.state, &found.state),
                apart(&first.w, &found.w),
                apart(&first.u, &found.u),
            );
        }
    }
}
