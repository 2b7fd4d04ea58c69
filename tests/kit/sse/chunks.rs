//! Taking the chunked transfer coding off a body (RFC 9112 §7.1).

use httparse::Status;

/// The body is not what it says.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// A body being read.
#[derive(Debug, Default)]
pub struct Chunks(Part);

/// Next step of the parser.
#[derive(Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Size,
    /// So many bytes.
    Content(usize),
    /// The end of line behind a chunk.
    Close,
    /// Nothing: this was the last chunk.
    End,
}

impl Chunks {
    /// Hands over the content of as much of `bytes` as can be read already; how much that is.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(&mut self, bytes: &[u8], mut content: impl FnMut(&[u8])) -> Result<usize, Malformed> {
        let mut read = 0;
        loop {
            let rest = &bytes[read..];
            match self.0 {
                Part::Size => match httparse::parse_chunk_size(rest).map_err(|_| Malformed)? {
                    Status::Partial => return Ok(read),
                    Status::Complete((length, size)) => {
                        read += length;
                        let size = usize::try_from(size).map_err(|_| Malformed)?;
                        self.0 = if size == 0 { Part::End } else { Part::Content(size) };
                    }
                },
                Part::Content(left) => {
                    let part = left.min(rest.len());
                    content(&rest[..part]);
                    read += part;
                    if part < left {
                        self.0 = Part::Content(left - part);
                        return Ok(read);
                    }
                    self.0 = Part::Close;
                }
                Part::Close if rest.len() < 2 => return Ok(read),
                Part::Close if rest.starts_with(b"\r\n") => {
                    read += 2;
                    self.0 = Part::Size;
                }
                Part::Close => return Err(Malformed),
                // Trailers, which nobody sends here.
                Part::End => return Ok(bytes.len()),
            }
        }
    }

    /// Whether the last chunk has come.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.0 == Part::End
    }
}
