//! Parser of `text/event-stream` (WHATWG HTML §9.2.6). Beyond the standard it reads the field
//! `topic`, and it reports frames that have an id and no data: SSE heartbeats with a position.

use std::mem;
use std::time::Duration;

/// Bound of a line, and of the data of a frame, in bytes: several times the largest event.
const LARGEST: usize = 1024 * 1024;

/// The fields of a frame.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields {
    /// The last id that the stream has had, up to this frame; an empty one has taken it back.
    /// `None`: it has had none.
    pub(super) id: Option<String>,
    /// Type of the event; empty if there is none.
    pub(super) event: String,
    /// Topic of the event.
    pub(super) topic: Option<String>,
    /// The lines of data, joined; `None`: the frame has an id only.
    pub(super) data: Option<String>,
    pub(super) retry: Option<Duration>,
}

/// Error: the bytes are no event stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotAStream;

/// Turns the bytes of a stream into frames, in chunks of any size.
#[derive(Default)]
pub(super) struct FrameParser {
    /// The line that has not ended yet.
    line: Vec<u8>,
    has_begun: bool,
    /// The last byte was a CR: an LF after it belongs to the same line end.
    after_cr: bool,
    fields: Fields,
    /// The frame that has not ended yet has an id.
    has_id: bool,
    last_id: Option<String>,
}

