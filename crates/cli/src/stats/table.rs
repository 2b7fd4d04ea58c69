//! A picture as text: the sums, then a row for each instance.

use std::time::Duration;

use super::picture::{Own, Picture, Row};
use crate::cache_stats::Figures;
use crate::escape::visible;

/// Age from which an instance's own figures are shown with their age.
const FRESH: Duration = Duration::from_secs(10);
/// Age below which figures count as current.
const NOW: Duration = Duration::from_millis(1500);
const HEADINGS: [&str; 8] = ["INSTANCE", "BACKEND", "BREAKER", "TOKENS", "", "STREAMS", "", "SEEN"];
/// Alignment: numbers right, texts left.
const NUMBERS: [usize; 4] = [3, 4, 5, 6];
/// Columns that highlight changes.
const CHANGES: [usize; 2] = [4, 6];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) tone: Tone,
}

/// Severity of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Heading,
    Warning,
    Alarm,
    Faint,
}

impl Line {
    /// Escapes control characters, because names and reasons come from a server.
    pub(super) fn new(tone: Tone, text: &str) -> Self {
        Self { text: visible(text.trim_end()).into_owned(), tone }
    }

    /// The text with colour sequences (ECMA-48 §8.3.117).
    pub(super) fn coloured(&self) -> String {
        let style = match self.tone {
            Tone::Plain => return self.text.clone(),
            Tone::Heading => "1",
            Tone::Warning => "33",
            Tone::Alarm => "1;31",
            Tone::Faint => "2",
        };
        format!("\u{1b}[{style}m{}\u{1b}[0m", self.text)
    }
}

