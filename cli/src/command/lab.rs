//! `splitplace lab`: what methods achieve, measured side by side.

mod cells;
mod chainnet;
mod controllers;
mod costs;
mod exits;
mod line;
mod live;
mod placement;
mod resplit;
mod sources;
mod splitplace;
mod splits;

use std::process::ExitCode;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Compare exit controllers: accuracy, loss and delay by load, exact and simulated.
    Exits(Box<exits::Exits>),
    /// Compare placement strategies over drawn fleets and loads, by simulation.
    Placement(placement::Placement),
    /// How much less is lost when fragments are placed anew, by who judges the places.
    Chainnet(chainnet::Chainnet),
    /// Where each method parts networks between a device and a server, by uplink and by the device's speed.
    Splits(splits::Splits),
    /// What layers of each type cost, fitted on segments of networks, and how well that tells others.
    Costs(costs::LabCosts),
    /// An uplink falls and comes back under load: how soon the split follows, and what that costs.
    Resplit(Box<resplit::Resplit>),
    /// The SplitPlace paper's experiment redone: who decides how to split, times who places.
    Splitplace(Box<splitplace::Splitplace>),
}

pub(crate) async fn run(command: LabCommand) -> anyhow::Result<ExitCode> {
    match command {
        LabCommand::Exits(args) => exits::run(&args).await,
        LabCommand::Placement(args) => placement::run(&args),
        LabCommand::Chainnet(args) => chainnet::run(&args),
        LabCommand::Splits(args) => splits::run(&args),
        LabCommand::Costs(args) => costs::run(&args),
        LabCommand::Resplit(args) => resplit::run(&args).await,
        LabCommand::Splitplace(args) => splitplace::run(&args),
    }
}

/// A whole number as a real one; exact below 2⁵³.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
const fn real(count: usize) -> f64 {
    count as f64
}
