//! The one binary, `splitplace`.
//!
//! Each command has a module of its own with its arguments and a `run`. Only this crate binds
//! sockets, reads the environment and installs signal handlers.

mod certificates;
mod client;
mod codes;
mod command;
mod dataset;
mod demo;
mod doctor;
#[cfg(test)]
mod documented;
mod download;
mod fleet;
mod foresight;
mod load;
mod operator;
mod output;
mod settings;
mod shipped;
mod standby;
mod svg;
mod telemetry;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

/// Serves neural networks that are too big, too slow or too far away for one edge node.
#[derive(Debug, Parser)]
#[command(
    name = "splitplace",
    version,
    propagate_version = true,
    max_term_width = 100
)]
struct Cli {
    /// What is logged, as `info` or `splitplace_worker=debug,warn`; goes to standard error.
    #[arg(
        long,
        global = true,
        env = "SPLITPLACE_LOG",
        default_value = "warn",
        value_name = "FILTER"
    )]
    log: String,
    /// How a line of the log looks.
    #[arg(
        long,
        global = true,
        env = "SPLITPLACE_LOG_FORMAT",
        default_value = "human",
        value_name = "FORMAT"
    )]
    log_format: output::LogFormat,
    /// Send traces to an OTLP collector that takes gRPC, as http://127.0.0.1:4317.
    #[arg(
        long,
        global = true,
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        value_name = "URL"
    )]
    otlp: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The whole story on one machine: a fleet, real pictures, a node that dies, a table.
    Demo(command::demo::Demo),
    /// Start an orchestrator and its workers on this machine.
    Up(Box<command::up::Up>),
    /// Start the orchestrator alone; workers join from other machines.
    Orchestrator(Box<command::orchestrator::Orchestrator>),
    /// Start one worker.
    Worker(Box<command::worker::Worker>),
    /// Show nodes, models and where everything runs.
    Status(command::status::Status),
    /// What runs and why, what changed, and what an operator wants of it.
    #[command(subcommand)]
    Plan(command::plan::PlanCommand),
    /// Watch fleet, models and decisions, once a second.
    Top(command::top::Top),
    /// Send one request and show the answer.
    Infer(command::infer::Infer),
    /// Tell the truth about an answered request, for the policy to learn from.
    Feedback(command::feedback::Feedback),
    /// Look into, cut and check ONNX models.
    #[command(subcommand)]
    Model(command::model::ModelCommand),
    /// Put load on any server of the Open Inference Protocol, and measure.
    Load(Box<command::load::Load>),
    /// Simulate fleets, compare policies, hold the simulator against data.
    #[command(subcommand)]
    Twin(command::twin::TwinCommand),
    /// Compare methods side by side: cuts, their costs, placement, exit controllers, who decides and who judges.
    #[command(subcommand)]
    Lab(command::lab::LabCommand),
    /// Print parts of the documentation that are made from the program.
    #[command(subcommand, hide = true)]
    Reference(command::reference::Reference),
    /// Say whether a machine or a cluster is fit, and what to mend.
    Doctor(command::doctor::Doctor),
    /// Whether something works, as an exit status.
    Health(command::health::Health),
    /// Make certificates for a fleet.
    #[command(subcommand)]
    Certs(command::certs::Certs),
    /// Write the packages that travel in this binary.
    Packages(command::packages::Packages),
    /// Bring a package into a folder of models.
    Fetch(command::fetch::Fetch),
    /// Serve a cluster's custom resources.
    Operator(Box<command::operator::Operator>),
    /// Run a command only while a cluster's Lease is held.
    Elect(command::elect::Elect),
    /// Print the custom resources' definitions.
    Crds(command::crds::Crds),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    output::end_with_the_reader();
    let cli = Cli::parse();
    let result = run(cli);
    result.unwrap_or_else(|error| output::fail(&error))
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let inside = runtime.enter();
    let endpoint = telemetry::endpoint(cli.otlp.clone());
    let spans = output::start_logging(&cli.log, cli.log_format, endpoint.as_deref())?;
    let result = command(cli, &runtime);
    if let Some(spans) = spans {
        runtime.block_on(spans.flush());
    }
    drop(inside);
    // Nothing that is still being computed is waited for.
    runtime.shutdown_background();
    result
}

/// Does what was asked, on the async runtime where it has to wait.
fn command(cli: Cli, runtime: &tokio::runtime::Runtime) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Demo(args) => runtime.block_on(command::demo::run(args)),
        Command::Up(args) => runtime.block_on(command::up::run(*args, cli.otlp)),
        Command::Orchestrator(args) => {
            runtime.block_on(command::orchestrator::run(*args, cli.otlp))
        }
        Command::Worker(args) => runtime.block_on(command::worker::run(*args)),
        Command::Status(args) => runtime.block_on(command::status::run(args)),
        Command::Plan(command) => runtime.block_on(command::plan::run(command)),
        Command::Model(command) => runtime.block_on(command::model::run(command)),
        Command::Top(args) => runtime.block_on(command::top::run(args)),
        Command::Feedback(args) => runtime.block_on(command::feedback::run(args)),
        Command::Load(args) => runtime.block_on(command::load::run(*args)),
        Command::Infer(args) => runtime.block_on(command::infer::run(args)),
        Command::Twin(command::twin::TwinCommand::WhatIf(args)) => {
            runtime.block_on(command::twin::what_if(*args))
        }
        Command::Twin(command) if command::twin::is_live(&command) => {
            runtime.block_on(command::twin::run_live(command))
        }
        Command::Twin(command) => command::twin::run(command),
        Command::Lab(command) => runtime.block_on(command::lab::run(command)),
        Command::Reference(what) => command::reference::run(what),
        Command::Doctor(args) => runtime.block_on(command::doctor::run(args)),
        Command::Health(args) => runtime.block_on(command::health::run(args)),
        Command::Certs(command) => runtime.block_on(command::certs::run(command)),
        Command::Packages(args) => command::packages::run(&args),
        Command::Fetch(args) => runtime.block_on(command::fetch::run(args)),
        Command::Operator(args) => runtime.block_on(command::operator::run(*args)),
        Command::Elect(args) => runtime.block_on(command::elect::run(args)),
        Command::Crds(args) => command::crds::run(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "splitplace", &mut script);
            print!("{}", String::from_utf8_lossy(&script));
            Ok(ExitCode::SUCCESS)
        }
    }
}
