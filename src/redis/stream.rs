//! Parsing of stream entries. Any program with access to Redis may have written them. The library's
//! types parse all entries or none: one with a binary field would hide all others.

use redis::Value;

use crate::clock::UnixMillis;

/// An entry of a stream.
#[derive(Debug)]
pub(crate) struct StreamEntry<'a> {
    pub(crate) position: &'a str,
    fields: &'a [Value],
}

impl<'a> StreamEntry<'a> {
    /// Value of a field, if it is text.
    pub(crate) fn field(&self, name: &str) -> Option<&'a str> {
        self.fields.chunks_exact(2).find_map(|pair| match pair {
            [key, value] if text(key) == Some(name) => text(value),
            _ => None,
        })
    }

    /// Time of writing in the position, by the clock of Redis unless the writer has chosen it; zero
    /// for a position without one.
    pub(crate) fn written_at(&self) -> UnixMillis {
        let millis = self.position.split('-').next().and_then(|millis| millis.parse().ok());
        UnixMillis(millis.unwrap_or_default())
    }

    /// Whether there is a field of this name, be its value text or not.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.chunks_exact(2).any(|pair| pair.first().and_then(text) == Some(name))
    }
}

/// Entries in the answer to `XREAD` of one stream; `None` if the answer has another form.
pub(crate) fn news(answer: &Value) -> Option<Vec<StreamEntry<'_>>> {
    let mut streams = news_of_each(answer)?;
    let found = streams.pop().map_or_else(Vec::new, |(_name, found)| found);
    streams.is_empty().then_some(found)
}

/// Entries of each stream in the answer to `XREAD`, with its name; `None` if the answer has another
/// form. A stream without new entries is not in it.
pub(crate) fn news_of_each(answer: &Value) -> Option<Vec<(&str, Vec<StreamEntry<'_>>)>> {
    if *answer == Value::Nil {
        return Some(Vec::new());
    }
    let stream = |stream| match list(stream)? {
        [name, found] => Some((text(name)?, entries(found)?)),
        _ => None,
    };
    let streams = list(answer).filter(|streams| !streams.is_empty())?;
    streams.iter().map(stream).collect()
}

/// Entries in the answer to `XRANGE`; `None` if the answer has another form.
pub(crate) fn entries(answer: &Value) -> Option<Vec<StreamEntry<'_>>> {
    let entry = |entry| match list(entry)? {
        [position, fields] => {
            Some(StreamEntry { position: text(position)?, fields: list(fields).unwrap_or_default() })
        }
        _ => None,
    };
    list(answer)?.iter().map(entry).collect()
}

fn list(value: &Value) -> Option<&[Value]> {
    if let Value::Array(items) = value { Some(items) } else { None }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&[u8]]) -> Value {
        Value::Array(words.iter().map(|word| Value::BulkString(word.to_vec())).collect())
    }

    #[test]
    fn a_field_that_is_no_text_hides_neither_another_field_nor_another_entry() {
        let fields: &[&[u8]] = &[b"\xff", b"1", b"data", b"\xfe", b"type", b"message"];
        let entry =
            |id: &[u8], fields: &[&[u8]]| Value::Array(vec![Value::BulkString(id.to_vec()), words(fields)]);
        let answer = Value::Array(vec![entry(b"1-0", fields), entry(b"2-0", &[b"data", b"2"])]);
        let entries = entries(&answer).unwrap();
        assert_eq!((entries[0].field("type"), entries[0].field("data")), (Some("message"), None));
        assert_eq!((entries[1].position, entries[1].field("data")), ("2-0", Some("2")));
        let has = |name| (entries[0].has(name), entries[1].has(name));
        assert_eq!((has("data"), has("type"), has("message")), ((true, true), (true, false), (false, false)));
    }

    #[test]
    fn entries_of_several_streams_are_kept_apart() {
        let entry = |id: &[u8]| Value::Array(vec![Value::BulkString(id.to_vec()), words(&[b"a", b"1"])]);
        let stream = |name: &[u8], entries: &[&[u8]]| {
            let entries = entries.iter().map(|id| entry(id)).collect();
            Value::Array(vec![Value::BulkString(name.to_vec()), Value::Array(entries)])
        };
        let answer = Value::Array(vec![stream(b"one", &[b"1-0", b"2-0"]), stream(b"two", &[b"7-0"])]);
        let found = news_of_each(&answer).unwrap();
        let positions: Vec<_> = found
            .iter()
            .map(|(name, entries)| (*name, entries.iter().map(|entry| entry.position).collect::<Vec<_>>()))
            .collect();
        assert_eq!(positions, [("one", vec!["1-0", "2-0"]), ("two", vec!["7-0"])]);
        assert!(news(&answer).is_none(), "one stream was asked for");
        assert!(news_of_each(&Value::Nil).unwrap().is_empty());
    }

    #[test]
    fn an_answer_to_another_question_is_noticed() {
        assert!(news(&Value::Nil).unwrap().is_empty());
        for other in [Value::Int(1), Value::Array(vec![]), words(&[b"a"]), Value::Array(vec![words(&[b"a"])])]
        {
            assert!(news(&other).is_none(), "{other:?}");
        }
        assert!(entries(&words(&[b"a"])).is_none());
    }
}
