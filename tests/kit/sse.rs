//! Reading streams of events.

mod chunks;
mod frames;

pub use chunks::{Chunks, Malformed};
pub use frames::{Frame, Frames};
