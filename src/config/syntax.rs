//! Errors about a file that is no TOML: position, expected syntax, and the line if it cannot
//! contain a secret.

use super::keys::{Keys, LISTS_OF_TABLES};

/// Beginning of each line of a file that an error shows.
pub(super) const MARGIN: &str = "    ";
/// Longest line that is shown.
const LONGEST_LINE: usize = 100;

/// The error about `text`, which cannot be parsed.
pub(super) fn explain(file: &str, text: &str, error: &toml::de::Error, keys: &Keys) -> String {
    let problem = error.message();
    let Some(at) =
        error.span().map(|span| span.start.min(text.len())).filter(|at| text.is_char_boundary(*at))
    else {
        return format!("{file}: {problem}");
    };
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let (number, column) = (text[..start].matches('\n').count() + 1, text[start..at].chars().count());
    let line = text[start..].lines().next().unwrap_or_default();
    let place = format!("{file}, line {number}, column {}: {problem}", column + 1);
    match shown(&text[..start], line, keys) {
        Some(shown) => {
            let shown_line = format!("{place}\n{MARGIN}{number} | {shown}");
            // The position may be outside of the part of the line that is shown.
            if shown != line {
                return shown_line;
            }
            let (gutter, caret) = (" ".repeat(number.to_string().len()), " ".repeat(column));
            format!("{shown_line}\n{MARGIN}{gutter} | {caret}^")
        }
        None => place,
    }
}

/// The part of the line that cannot contain a secret: only the name of a key that may hold one.
/// `None` for an unknown key, and inside a text or list of several lines.
fn shown(before: &str, line: &str, keys: &Keys) -> Option<String> {
    if before.parse::<toml::Table>().is_err() || line.chars().any(char::is_control) {
        return None;
    }
    let is_list = |name: &str| LISTS_OF_TABLES.iter().any(|(list, _)| *list == name);
    let header = line.trim().trim_matches(['[', ']']);
    if line.starts_with('[') && (keys.is_section(header) || is_list(header)) {
        return Some(line.to_owned());
    }
    let (key, value) = line.split_once('=').unwrap_or((line, ""));
    let name = key.trim();
    if !keys.has_name(name) {
        return None;
    }
    let is_plain = |value: &str| {
        let quotes = value.matches(['"', '\'']).count();
        quotes <= 1 && !value.contains(['=', '#', '{', '@']) && !value.contains(char::is_whitespace)
    };
    if keys.may_be_secret(name) || !is_plain(value.trim()) || line.len() > LONGEST_LINE {
        return Some(format!("{key}= …"));
    }
    Some(line.to_owned())
}
