//! Variables that a client does not read although somebody set them for one: a slip would lead an event elsewhere.

use std::collections::HashMap;

use vx11_operator::config::Config;

/// The variables of a client.
const VARIABLES: [&str; 4] =
    ["VX11_OPERATOR_URL", "VX11_OPERATOR_CA", "VX11_PRINCIPAL_TOKEN", "VX11_PRINCIPAL_TOKEN_FILE"];
/// The others of our prefixes are the service's alone.
const PREFIX: &str = "VX11_";
/// Most characters that a slip gets wrong.
const SLIP: usize = 3;

/// Refuses unknown variables. Those of the service are known: environment files are often shared.
pub(super) fn check(environment: &HashMap<String, String>) -> Result<(), String> {
    let unknown = Config::unknown_variables(environment).into_iter().filter(|name| name.starts_with(PREFIX));
    let complaints: Vec<_> = unknown.map(complaint).collect();
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("\n  ")) }
}

fn complaint(name: &str) -> String {
    let by_distance = VARIABLES.map(|known| (distance(name, known), known));
    match by_distance.into_iter().min() {
        Some((wrong, known)) if wrong <= SLIP => format!("{name}: unknown variable; did you mean {known}?"),
        _ => format!("{name}: unknown variable; a client reads {}", VARIABLES.join(", ")),
    }
}

/// How many characters are to be inserted, removed or replaced to make one text of another (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<_> = (0..=other.chars().count()).collect();
    for (above, a) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], above + 1);
        for (left, b) in other.chars().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[left + 1];
            row[left + 1] = replaced.min(row[left] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_characters_that_are_inserted_removed_or_replaced() {
        for (one, other, expected) in
            [("", "", 0), ("", "abc", 3), ("URI", "URL", 1), ("kitten", "sitting", 3), ("LRU", "URL", 2)]
        {
            assert_eq!((distance(one, other), distance(other, one)), (expected, expected), "{one} {other}");
        }
    }
}
