//! Messages on standard error, and the exit codes that go with them.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::escape::visible;
use crate::failure::Failure;

/// Exit code of a wrong argument, variable or credential.
const BAD_CONFIGURATION: u8 = 2;

/// Prints one line for the person at the terminal. Control characters in a server's text are
/// escaped.
pub(super) fn notice(words: fmt::Arguments<'_>) {
    print(&visible(&words.to_string()));
}

/// A number with its noun, in the plural unless it is 1.
pub(super) fn counted(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// The command cannot begin. The complaint may have several lines.
pub(super) fn misconfigured(complaint: &str) -> ExitCode {
    print(complaint);
    ExitCode::from(BAD_CONFIGURATION)
}

/// The service at this URL refuses the principal.
pub(super) fn refused_principal(url: &str, failure: &Failure) -> ExitCode {
    if failure.is_not_permitted() {
        notice(format_args!("{url} does not permit this: {failure}"));
    } else {
        notice(format_args!(
            "{url} knows no principal by this credential ({failure}); set VX11_PRINCIPAL_TOKEN or \
             VX11_PRINCIPAL_TOKEN_FILE to that of one"
        ));
    }
    ExitCode::from(BAD_CONFIGURATION)
}

/// The service at this URL did not fulfil the request.
pub(super) fn unanswered(what: &str, url: &str, failure: &Failure) -> ExitCode {
    notice(format_args!("{what} from {url}: {failure}{}", failure.advice()));
    ExitCode::FAILURE
}

/// Standard output is closed, which is no error, or cannot be written.
pub(super) fn unwritable(error: &io::Error) -> ExitCode {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return ExitCode::SUCCESS;
    }
    notice(format_args!("standard output cannot be written: {error}"));
    ExitCode::FAILURE
}

fn print(text: &str) {
    let _ = writeln!(io::stderr(), "vx11-operator: {text}");
}
