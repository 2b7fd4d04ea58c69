//! Reading streams of events. [`Frames`] is the only parser of frames in the tests and benchmarks;
//! [`EventStream`] reads an HTTP response with it. Load generators, which have sockets instead of
//! an HTTP client, give what they receive to a [`StreamReader`].

mod chunks;
mod event_stream;
mod frames;
mod stream_reader;

pub use chunks::{Chunks, Malformed};
pub use event_stream::{Event, EventStream};
pub use frames::{Block, Frame, Frames};
pub use stream_reader::{Head, StreamReader};
