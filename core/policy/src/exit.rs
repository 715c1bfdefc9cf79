//! Early exits: after each of them, answer or go on, by confidence, backlog and load.
//!
//! A network with exits at a station with few places turns accuracy into a knob for loss and delay. What is known
//! of the network is an [`ExitTable`]; a [`Station`] says how requests arrive, how many places there are and what
//! share may be lost; an [`ExitPolicy`] is made from both and asked after each exit.
//!
//! Reading order: [`table`], [`records`], [`contract`], then the controllers, the simple ones first:
//! [`fixed`], [`single`] (knapsack, queueing LP), [`data_driven`], [`ada_ee`], [`nested`], [`backlog`],
//! [`joint`]; what of them is sent to nodes, [`rule`], and how these decide by it, [`on_node`]; of a chain of stations [`mod@line`], [`priced`], and what it is measured against, [`apart`]; what keeps
//! them true: [`observe`], [`bursts`], [`audit`], and who puts it together for a line that serves, [`mod@task`], [`govern`] and [`along`]; what they achieve: [`evaluate`] and [`seen`] (exact),
//! [`simulate`]; and [`synthetic`], a network to try them on.
//!
//! Conventions: K counts the request in service; "present" at a decision includes the request that is decided
//! about; exits count from 0 and the network's end is the last; times are seconds.

pub mod ada_ee;
pub mod along;
pub mod apart;
pub mod audit;
pub mod backlog;
pub mod bursts;
pub mod chain;
pub mod contract;
pub mod data_driven;
pub mod draw;
pub mod evaluate;
pub mod fitted_line;
pub mod fixed;
pub mod gaussian;
pub mod govern;
pub mod joint;
pub mod line;
pub mod nested;
pub mod observe;
pub mod on_node;
mod polish;
pub mod priced;
mod process;
pub mod program;
pub mod records;
pub mod rule;
pub mod seen;
pub mod simulate;
pub mod single;
pub mod stop_table;
pub mod synthetic;
pub mod table;
pub mod task;

pub use ada_ee::{AdaEe, AdaEeSettings};
pub use contract::{
    At, ExitChoice, ExitError, ExitOutcome, ExitPolicy, ExitReason, Intent, Intents, MAX_PLACES,
    Station,
};
pub use evaluate::{Evaluation, on_table};
pub use fixed::{FixedExit, Thresholds};
pub use joint::Joint;
pub use line::Line;
pub use nested::{Nested, NestedSettings};
pub use on_node::OnNode;
pub use priced::Priced;
pub use records::Records;
pub use rule::{Rule, RuleExit};
pub use seen::{on_records, trace_on_records};
pub use single::Planned;
pub use stop_table::StopTable;
pub use table::{ExitBins, ExitTable, MAX_BINS, MAX_EXITS, TableError};

/// Names of the exit controllers, the simplest first.
pub const NAMES: [&str; 9] = [
    "last-exit",
    "threshold",
    "knapsack",
    "queueing-lp",
    "data-driven",
    "ada-ee",
    "nested",
    "backlog-lp",
    "joint",
];

/// Whether a request may answer at an exit when it was asked to be at least so accurate: its calibrated accuracy
/// reaches the floor, or nothing lies behind. An upper bound on haste, whatever the controller says.
#[must_use]
pub fn may_stop(table: &ExitTable, exit: usize, confidence: f64, floor: f64) -> bool {
    exit >= table.last() || table.calibrated(exit, confidence) >= floor
}

/// A whole number as a real one; exact below 2⁵³.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub(crate) const fn real(count: usize) -> f64 {
    count as f64
}
