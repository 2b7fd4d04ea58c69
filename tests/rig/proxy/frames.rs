//! Boundaries of commands and answers in a stream that arrives in pieces.

/// Longer than any number that is of interest; the rest of a line is not kept.
const KEPT: usize = 24;

/// Follows RESP, in version 2 or 3, in either direction; knows no more of it than lengths.
#[derive(Default)]
pub(super) struct Frames {
    /// The beginning of a line whose end has not been seen.
    line: Vec<u8>,
    /// Bytes of a text that are still to come, its line end included.
    text: usize,
    /// Elements that are still to come until the frame is complete.
    missing: usize,
    /// Type of the current frame; 0 between two frames.
    kind: u8,
}

/// A piece of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) length: usize,
    /// The type of the frame that ends with this piece, if one does.
    pub(super) complete: Option<u8>,
}

impl Frames {
    /// Whether the next byte begins a frame.
    pub(super) fn between(&self) -> bool {
        self.kind == 0
    }

    /// The piece at the beginning of `bytes`: up to the end of a frame, or all there is.
    pub(super) fn next_piece(&mut self, bytes: &[u8]) -> Piece {
        for (at, byte) in bytes.iter().enumerate() {
            if self.ends_with(*byte) {
                return Piece { length: at + 1, complete: Some(std::mem::take(&mut self.kind)) };
            }
        }
        Piece { length: bytes.len(), complete: None }
    }

    /// Takes one byte; whether a frame ends with it.
    fn ends_with(&mut self, byte: u8) -> bool {
        if self.kind == 0 {
            (self.kind, self.missing) = (byte, 1);
        }
        if self.text > 0 {
            self.text -= 1;
            return self.text == 0 && self.missing == 0;
        }
        if byte != b'\n' {
            if self.line.len() < KEPT {
                self.line.push(byte);
            }
            return false;
        }
        let line = std::mem::take(&mut self.line);
        self.missing = self.missing.saturating_sub(1);
        // Nothing, written as a length of -1, is followed by nothing.
        let number = || str::from_utf8(&line[1..]).ok()?.trim_end().parse::<usize>().ok();
        let number = || number().unwrap_or(0);
        match line.first() {
            Some(b'$' | b'=' | b'!') if line.get(1) != Some(&b'-') => self.text = number().saturating_add(2),
            Some(b'*' | b'~' | b'>') => self.missing = self.missing.saturating_add(number()),
            Some(b'%') => self.missing = self.missing.saturating_add(number().saturating_mul(2)),
            // Its content follows.
            Some(b'|') => self.missing = self.missing.saturating_add(number().saturating_mul(2) + 1),
            _ => {}
        }
        self.text == 0 && self.missing == 0
    }
}
