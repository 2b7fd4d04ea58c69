//! Parsing of stream entries. Any program with access to Redis may have written them. The library's
//! types parse all entries or none: one with a binary field would hide all others.

use redis::Value;

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

    /// Whether there is a field of this name, be its value text or not.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.chunks_exact(2).any(|pair| pair.first().and_then(text) == Some(name))
    }
}

/// Entries in the answer to `XREAD` of one stream; `None` if the answer has another form.
pub(crate) fn news(answer: &Value) -> Option<Vec<StreamEntry<'_>>> {
    if *answer == Value::Nil {
        return Some(Vec::new());
    }
    let [stream] = list(answer)? else { return None };
    let [_name, found] = list(stream)? else { return None };
    entries(found)
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
    fn an_answer_to_another_question_is_noticed() {
        assert!(news(&Value::Nil).unwrap().is_empty());
        for other in [Value::Int(1), Value::Array(vec![]), words(&[b"a"]), Value::Array(vec![words(&[b"a"])])]
        {
            assert!(news(&other).is_none(), "{other:?}");
        }
        assert!(entries(&words(&[b"a"])).is_none());
    }
}
