//! Grants: every one reads back as itself, and nothing else is one.

use proptest::prelude::*;

use super::*;

fn any_topics() -> impl Strategy<Value = Patterns> {
    let pattern = "\\$?[A-Za-z0-9._~:@%-]{1,20}(/[a-z]{1,3}){0,6}(/\\*)?|\\*";
    prop::collection::btree_set(pattern, 1..=MOST_TOPICS)
        .prop_map(|texts| texts.into_iter().collect::<Vec<_>>())
        .prop_shuffle()
        .prop_map(|texts| Patterns::new(texts.iter().map(String::as_str)).unwrap())
}

prop_compose! {
    fn any_grant()(
        principal in "[A-Za-z0-9._-]{1,64}",
        issued_at in 0..=LATEST,
        subject in prop::option::of("[!-~]{1,128}"),
        topics in any_topics(),
        stream_until in prop::option::of(0..=LATEST),
        single_use in any::<bool>(),
        resource in prop::option::of("[!-~]{1,512}"),
    ) -> Grant {
        Grant {
            principal: PrincipalId::parse(&principal).unwrap(),
            issued_at: UnixMillis(issued_at),
            subject: subject.as_deref().and_then(Subject::parse),
            topics,
            stream_until: stream_until.map(UnixMillis),
            single_use,
            resource: resource.as_deref().and_then(Resource::parse),
        }
    }
}

/// A grant's bytes, one of them changed, added or left out, or cut off.
fn nearly_a_grant() -> impl Strategy<Value = Vec<u8>> {
    let text = any_grant().prop_filter_map("too long", |grant| grant.encode().ok());
    (text, any::<prop::sample::Index>(), any::<u8>(), 0..4).prop_map(|(text, at, byte, edit)| {
        let mut bytes = URL_SAFE_NO_PAD.decode(text.as_str()).unwrap();
        let at = at.index(bytes.len());
        match edit {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            2 => {
                bytes.remove(at);
            }
            _ => bytes.truncate(at),
        }
        bytes
    })
}

/// Fields with any number and value, most of them in ascending order.
fn any_fields() -> impl Strategy<Value = Vec<u8>> {
    let value = || {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..10),
            any::<[u8; 6]>().prop_map(|moment| moment.to_vec()),
            "[ -~]{0,12}".prop_map(String::into_bytes),
            Just(b"\x07default".to_vec()),
            Just(b"\x01a\x03b/*".to_vec()),
        ]
    };
    let sorted = prop::collection::btree_map(1_u8..9, value(), 2..8)
        .prop_map(|fields| fields.into_iter().collect::<Vec<_>>());
    let fields = prop_oneof![4 => sorted, 1 => prop::collection::vec((0_u8..9, value()), 0..8)];
    fields.prop_map(|fields| bytes_of(&fields))
}

fn bytes_of(fields: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut encoder = Encoder(vec![VERSION]);
    for (number, value) in fields {
        encoder.put(*number, value).unwrap();
    }
    encoder.0
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => nearly_a_grant().prop_map(|bytes| URL_SAFE_NO_PAD.encode(bytes)),
        4 => any_fields().prop_map(|bytes| URL_SAFE_NO_PAD.encode(bytes)),
        1 => "AQE[A-Za-z0-9_-]{0,60}",
        1 => any::<String>(),
    ]
}

fn length(field: Option<&str>) -> usize {
    field.map_or(0, |text| 3 + text.len())
}

proptest! {
    #[test]
    fn a_grant_reads_back_as_itself_unless_it_is_too_long(grant in any_grant()) {
        let topics: usize = grant.topics.iter().map(|pattern| 1 + pattern.as_str().len()).sum();
        let texts = [
            Some(grant.principal.as_str()),
            grant.subject.as_ref().map(Subject::as_str),
            grant.resource.as_ref().map(Resource::as_str),
        ];
        let texts: usize = texts.into_iter().map(length).sum();
        let until = if grant.stream_until.is_some() { 9 } else { 0 };
        let bytes = 1 + texts + 9 + 3 + topics + until + if grant.single_use { 3 } else { 0 };
        match grant.encode() {
            Ok(text) => {
                prop_assert!(bytes <= 768 && text.as_str().len() <= 1024, "{}", bytes);
                prop_assert_eq!(Grant::decode(text.as_str()), Ok(grant));
            }
            Err(GrantTooLong) => prop_assert!(bytes > 768, "{}", bytes),
        }
    }

    #[test]
    fn decoding_accepts_nothing_but_what_encoding_writes(text in any_text()) {
        if let Ok(grant) = Grant::decode(&text) {
            let written = grant.encode().map(|written| written.as_str().to_owned());
            prop_assert_eq!(written, Ok(text));
        }
    }

    #[test]
    fn another_spelling_of_the_same_bytes_is_malformed(grant in any_grant(), blank in "[=\\s.%]") {
        if let Ok(text) = grant.encode() {
            let text = text.as_str();
            let padded = format!("{text}{}", "=".repeat((4 - text.len() % 4) % 4));
            let standard = text.replace('-', "+").replace('_', "/");
            let mut spellings = vec![format!("{text}{blank}"), format!("{blank}{text}"), format!("{text}A")];
            spellings.extend([padded, standard].into_iter().filter(|spelling| spelling != text));
            for spelling in spellings {
                prop_assert_eq!(Grant::decode(&spelling), Err(CodecError::Malformed), "{}", spelling);
            }
        }
    }
}

