//! Programs that somebody else wrote and a machine may lack: found by a variable, or a test says that it was skipped.

use std::{ffi::OsString, io::Write as _};

/// The program that a variable names; without it says `SKIPPED` with the test's name, where it can be seen.
#[must_use]
pub fn named(variable: &str, test: &str) -> Option<OsString> {
    let program = std::env::var_os(variable).filter(|path| !path.is_empty());
    if program.is_none() {
        // Past the capture of the test runner; nobody may be there to read it.
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {variable} is not set");
    }
    program
}
