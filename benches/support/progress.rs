//! Progress of a benchmark, for the person who waits.

use std::io::{Write as _, stdout};

/// Prints a line.
pub(crate) fn say(what: &str) {
    // Nobody may be listening; that is no reason to stop.
    let _ = writeln!(stdout(), "  {what} ...");
}