/// The fields that every grant has.
fn least() -> Vec<(u8, Vec<u8>)> {
    vec![(PRINCIPAL, b"a".to_vec()), (ISSUED_AT, vec![0; 6]), (TOPICS, b"\x01a".to_vec())]
}

/// [`least`] with a field set to a value, in ascending order.
fn with(number: u8, value: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut fields = least();
    fields.retain(|(known, _)| *known != number);
    fields.push((number, value.to_vec()));
    fields.sort_by_key(|(number, _)| *number);
    fields
}

fn read(fields: &[(u8, Vec<u8>)]) -> Result<Grant, CodecError> {
    Grant::decode(&URL_SAFE_NO_PAD.encode(bytes_of(fields)))
}

#[test]
fn a_field_that_is_unknown_missing_doubled_or_out_of_order_makes_a_grant_malformed() {
    assert!(read(&least()).is_ok());
    for unknown in [0, 8, 255] {
        assert_eq!(read(&with(unknown, b"a")), Err(CodecError::Malformed), "{unknown}");
    }
    for place in 0..3 {
        let (mut missing, mut doubled, mut moved) = (least(), least(), least());
        missing.remove(place);
        doubled.insert(place, least()[place].clone());
        moved.swap(place, (place + 1) % 3);
        for fields in [missing, doubled, moved] {
            assert_eq!(read(&fields), Err(CodecError::Malformed), "{fields:?}");
        }
    }
}

#[test]
fn a_value_of_another_form_makes_a_grant_malformed() {
    let many = |number: u8| (b'a'..b'a' + number).flat_map(|name| [1, name]).collect::<Vec<_>>();
    for (number, good) in [
        (PRINCIPAL, vec![b'a'; 64]),
        (ISSUED_AT, vec![255; 6]),
        (SUBJECT, vec![b'~'; 128]),
        (TOPICS, many(16)),
        (TOPICS, b"\x01*\x0a$streams/*".to_vec()),
        (STREAM_UNTIL, vec![0; 6]),
        (SINGLE_USE, vec![]),
        (RESOURCE, vec![b'!'; 512]),
    ] {
        assert!(read(&with(number, &good)).is_ok(), "{number}");
    }
    for (number, bad) in [
        (PRINCIPAL, vec![]),
        (PRINCIPAL, vec![b'a'; 65]),
        (PRINCIPAL, b"a b".to_vec()),
        (ISSUED_AT, vec![0; 5]),
        (ISSUED_AT, vec![0; 7]),
        (SUBJECT, vec![]),
        (SUBJECT, vec![b'a'; 129]),
        (SUBJECT, b"a b".to_vec()),
        (SUBJECT, b"a\n".to_vec()),
        (SUBJECT, "\u{e4}".into()),
        (SUBJECT, vec![0xff]),
        (TOPICS, vec![]),
        (TOPICS, vec![0]),
        (TOPICS, many(17)),
        (TOPICS, b"\x01a\x01a".to_vec()),
        (TOPICS, b"\x02a".to_vec()),
        (TOPICS, b"\x01a\x00".to_vec()),
        (TOPICS, b"\x02a*".to_vec()),
        (STREAM_UNTIL, vec![]),
        (STREAM_UNTIL, vec![0; 8]),
        (SINGLE_USE, vec![1]),
        (RESOURCE, vec![]),
        (RESOURCE, vec![b'a'; 513]),
        (RESOURCE, b"/a b".to_vec()),
    ] {
        assert_eq!(read(&with(number, &bad)), Err(CodecError::Malformed), "{number} {bad:?}");
    }
}

