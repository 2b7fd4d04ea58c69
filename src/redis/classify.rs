//! What the errors of the client library mean.

use std::error::Error;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::error::Fault;

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        // What a server says about a refusal names users, commands and keys, never a password.
        let detail = || error.detail().map_or_else(|| error.to_string(), ToOwned::to_owned);
        match error.kind() {
            ErrorKind::AuthenticationFailed => Self::Authentication(error.to_string()),
            ErrorKind::Server(kind) => match kind {
                ServerErrorKind::BusyLoading => Self::Loading,
                ServerErrorKind::ReadOnly => Self::ReadOnly,
                ServerErrorKind::NoPerm => Self::Permission(detail()),
                ServerErrorKind::MasterDown => Self::NotWriting(detail()),
                ServerErrorKind::ClusterDown
                | ServerErrorKind::TryAgain
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask => Self::ClusterDown(detail()),
                _ => of_text(error.code(), error.to_string()),
            },
            ErrorKind::ClusterConnectionNotFound => Self::ClusterDown(error.to_string()),
            ErrorKind::Io => of_io(&error),
            _ => of_text(error.code(), error.to_string()),
        }
    }
}

/// Errors that the library has no kind for are told apart by the code Redis begins them with, or,
/// where the library has wrapped it, by finding that code in the text.
fn of_text(code: Option<&str>, text: String) -> Fault {
    let is = |known: &str| code == Some(known) || text.contains(known);
    if is("OOM") {
        Fault::OutOfMemory
    } else if is("NOAUTH") || is("WRONGPASS") || text.contains("Authentication required") {
        Fault::Authentication(text)
    } else if text.contains("The user executing the script can't") {
        // What a script may not do has no code of its own.
        Fault::Permission(text)
    } else if is("MISCONF") || is("NOREPLICAS") || is("NOGOODSLAVE") {
        Fault::NotWriting(text)
    } else if text.contains("Mismatch in the number of multi-slot results") {
        // A cluster client's word for a node that is gone.
        Fault::ClusterDown(text)
    } else if text.contains("DB index") {
        Fault::Database(text)
    } else {
        Fault::Unexpected(text)
    }
}

fn of_io(error: &RedisError) -> Fault {
    let text = error.to_string();
    // The library keeps the cause in an `Arc`, which stands for it as an error of its own.
    let cause = error.source().and_then(|source| source.downcast_ref::<Arc<dyn Error + Send + Sync>>());
    let cause = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
    match cause.map(io::Error::kind) {
        Some(
            io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable,
        ) => Fault::Refused(text),
        Some(io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => Fault::Timeout,
        // rustls reports what it finds wrong with a certificate as invalid data.
        Some(io::ErrorKind::InvalidData) => Fault::Untrusted(text),
        // The library's own have no cause.
        _ if text.contains("timed out") => Fault::Timeout,
        // The resolver's errors have no kind of their own.
        _ if text.contains("lookup address") || text.contains("Name or service") => Fault::Unresolved(text),
        _ => Fault::Disconnected(text),
    }
}
