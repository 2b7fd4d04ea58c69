//! Readers of streams read the same as an independent parser, wherever the network splits the
//! data.

use std::convert::Infallible;
use std::time::Duration;

use eventsource_stream::Eventsource;
use futures_util::StreamExt;
use proptest::prelude::*;
use vx11_kit::{Block, Chunks, Frame, Frames, Head, Malformed, StreamReader};

/// An event's type, its data, the position after it, and its `retry`.
type Read = (String, String, String, Option<Duration>);

fn by_us(parts: &[&[u8]]) -> Vec<Read> {
    let (mut frames, mut read, mut position) = (Frames::default(), Vec::new(), String::new());
    for part in parts {
        frames.read(part, |frame: &Frame<'_>| {
            if let Some(id) = &frame.id {
                position = id.to_string();
            }
            read.push((frame.event.to_string(), frame.data.to_string(), position.clone(), frame.retry));
        });
    }
    read
}

fn by_them(text: &str) -> Vec<Read> {
    let whole = futures_util::stream::iter([Ok::<_, Infallible>(text.as_bytes().to_vec())]);
    let events = whole.eventsource().map(|event| event.expect("a stream of events"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(events.map(|event| (event.event, event.data, event.id, event.retry)).collect())
}

/// Cuts it at these places.
fn cut(bytes: &[u8], places: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut places: Vec<_> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec()).collect()
}

fn chunked(parts: &[Vec<u8>]) -> Vec<u8> {
    let full = parts.iter().filter(|part| !part.is_empty());
    let chunk = |part: &Vec<u8>| [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
    [full.flat_map(chunk).collect(), b"0\r\n\r\n".to_vec()].concat()
}

proptest! {
    #[test]
    fn frames_are_what_an_independent_parser_reads_wherever_they_are_cut(
        lines in prop::collection::vec(
            "(data|id|event|retry|other|)(: ?|)[a-z0-9\\x00: é\u{1F600}]{0,6}(\r\n|\n|\r|\n\n|\r\r|\r\n\r\n)", 0..20,
        ),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let text = format!("{}data: last\n\n", lines.concat());
        let parts = cut(text.as_bytes(), &places);
        let parts: Vec<_> = parts.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(by_us(&parts), by_them(&text));
    }

    #[test]
    fn an_answer_is_read_from_its_head_on_wherever_it_is_cut(
        is_chunked in any::<bool>(),
        chunks in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let body = b"retry: 5\ndata: 1\n\n: comment\n\nid: a\ndata: 2\n\n";
        let coding = if is_chunked { "Transfer-Encoding: Chunked\r\n" } else { "" };
        let head = format!("HTTP/1.1 200 OK\r\nx: y\r\n{coding}\r\n").into_bytes();
        let body = if is_chunked { chunked(&cut(body, &chunks)) } else { body.to_vec() };
        let (mut reader, mut begun, mut read) = (StreamReader::default(), None, Vec::new());
        for part in cut(&[head, body].concat(), &places) {
            let mut rest = part.as_slice();
            if begun.is_none() {
                begun = reader.head(rest).expect("well formed");
                rest = &[];
            }
            if begun.is_some() {
                reader.body(rest, |frame| read.push(frame.data.to_string())).expect("well formed");
            }
        }
        prop_assert_eq!((begun, reader.ended()), (Some(Head { status: 200, is_chunked }), is_chunked));
        prop_assert_eq!(read, ["1", "2"]);
    }

    #[test]
    fn the_transfer_coding_comes_off_wherever_it_is_cut(
        body in prop::collection::vec(any::<u8>(), 0..200),
        chunks in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let coded = chunked(&cut(&body, &chunks));
        let (mut reader, mut content, mut left) = (Chunks::default(), Vec::new(), Vec::new());
        for part in cut(&coded, &places) {
            prop_assert!(!reader.ended() || content == body);
            left.extend(part);
            let read = reader.read(&left, |bytes| content.extend_from_slice(bytes)).expect("well formed");
            left.drain(..read);
        }
        prop_assert_eq!((content, reader.ended()), (body, true));
    }
}

#[test]
fn a_byte_order_mark_is_passed_over_at_the_very_beginning_and_nowhere_else() {
    let read = by_us(&["\u{feff}data: 1\n\u{feff}data: 2\n\n".as_bytes()]);
    assert_eq!(read, [("message".to_owned(), "1".to_owned(), String::new(), None)]);
}

#[test]
fn an_id_without_data_moves_the_position_and_dispatches_nothing() {
    let text = b": heartbeat\nid: a\n\n: comment\n\nid: b\ntopic: x/y\ndata: 1\n\ndata: 2\n\n";
    let (mut frames, mut read) = (Frames::default(), Vec::new());
    frames.blocks(text, |block| {
        read.push(match block {
            Block::Position(id) => format!("at {id}"),
            Block::Event(Frame { id, topic, data, .. }) => format!("{data} {id:?} {topic:?}"),
        });
    });
    assert_eq!(read, ["at a", "1 Some(\"b\") Some(\"x/y\")", "2 None None"]);
}

#[test]
fn a_body_that_is_not_chunked_as_it_says_is_refused() {
    for coded in ["x\r\n", "1\r\nabc", "-1\r\n"] {
        assert_eq!(Chunks::default().read(coded.as_bytes(), |_| {}), Err(Malformed), "{coded:?}");
    }
}
