//! Topics and patterns as the load and the checker understand them. The service has separate code
//! for this, and a defect in it must not hide itself.

use std::sync::Arc;

/// Topic of events that are published without one, and pattern of a plain token.
pub const DEFAULT: &str = "default";

/// Patterns of a grant or of a stream.
pub type Patterns = Arc<[String]>;

/// Whether a pattern matches a topic: segment by segment, up to a `*`.
#[must_use]
pub fn matches(pattern: &str, topic: &str) -> bool {
    if pattern == "*" {
        return !topic.starts_with('$');
    }
    let (mut wanted, mut found) = (pattern.split('/'), topic.split('/'));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) | (Some("*"), Some(_)) => return true,
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}
