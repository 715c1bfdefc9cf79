//! The one binary, `splitplace`.
//!
//! Each command has a module of its own with its arguments and a `run`. Only this crate binds
//! sockets, reads the environment and installs signal handlers.

#[expect(dead_code, reason = "commands that print tables come next")]
mod output;

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
    /// Log as JSON, one object a line.
    #[arg(long, global = true, env = "SPLITPLACE_LOG_JSON")]
    log_json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = output::start_logging(&cli.log, cli.log_json) {
        return output::fail(&error);
    }
    let result = match cli.command {
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Cli::command(),
                "splitplace",
                &mut std::io::stdout(),
            );
            Ok(ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| output::fail(&error))
}