#[test]
fn another_version_and_bytes_before_the_end_or_after_it_make_a_grant_malformed() {
    let bytes = bytes_of(&least());
    let decode = |bytes: &[u8]| Grant::decode(&URL_SAFE_NO_PAD.encode(bytes));
    for version in [0, 2, 255] {
        assert_eq!(decode(&[&[version][..], &bytes[1..]].concat()), Err(CodecError::Malformed));
    }
    for end in 0..bytes.len() {
        assert_eq!(decode(&bytes[..end]), Err(CodecError::Malformed), "{end}");
    }
    assert_eq!(decode(&[&bytes[..], &[0]].concat()), Err(CodecError::Malformed));
    assert_eq!(Grant::decode(""), Err(CodecError::Malformed));
}

#[test]
fn base64_whose_last_bits_are_not_zero_is_malformed() {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // These grants have 1 and 2 bytes more than whole groups of 3: 4 and 2 bits are left.
    for (principal, bits) in [("a", 1), ("a", 8), ("aa", 1), ("aa", 2)] {
        let text = URL_SAFE_NO_PAD.encode(bytes_of(&with(PRINCIPAL, principal.as_bytes())));
        assert!(Grant::decode(&text).is_ok());
        let (rest, last) = text.split_at(text.len() - 1);
        let other = DIGITS.find(last).unwrap() | bits;
        let text = format!("{rest}{}", &DIGITS[other..=other]);
        assert_eq!(Grant::decode(&text), Err(CodecError::Malformed), "{text}");
    }
}

#[test]
fn a_grant_of_1024_characters_is_written_and_a_longer_one_is_not() {
    let grant = |topic: usize| Grant {
        principal: PrincipalId::parse("a").unwrap(),
        issued_at: UnixMillis(0),
        subject: Subject::parse(&"s".repeat(128)),
        topics: Patterns::new(["a", &"t".repeat(topic)]).unwrap(),
        stream_until: None,
        single_use: false,
        resource: Resource::parse(&"r".repeat(512)),
    };
    let text = grant(102).encode().unwrap();
    assert_eq!(text.as_str().len(), 1024);
    assert_eq!(Grant::decode(text.as_str()), Ok(grant(102)));
    assert_eq!(grant(103).encode(), Err(GrantTooLong));
    for longer in ["A", "AA", "AAA", "AAAA", &"A".repeat(4096)] {
        assert_eq!(Grant::decode(&format!("{}{longer}", text.as_str())), Err(CodecError::Malformed));
    }
}

#[test]
fn a_moment_that_does_not_fit_is_written_as_the_last_one_that_does() {
    let mut grant = read(&least()).unwrap();
    grant.stream_until = Some(UnixMillis(u64::MAX));
    let read = Grant::decode(grant.encode().unwrap().as_str()).unwrap();
    assert_eq!(read.stream_until, Some(UnixMillis((1 << 48) - 1)));
}

#[test]
fn a_principal_grants_what_its_topics_cover_and_the_services_topics_only_if_it_may_observe() {
    let first_beyond = |rights: &[Right], own: &str, asked: &str| {
        let own = Patterns::new(own.split(' ')).unwrap();
        let rights = rights.iter().copied().collect();
        let principal = Principal::new(PrincipalId::parse("a").unwrap(), rights, own);
        let asked = Patterns::new(asked.split(' ')).unwrap();
        first_not_grantable(&principal, &asked).map(|pattern| pattern.as_str().to_owned())
    };
    let both = [Right::Issue, Right::Observe];
    let issue = &both[..1];
    for (rights, own, asked, beyond) in [
        (issue, "orders/* users/7", "orders/1/* users/7", None),
        (issue, "orders/* users/7", "users/7 users/8 *", Some("users/8")),
        (issue, "orders/*", "orders", Some("orders")),
        (issue, "*", "a/b c/* *", None),
        (issue, "*", "a $streams/opened", Some("$streams/opened")),
        (&both[..], "*", "a $streams/opened", None),
        (&both[..], "orders/*", "$streams/* a", Some("a")),
    ] {
        assert_eq!(first_beyond(rights, own, asked).as_deref(), beyond, "{own} {asked}");
    }
}

#[test]
fn debug_output_shows_neither_subject_nor_resource_nor_text() {
    let mut grant = read(&with(SUBJECT, b"visible-subject")).unwrap();
    grant.resource = Resource::parse("/visible-resource");
    let text = grant.encode().unwrap();
    let shown = format!("{grant:?} {text:?}");
    assert!(!shown.contains("visible") && !shown.contains(&text.as_str()[..12]), "{shown}");
}
