//! Lua scripts. Each gets its keys and one msgpack document with named arguments (`args`).

use std::sync::OnceLock;

use redis::Cmd;
use serde::Serialize;

/// A Lua script.
pub(crate) struct Script {
    parts: &'static [&'static str],
    text: OnceLock<String>,
}

impl Script {
    /// Creates a script from files that are put together.
    pub(crate) const fn new(parts: &'static [&'static str]) -> Self {
        Self { parts, text: OnceLock::new() }
    }

    /// Command that runs the script with these keys and arguments.
    pub(crate) fn call(&self, keys: &[&str], arguments: &impl Serialize) -> Cmd {
        // Arguments are structs of texts and numbers, which always have a document. Without one the
        // script would end with an error.
        let document = rmp_serde::to_vec_named(arguments).unwrap_or_default();
        let text = self.text.get_or_init(|| without_comments(&self.parts.concat()));
        let mut command = redis::cmd("EVAL");
        command.arg(text).arg(keys.len()).arg(keys).arg(document);
        command
    }
}

/// The script without comments and indentation: Redis receives and hashes the text with each call.
fn without_comments(text: &str) -> String {
    let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with("--"));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_sent_without_its_comments() {
        let text = "-- About it.\nlocal a = '--' -- kept, it is code\n\n  -- Why.\n  a = a .. a\nreturn a\n";
        assert_eq!(without_comments(text), "local a = '--' -- kept, it is code\na = a .. a\nreturn a");
    }
}