impl FrameParser {
    /// The frames that this chunk completes.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<Vec<Fields>, NotAStream> {
        let mut frames = Vec::new();
        let mut rest = chunk;
        while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
            let (line, end) = rest.split_at(at);
            let Some((end, after)) = end.split_first() else { break };
            rest = after;
            let is_second_half = self.after_cr && line.is_empty() && *end == b'\n';
            self.after_cr = *end == b'\r';
            if is_second_half {
                continue;
            }
            self.line.extend_from_slice(line);
            frames.extend(self.end_line()?);
        }
        if !rest.is_empty() {
            self.after_cr = false;
            self.line.extend_from_slice(rest);
        }
        let data = self.fields.data.as_ref().map_or(0, String::len);
        if self.line.len().max(data) > LARGEST { Err(NotAStream) } else { Ok(frames) }
    }

    fn end_line(&mut self) -> Result<Option<Fields>, NotAStream> {
        let line = mem::take(&mut self.line);
        let mut line = str::from_utf8(&line).map_err(|_| NotAStream)?;
        if !mem::replace(&mut self.has_begun, true) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            return Ok(self.end_frame());
        }
        self.field(line);
        Ok(None)
    }

    fn end_frame(&mut self) -> Option<Fields> {
        let fields = mem::take(&mut self.fields);
        let has_id = mem::take(&mut self.has_id);
        (has_id || fields.data.is_some()).then(|| Fields { id: self.last_id.clone(), ..fields })
    }

    /// A comment is a field without a name.
    fn field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "data" => match &mut self.fields.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.fields.data = Some(value.to_owned()),
            },
            "event" => value.clone_into(&mut self.fields.event),
            "topic" => self.fields.topic = Some(value.to_owned()),
            "id" if !value.contains('\0') => {
                self.has_id = true;
                self.last_id = Some(value.to_owned());
            }
            "retry" => {
                self.fields.retry = value.parse().ok().map(Duration::from_millis).or(self.fields.retry);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use eventsource_stream::Eventsource;
    use futures_util::{FutureExt, StreamExt, stream};
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn parsed(text: &str) -> Vec<Fields> {
        FrameParser::default().push(text.as_bytes()).unwrap()
    }

    /// Id, topic and data of the only frame.
    fn only(text: &str) -> (Option<String>, Option<String>, Option<String>) {
        let [Fields { id, topic, data, .. }] = <[Fields; 1]>::try_from(parsed(text)).expect("one frame");
        (id, topic, data)
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is compared with fields that may be absent")]
    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn the_topic_is_that_of_its_frame_wherever_its_line_is() {
        for text in ["id: 1\ntopic: a/b\ndata: x\n\n", "data: x\ntopic: a/b\nid: 1\n\n"] {
            assert_eq!(only(text), (some("1"), some("a/b"), some("x")), "{text:?}");
        }
        let frames = parsed("topic: a\n\ndata: x\n\ntopic: a\ndata: y\n\ndata: z\n\n");
        let topics: Vec<_> = frames.iter().map(|frame| frame.topic.as_deref()).collect();
        assert_eq!(topics, [None, Some("a"), None]);
    }

    #[test]
    fn an_id_without_data_is_a_position_and_a_comment_alone_is_nothing() {
        assert_eq!(only(": heartbeat\nid: 7\n\n"), (some("7"), None, None));
        assert_eq!(parsed(": heartbeat\n\nevent: x\n\nretry: 5\n\n"), []);
        let after = parsed("id: 7\n\ndata: x\n\n");
        assert_eq!(after[1].id, some("7"), "the id of the stream until there is another");
    }

    #[test]
    fn an_empty_id_takes_the_last_one_back_and_no_id_does_not() {
        let ids = |text: &str| parsed(text).into_iter().map(|frame| frame.id).collect::<Vec<_>>();
        assert_eq!(ids("data: x\n\nid: 1\ndata: x\n\ndata: x\n\n"), [None, some("1"), some("1")]);
        assert_eq!(ids("id: 1\n\nid:\n\ndata: x\n\n"), [some("1"), some(""), some("")]);
        assert_eq!(ids("id: 1\n\nid\ndata: x\n\n"), [some("1"), some("")]);
        assert_eq!(ids("id: 1\nid: 2\0\n\n"), [some("1")], "an id with NUL is ignored");
    }

    #[test]
    fn an_unreadable_or_endless_stream_is_none() {
        assert_eq!(FrameParser::default().push(b"data: \xff\n\n"), Err(NotAStream));
        let (line, data) = (vec![b'x'; 64 * 1024], b"data: xxxxxxxxxxxxxxxxxxxxxxxxxxxx\n".repeat(2048));
        for chunk in [line, data] {
            let mut parser = FrameParser::default();
            let pushed = (0..100).try_for_each(|_| parser.push(&chunk).map(drop));
            assert_eq!(pushed, Err(NotAStream));
        }
    }

    /// Id, type and data of each event, by a parser that is not ours.
    fn events_of_another_parser(text: &str) -> Vec<(String, String, String)> {
        let body = stream::iter([Ok::<_, Infallible>(text.to_owned())]);
        let events = body.eventsource().map(Result::unwrap);
        let events = events.map(|event| (event.id, event.event, event.data));
        events.collect::<Vec<_>>().now_or_never().expect("all of it is there")
    }

    fn any_stream() -> impl Strategy<Value = String> {
        let part = select(vec![
            "data", "id", "event", "retry", "topic", "x", ":", ": ", "\n", "\r", "\r\n", "\n\n", "7", "\0",
            " ", "ä😀",
        ]);
        // A line at the end that has not ended, so that a CR before it has.
        prop::collection::vec(part, 0..60).prop_map(|parts| format!("{}\n\n:", parts.concat()))
    }

    proptest! {
        #[test]
        fn events_are_those_that_another_parser_reads(text in any_stream()) {
            let events = parsed(&text).into_iter().filter_map(|Fields { id, event, data, .. }| {
                let event = if event.is_empty() { "message".to_owned() } else { event };
                Some((id.unwrap_or_default(), event, data?))
            });
            prop_assert_eq!(events.collect::<Vec<_>>(), events_of_another_parser(&text));
        }

        #[test]
        fn frames_are_read_alike_however_they_are_cut(text in any_stream(), size in 1_usize..8) {
            let mut parser = FrameParser::default();
            let chunks = text.as_bytes().chunks(size);
            let frames: Vec<_> = chunks.flat_map(|chunk| parser.push(chunk).unwrap()).collect();
            prop_assert_eq!(frames, parsed(&text));
        }

        #[test]
        fn no_bytes_make_parsing_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = FrameParser::default().push(&bytes);
        }
    }
}
