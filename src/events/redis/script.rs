//! Preparation of Lua scripts for sending.

/// The script without comments and indentation: Redis receives and hashes the text with each call.
pub(super) fn without_comments(text: &str) -> String {
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
