//! A stream as it arrives on a socket: the head of an answer, then frames, with or without the
//! chunked transfer coding. With little work for each frame, as a load has many streams.

use httparse::{EMPTY_HEADER, Response, Status};

use super::chunks::{Chunks, Malformed};
use super::frames::{Block, Frame, Frames};

/// More headers than an answer has.
const HEADERS: usize = 32;

/// The head of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// Whether the body has the chunked transfer coding, as a body without a known end has.
    pub is_chunked: bool,
}

/// A reader in the middle of an answer.
#[derive(Debug, Default)]
pub struct StreamReader {
    /// Bytes that cannot be read before more has come.
    rest: Vec<u8>,
    chunks: Option<Chunks>,
    frames: Frames,
}

impl StreamReader {
    /// Reads on in the head, and returns it once it is complete.
    ///
    /// # Errors
    /// The bytes are no answer.
    pub fn head(&mut self, bytes: &[u8]) -> Result<Option<Head>, String> {
        self.rest.extend_from_slice(bytes);
        let mut headers = [EMPTY_HEADER; HEADERS];
        let mut response = Response::new(&mut headers);
        let parsed = response.parse(&self.rest).map_err(|error| error.to_string())?;
        let Status::Complete(length) = parsed else { return Ok(None) };
        let is_chunked = response.headers.iter().any(|header| {
            header.name.eq_ignore_ascii_case("transfer-encoding")
                && header.value.eq_ignore_ascii_case(b"chunked")
        });
        let head = Head { status: response.code.unwrap_or_default(), is_chunked };
        self.rest.drain(..length);
        self.chunks = is_chunked.then(Chunks::default);
        Ok(Some(head))
    }

    /// Reads on in the body, and hands over each frame that is complete. The first call also reads
    /// what came together with the head.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn body(&mut self, bytes: &[u8], mut dispatch: impl FnMut(&Frame<'_>)) -> Result<(), Malformed> {
        self.blocks(bytes, |block| {
            if let Block::Event(frame) = block {
                dispatch(frame);
            }
        })
    }

    /// The same with each block that has data or an id.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn blocks(&mut self, bytes: &[u8], dispatch: impl FnMut(&Block<'_>)) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            let read = self.read(bytes, dispatch)?;
            self.rest.extend_from_slice(&bytes[read..]);
        } else {
            let mut all = std::mem::take(&mut self.rest);
            all.extend_from_slice(bytes);
            let read = self.read(&all, dispatch)?;
            all.drain(..read);
            self.rest = all;
        }
        Ok(())
    }

    /// Whether the body has ended by its transfer coding.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.chunks.as_ref().is_some_and(Chunks::ended)
    }

    /// Returns how many bytes are read.
    fn read(&mut self, bytes: &[u8], mut dispatch: impl FnMut(&Block<'_>)) -> Result<usize, Malformed> {
        let Self { chunks, frames, .. } = self;
        let Some(chunks) = chunks else {
            frames.blocks(bytes, dispatch);
            return Ok(bytes.len());
        };
        chunks.read(bytes, |content| frames.blocks(content, &mut dispatch))
    }
}
