//! The screen: pictures replace one another on the alternate screen of a terminal, and follow one
//! another in any other output.

use std::io;
use std::time::Duration;

use rustix::termios::tcgetwinsize;
use tokio::time::timeout;

use super::table::{Line, Tone};
use crate::stdout::Stdout;

/// Lines and columns of a terminal that does not report its size.
const USUAL: (usize, usize) = (24, 80);
/// The alternate screen, without a cursor (xterm's private modes 1049 and 25), and back.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";
/// Moves the cursor to the upper left corner; erases the rest of a line, and the lines below
/// (ECMA-48 §8.3.21, 41, 39).
const HOME: &str = "\u{1b}[H";
const ERASE_LINE: &str = "\u{1b}[K";
const ERASE_BELOW: &str = "\u{1b}[J";
/// Deadline of restoring a terminal that takes no output.
const PARTING: Duration = Duration::from_secs(1);

pub(super) struct Screen {
    stdout: Stdout,
    is_terminal: bool,
    is_coloured: bool,
    /// Whether a picture is shown.
    is_entered: bool,
}

impl Screen {
    pub(super) fn new(stdout: Stdout, is_terminal: bool, is_coloured: bool) -> Self {
        Self { stdout, is_terminal, is_coloured, is_entered: false }
    }

    /// Prints lines.
    pub(super) async fn print(&mut self, lines: &[Line]) -> io::Result<()> {
        let text = self.text(lines, "\n");
        self.stdout.write(&text).await
    }

    /// Replaces the lines that are shown.
    pub(super) async fn show(&mut self, lines: &[Line]) -> io::Result<()> {
        let begun = std::mem::replace(&mut self.is_entered, true);
        let picture = if self.is_terminal {
            let enter = if begun { "" } else { ENTER };
            let text = self.text(&fitted(lines, size()), &format!("{ERASE_LINE}\n"));
            format!("{enter}{HOME}{text}{ERASE_BELOW}")
        } else {
            format!("{}{}", if begun { "\n" } else { "" }, self.text(lines, "\n"))
        };
        self.stdout.write(&picture).await
    }

    /// Restores the terminal, after pending output.
    pub(super) async fn leave(mut self) {
        if self.is_terminal && self.is_entered {
            let _ = timeout(PARTING, self.stdout.write(LEAVE)).await;
        }
    }

    fn text(&self, lines: &[Line], end: &str) -> String {
        let texts =
            lines.iter().map(|line| if self.is_coloured { line.coloured() } else { line.text.clone() });
        texts.map(|text| text + end).collect()
    }
}

/// Queried each time, because windows change.
fn size() -> (usize, usize) {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row.into(), size.ws_col.into()),
        _ => USUAL,
    }
}

/// The lines cut to a window, with a note about the rest. The last line stays free for the cursor,
/// so that the window does not scroll.
fn fitted(lines: &[Line], (rows, columns): (usize, usize)) -> Vec<Line> {
    let room = rows.saturating_sub(1);
    let mut fitted = lines.to_vec();
    if lines.len() > room {
        let shown = room.saturating_sub(1);
        fitted.truncate(shown);
        fitted.push(Line::new(Tone::Faint, &format!("{} more in a taller window", lines.len() - shown)));
    }
    for line in &mut fitted {
        if line.text.chars().count() > columns {
            line.text = line.text.chars().take(columns.saturating_sub(1)).chain(['…']).collect();
        }
    }
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn what_has_no_room_in_the_window_is_cut_and_counted() {
        let lines = ["one", "two two", "three", "four"].map(|text| Line::new(Tone::Plain, text));
        assert_eq!(texts(&fitted(&lines, (5, 7))), ["one", "two two", "three", "four"]);
        assert_eq!(texts(&fitted(&lines, (4, 80))), ["one", "two two", "2 more in a taller window"]);
        assert_eq!(texts(&fitted(&lines, (24, 5))), ["one", "two …", "three", "four"]);
        assert_eq!(fitted(&lines, (1, 1)).len(), 1);
    }
}
