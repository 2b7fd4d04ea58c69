//! What a benchmark does at the moment, for whoever waits for it.

use std::io::{Write as _, stdout};

/// Says it, on a line of its own.
pub(crate) fn say(what: &str) {
    // Nobody may be listening; that is no reason to stop.
    let _ = writeln!(stdout(), "  {what} ...");
}
