//! How commands speak: tables on standard output, everything else on standard error.
//!
//! Colours only where a person reads along: on a terminal, unless `NO_COLOR` is set.

use std::{io::IsTerminal as _, process::ExitCode};

use anyhow::Context as _;
use comfy_table::{Table, presets};

/// Exit status of a command that did its work and found the answer to be "no".
pub(crate) const NO: u8 = 1;
/// Exit status of a command that could not do its work.
pub(crate) const ERROR: u8 = 2;

/// Sends logs to standard error as `filter` says.
pub(crate) fn start_logging(filter: &str, json: bool) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .with_context(|| format!("--log {filter:?} is not a filter; try `info`"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(has_colours(std::io::stderr().is_terminal()));
    let started = if json {
        builder.json().try_init()
    } else {
        builder.try_init()
    };
    started.map_err(|error| anyhow::anyhow!("logging cannot start: {error}"))
}

/// Prints an error with its causes; the exit status that goes with it.
pub(crate) fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::from(ERROR)
}

/// Whether to colour what goes to a stream that is, or is not, a terminal.
pub(crate) fn has_colours(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A table with a header row, in the house's look.
pub(crate) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_header(header);
    table
}

/// Prints a value as JSON on standard output.
pub(crate) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    println!(
        "{}",
        serde_json::to_string_pretty(value).context("the result cannot be written as JSON")?
    );
    Ok(())
}
