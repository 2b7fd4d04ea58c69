//! Times of Prometheus's, shortened: a test cannot wait for five minutes.

/// Half a second between two scrapes, ten seconds for five minutes.
const HURRY: u64 = 30;
/// Texts before a duration that is left unchanged, such as names like `rate5m`.
const BEFORE: [&str; 5] = ["[", "offset ", "for: ", "_interval: ", "_timeout: "];
/// Units of durations in ms.
const UNITS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

/// A configuration, rules or an expression with every time a thirtieth of what it is.
#[must_use]
pub fn hurried(text: &str) -> String {
    BEFORE.iter().fold(text.to_owned(), |text, before| {
        let mut pieces = text.split(before);
        let first = pieces.next().unwrap_or_default().to_owned();
        pieces
            .fold(first, |done, piece| done + before + &shortened(piece).unwrap_or_else(|| piece.to_owned()))
    })
}

/// A text that begins with a time, with a shorter one.
fn shortened(text: &str) -> Option<String> {
    let (digits, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let (unit, rest) = rest.split_at(rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len()));
    let (_, milliseconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let time = digits.parse::<u64>().ok()? * milliseconds;
    Some(format!("{}ms{rest}", time / HURRY))
}