/// The lines of a picture, with changes since an earlier one if that is given.
pub(super) fn lines(picture: &Picture, before: Option<&Picture>) -> Vec<Line> {
    let mut lines = vec![Line::new(Tone::Plain, &whole(picture, before))];
    lines.extend(degraded(picture).iter().map(|text| Line::new(Tone::Warning, text)));
    let mut table = vec![(Tone::Heading, HEADINGS.map(str::to_owned))];
    table.extend(picture.instances.iter().map(|row| (tone(row), cells(row, before))));
    let width =
        |column: usize| table.iter().map(|(_, cells)| cells[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; HEADINGS.len()] = std::array::from_fn(width);
    lines.extend(table.iter().map(|(tone, cells)| {
        let shown = |column: &usize| before.is_some() || !CHANGES.contains(column);
        let padded = (0..cells.len()).filter(shown).map(|column| {
            let (cell, width) = (&cells[column], widths[column]);
            if NUMBERS.contains(&column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        Line::new(*tone, &padded.collect::<Vec<_>>().join("  "))
    }));
    lines
}

/// The sums over all instances.
fn whole(picture: &Picture, before: Option<&Picture>) -> String {
    let counted = |what: &str, count: fn(&Picture) -> u64| {
        let change = before.map(|before| format!(" ({})", change(count(picture), count(before))));
        format!("{what} {}{}", count(picture), change.unwrap_or_default())
    };
    let backends = picture.backends.join(", ");
    let mut parts = vec![
        format!("backend {}", if backends.is_empty() { "?" } else { &backends }),
        counted("tokens", |picture| picture.cache_size),
        counted("streams", |picture| picture.streams),
    ];
    parts.extend(picture.redis_memory_bytes.map(|memory| format!("Redis {}", bytes(memory))));
    parts.extend(picture.redis_ops_per_sec.map(|rate| format!("{rate} commands/s")));
    parts.join("   ")
}

/// Instances without their Redis, since when, and entries that wait for it.
fn degraded(picture: &Picture) -> Vec<String> {
    let cut_off = || picture.instances.iter().filter_map(|row| Some((row, row.cut_off()?)));
    let names: Vec<_> = cut_off().map(|(row, _)| row.instance_id.as_str()).collect();
    let waiting: u64 = cut_off().map(|(_, own)| own.standing.fallback_entries).sum();
    let Some(since) = &picture.degraded_since else { return Vec::new() };
    let instances = if names.len() == 1 { "instance" } else { "instances" };
    vec![
        format!("degraded since {since}: {instances} {}", names.join(", ")),
        format!("records that wait for Redis: {waiting}"),
    ]
}

fn tone(row: &Row) -> Tone {
    match row {
        row if row.is_gone => Tone::Alarm,
        row if row.cut_off().is_some() => Tone::Warning,
        _ => Tone::Plain,
    }
}

fn cells(row: &Row, before: Option<&Picture>) -> [String; HEADINGS.len()] {
    let before = before.and_then(|before| before.row(&row.instance_id)).filter(|before| !before.is_gone);
    let changed =
        |count: fn(&Row) -> u64| before.map_or_else(String::new, |before| change(count(row), count(before)));
    let (backend, breaker) = match &row.own {
        // Its last figures are outdated.
        _ if row.is_gone => ("-".to_owned(), "-".to_owned()),
        // Only the instance itself reports it.
        None => ("?".to_owned(), "?".to_owned()),
        Some(own) => (own.backend.clone(), own.standing.breaker.clone().unwrap_or_else(|| "-".to_owned())),
    };
    let counts = if row.is_gone {
        ["-", "", "-", ""].map(str::to_owned)
    } else {
        let Figures { active, streams } = row.figures;
        let [active_changed, streams_changed] =
            [|row: &Row| row.figures.active, |row: &Row| row.figures.streams].map(changed);
        [active.to_string(), active_changed, streams.to_string(), streams_changed]
    };
    let [tokens, tokens_changed, streams, streams_changed] = counts;
    [row.instance_id.clone(), backend, breaker, tokens, tokens_changed, streams, streams_changed, seen(row)]
}

fn seen(row: &Row) -> String {
    let seconds = |age: Duration| age.as_secs_f64().round();
    if row.is_gone {
        return format!("gone, not seen for {} s", seconds(row.seen));
    }
    let seen = if row.seen < NOW { "now".to_owned() } else { format!("{} s ago", seconds(row.seen)) };
    match &row.own {
        Some(Own { said, .. }) if *said > FRESH => format!("{seen}, itself {} s ago", seconds(*said)),
        _ => seen,
    }
}

fn change(now: u64, before: u64) -> String {
    if now < before { format!("-{}", before - now) } else { format!("+{}", now - before) }
}

fn bytes(count: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    units.into_iter().find(|(power, _)| count >> power > 0).map_or_else(
        || format!("{count} B"),
        |(power, name)| {
            let rest = count - (count >> power << power);
            format!("{}.{} {name}", count >> power, (rest * 10) >> power)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache_stats::Standing;

    fn row(id: &str, backend: &str, streams: u64) -> Row {
        let is_cut_off = backend == "fallback-memory";
        let standing = Standing {
            breaker: Some(if is_cut_off { "open" } else { "closed" }.to_owned()),
            fallback_entries: if is_cut_off { 5 } else { 0 },
            degraded_since: is_cut_off.then(|| "2026-01-03T20:00:00.000Z".to_owned()),
        };
        Row {
            instance_id: id.to_owned(),
            seen: Duration::ZERO,
            figures: Figures { active: 10, streams },
            own: Some(Own { said: Duration::ZERO, backend: backend.to_owned(), standing }),
            is_gone: false,
        }
    }

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn a_picture_is_a_line_for_the_whole_and_a_row_for_each_instance() {
        let silent = Row { own: None, seen: Duration::from_millis(2600), ..row("10", "", 2) };
        let picture = Picture::new(vec![silent, row("1", "redis", 17)], None);
        assert_eq!(
            texts(&lines(&picture, None)),
            [
                "backend redis   tokens 20   streams 19",
                "INSTANCE  BACKEND  BREAKER  TOKENS  STREAMS  SEEN",
                "1         redis    closed       10       17  now",
                "10        ?        ?            10        2  3 s ago",
            ]
        );
    }

    #[test]
    fn who_is_cut_off_from_redis_and_what_waits_for_it_are_lines_of_their_own_to_be_looked_at() {
        let two = vec![row("1", "redis", 1), row("2", "fallback-memory", 2)];
        let shown = lines(&Picture::new(two.clone(), None), None);
        assert_eq!(
            texts(&shown)[1..3],
            ["degraded since 2026-01-03T20:00:00.000Z: instance 2", "records that wait for Redis: 5"]
        );
        let tones: Vec<_> = shown.iter().map(|line| line.tone).collect();
        let expected = [Tone::Plain, Tone::Warning, Tone::Warning, Tone::Heading, Tone::Plain, Tone::Warning];
        assert_eq!(tones, expected);
        assert_eq!(
            shown[1].coloured(),
            "\u{1b}[33mdegraded since 2026-01-03T20:00:00.000Z: instance 2\u{1b}[0m"
        );
        assert_eq!(shown[4].coloured(), shown[4].text);
        let three = Picture::new([two, vec![row("3", "fallback-memory", 0)]].concat(), None);
        assert!(texts(&lines(&three, None))[1].ends_with("Z: instances 2, 3"), "{three:?}");
    }

    #[test]
    fn an_instance_that_is_gone_says_so_and_nothing_that_was_so_before_and_is_to_be_looked_at_first() {
        let gone = Row { is_gone: true, seen: Duration::from_secs(12), ..row("2", "redis", 7) };
        let picture = Picture::new(vec![row("1", "redis", 1), gone], None);
        let row = lines(&picture, None).pop().unwrap();
        let words: Vec<_> = row.text.split_whitespace().collect();
        assert_eq!(words, ["2", "-", "-", "-", "-", "gone,", "not", "seen", "for", "12", "s"]);
        assert_eq!(row.coloured(), format!("\u{1b}[1;31m{}\u{1b}[0m", row.text));
    }

    #[test]
    fn a_change_is_shown_beside_the_value_and_a_new_instance_has_none() {
        let before = Picture::new(vec![row("1", "redis", 17), row("2", "redis", 1)], None);
        let gone = Row { is_gone: true, seen: Duration::from_secs(12), ..row("2", "redis", 1) };
        let old = Own { said: Duration::from_secs(14), ..row("1", "redis", 0).own.unwrap() };
        let one = Row { own: Some(old), ..row("1", "redis", 9) };
        let picture = Picture::new(vec![one, gone, row("3", "redis", 200)], None);
        assert_eq!(
            texts(&lines(&picture, Some(&before))),
            [
                "backend redis   tokens 20 (+0)   streams 209 (+191)",
                "INSTANCE  BACKEND  BREAKER  TOKENS      STREAMS      SEEN",
                "1         redis    closed       10  +0        9  -8  now, itself 14 s ago",
                "2         -        -             -            -      gone, not seen for 12 s",
                "3         redis    closed       10          200      now",
            ]
        );
    }

    #[test]
    fn no_name_can_make_a_terminal_do_anything() {
        let picture = Picture::new(vec![row("\u{1b}[2J\n", "\u{9b}31m", 0)], None);
        let shown = texts(&lines(&picture, None)).concat();
        assert!(!shown.contains(char::is_control), "{shown:?}");
    }

    #[test]
    fn memory_is_written_in_the_largest_unit_that_leaves_a_whole_one() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1023.9 KiB"),
            (1_048_576, "1.0 MiB"),
            (5 << 29, "2.5 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
