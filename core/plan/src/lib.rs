//! Where every fragment runs: the plan as a value, and the strategies that make one.
//!
//! A [`Plan`] is immutable, numbered by its [`Generation`] and names its parent. It leaves no choice
//! to whoever carries it out: every arm that may answer a request is there with its routes, every
//! route with its hops, every hop with its node and its fragment.
//!
//! Strategies do not see plans. They solve a small dense [`problem::Problem`] and answer with a
//! [`problem::Solution`]; the caller, who knows models and files, translates. [`lint`] checks the
//! translated plan by rules of its own, sharing nothing with the strategies.
//!
//! Reading order: [`value`], [`diff`](mod@diff), [`problem`], [`bounds`], [`station`] (what load means on a node),
//! [`beside`] (what other models do there), [`strategy`], [`joint`] (all arms judged together), [`standing`] (the same kept up to date while one arm moves),
//! [`rules`] (what every solution keeps), [`lint`].
//! Beside them stands [`partition`]: where to part one network, layer by layer; and
//! [`predict`]: how long segments take that were never run, with [`effects`]: what nodes take over it.

pub mod beside;
pub mod bounds;
pub mod diff;
pub mod effects;
pub mod joint;
pub mod lint;
pub mod partition;
pub mod predict;
pub mod problem;
pub mod rules;
pub mod standing;
pub mod station;
pub mod strategy;
pub mod value;

pub use beside::{Beside, Lying};
pub use bounds::Bounds;
pub use diff::{ArmChange, Diff, described, diff, in_words};
pub use problem::{
    ArmProblem, ChainProblem, Crossing, NodeSpec, Outcome, Placed, Problem, SegmentSpec, Solution,
    Stage, Way,
};
pub use strategy::{Annealing, BruteForce, Exact, Greedy, Integer, Random, Responses, Strategy};
pub use value::{
    ArmKind, ArmPlan, ExitRule, FragmentId, Generation, Hop, ModelName, ModelPlan, Plan, Route,
    RouteId,
};
