//! Classification of the client library's errors as [`Fault`]s.

use std::error::Error;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::error::Fault;

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        // The server's text names users, commands and keys, never a password.
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

/// Classifies errors for which the library has no kind, by the code that begins Redis' text, or by
/// finding the code in a text that the library has wrapped.
fn of_text(code: Option<&str>, text: String) -> Fault {
    let is = |known: &str| code == Some(known) || text.contains(known);
    if is("OOM") {
        Fault::OutOfMemory
    } else if is("NOAUTH") || is("WRONGPASS") || text.contains("Authentication required") {
        Fault::Authentication(text)
    } else if text.contains("The user executing the script can't") {
        // A script without a right gets no separate code.
        Fault::Permission(text)
    } else if is("MISCONF") || is("NOREPLICAS") || is("NOGOODSLAVE") {
        Fault::NotWriting(text)
    } else if text.contains("Mismatch in the number of multi-slot results") {
        // The cluster client's text for a lost node.
        Fault::ClusterDown(text)
    } else if text.contains("DB index") {
        Fault::Database(text)
    } else {
        Fault::Unexpected(text)
    }
}

fn of_io(error: &RedisError) -> Fault {
    let text = error.to_string();
    // The library keeps the cause in an `Arc`, which is an error itself.
    let cause = error.source().and_then(|source| source.downcast_ref::<Arc<dyn Error + Send + Sync>>());
    let cause = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
    match cause.map(io::Error::kind) {
        Some(
            io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable,
        ) => Fault::Refused(text),
        Some(io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => Fault::Timeout,
        // rustls reports certificate errors as invalid data.
        Some(io::ErrorKind::InvalidData) => Fault::Untrusted(text),
        // Errors of the library itself have no cause.
        _ if text.contains("timed out") => Fault::Timeout,
        // Errors of the resolver have no separate kind.
        _ if text.contains("lookup address") || text.contains("Name or service") => Fault::Unresolved(text),
        _ => Fault::Disconnected(text),
    }
}
