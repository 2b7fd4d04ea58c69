//! Templates over the claims of a JWT: `users/{sub}/*` for topics, `{sub}` for the subject.
//!
//! A claim's value becomes one segment of a topic: it can never add a `/`, `*` or `$`, and
//! different values give different texts.

use std::fmt;

use serde_json::Value;

use crate::subject::{LONGEST_SUBJECT, Subject};
use crate::topic::{LONGEST_TOPIC, Pattern};

/// Longest name of a claim in a template.
const LONGEST_NAME: usize = 128;

/// Reason why a text is no template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Braces without their partner, or without a name between them.
    #[error("a claim is written as {{name}}, such as users/{{sub}}/*")]
    Braces,
    /// A claim that is only a part of a segment.
    #[error("a claim is a whole segment, such as users/{{sub}}/*")]
    PartOfSegment,
    /// The rest of the text is not allowed in a topic.
    #[error("no topic or pattern, also with simple values in place of the claims")]
    Topic,
    /// The topic would belong to the service.
    #[error("begins with $, but such topics belong to the service")]
    OfService,
    /// The rest of the text is not allowed in a subject, or there is no claim.
    #[error(
        "a subject needs a claim, such as {{sub}}; other characters are visible ASCII, at most {LONGEST_SUBJECT}"
    )]
    Subject,
    /// Two claims of a subject whose values could run into each other.
    #[error("between two claims of a subject, a character is needed that is no letter, digit or %")]
    Ambiguous,
}

/// A claim that a template cannot use. Names claims of the configuration, no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The JWT has no such claim.
    #[error("the JWT has no claim {0}")]
    Missing(String),
    /// The claim is no text and no whole number.
    #[error("the claim {0} is no text and no whole number")]
    Kind(String),
    /// The claim is an empty text.
    #[error("the claim {0} is empty")]
    Empty(String),
    /// The topic or subject would be too long.
    #[error("the values of the claims are too long for a topic or a subject")]
    TooLong,
}

/// The claims of a JWT, by name.
pub trait Claims {
    /// The value of a claim.
    fn claim(&self, name: &str) -> Option<&Value>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Claim(String),
}

fn parts(text: &str) -> Result<Vec<Part>, TemplateError> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or(TemplateError::Braces)?;
        if before.contains('}') || name.contains('{') || !(1..=LONGEST_NAME).contains(&name.len()) {
            return Err(TemplateError::Braces);
        }
        if !before.is_empty() {
            parts.push(Part::Text(before.to_owned()));
        }
        parts.push(Part::Claim(name.to_owned()));
        rest = after;
    }
    if rest.contains('}') {
        return Err(TemplateError::Braces);
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Ok(parts)
}

/// The text with the values of the claims in it, each encoded except for bytes that are `kept`.
fn filled(parts: &[Part], claims: &impl Claims, kept: impl Fn(u8) -> bool) -> Result<String, ClaimError> {
    let mut filled = String::new();
    for part in parts {
        match part {
            Part::Text(text) => filled.push_str(text),
            Part::Claim(name) => {
                let value = claims.claim(name).ok_or_else(|| ClaimError::Missing(name.clone()))?;
                push_encoded(&mut filled, &text_of(name, value)?, &kept);
            }
        }
    }
    Ok(filled)
}

fn text_of(name: &str, value: &Value) -> Result<String, ClaimError> {
    match value {
        Value::String(text) if text.is_empty() => Err(ClaimError::Empty(name.to_owned())),
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) if !number.is_f64() => Ok(number.to_string()),
        _ => Err(ClaimError::Kind(name.to_owned())),
    }
}

fn push_encoded(to: &mut String, value: &str, kept: impl Fn(u8) -> bool) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value.bytes() {
        if kept(byte) {
            to.push(char::from(byte));
        } else {
            to.push('%');
            to.push(char::from(HEX[usize::from(byte >> 4)]));
            to.push(char::from(HEX[usize::from(byte & 0xf)]));
        }
    }
}

/// Whether a byte of a value stays as it is in a segment: all that a topic allows but `%`.
const fn is_kept_in_segment(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b':' | b'@' | b'-')
}

/// A template of a topic or pattern.
#[derive(Clone, PartialEq, Eq)]
pub struct TopicTemplate {
    parts: Vec<Part>,
    bound: Pattern,
}

impl TopicTemplate {
    /// Checks a template.
    ///
    /// # Errors
    /// No values give a pattern.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let parts = parts(text)?;
        for (at, part) in parts.iter().enumerate() {
            let Part::Claim(_) = part else { continue };
            let begins = at == 0 || matches!(&parts[at - 1], Part::Text(text) if text.ends_with('/'));
            let ends = parts
                .get(at + 1)
                .is_none_or(|next| matches!(next, Part::Text(text) if text.starts_with('/')));
            if !(begins && ends) {
                return Err(TemplateError::PartOfSegment);
            }
        }
        let with = |value: &str| {
            let texts = parts.iter().map(|part| match part {
                Part::Text(text) => text.as_str(),
                Part::Claim(_) => value,
            });
            texts.collect::<String>()
        };
        let example = Pattern::parse(&with("x")).map_err(|_| TemplateError::Topic)?;
        if example.is_of_service() {
            return Err(TemplateError::OfService);
        }
        let bound = match parts.as_slice() {
            [Part::Text(text)] => text.clone(),
            [Part::Text(before), ..] => format!("{before}*"),
            _ => "*".to_owned(),
        };
        let bound = Pattern::parse(&bound).map_err(|_| TemplateError::Topic)?;
        Ok(Self { parts, bound })
    }

    /// The narrowest pattern that covers what any values give.
    #[must_use]
    pub const fn bound(&self) -> &Pattern {
        &self.bound
    }

    /// The pattern with the values of the claims in it.
    ///
    /// # Errors
    /// A claim cannot be used.
    pub fn fill(&self, claims: &impl Claims) -> Result<String, ClaimError> {
        let filled = filled(&self.parts, claims, is_kept_in_segment)?;
        if filled.len() > LONGEST_TOPIC { Err(ClaimError::TooLong) } else { Ok(filled) }
    }
}

impl fmt::Debug for TopicTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.parts).finish()
    }
}

/// A template of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectTemplate {
    parts: Vec<Part>,
    /// The characters that end a claim's value: a value never contains them as they are.
    ends: Vec<u8>,
}

impl SubjectTemplate {
    /// Checks a template.
    ///
    /// # Errors
    /// No values give a subject, or different values could give the same one.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let parts = parts(text)?;
        let texts = parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Claim(_) => None,
        });
        let literal: String = texts.collect();
        let claims = parts.iter().filter(|part| matches!(part, Part::Claim(_))).count();
        let is_visible = literal.bytes().all(|byte| byte.is_ascii_graphic());
        if claims == 0 || !is_visible || literal.len() >= LONGEST_SUBJECT {
            return Err(TemplateError::Subject);
        }
        let mut ends = Vec::new();
        let last = parts.iter().rposition(|part| matches!(part, Part::Claim(_))).unwrap_or_default();
        for pair in parts[..=last].windows(2) {
            match pair {
                [Part::Claim(_), Part::Claim(_)] => return Err(TemplateError::Ambiguous),
                [Part::Claim(_), Part::Text(text)] => ends.extend(text.bytes().next()),
                _ => {}
            }
        }
        if ends.iter().any(|end| end.is_ascii_alphanumeric() || *end == b'%') {
            return Err(TemplateError::Ambiguous);
        }
        Ok(Self { parts, ends })
    }

    /// The subject with the values of the claims in it.
    ///
    /// # Errors
    /// A claim cannot be used.
    pub fn fill(&self, claims: &impl Claims) -> Result<Subject, ClaimError> {
        let kept = |byte: u8| byte.is_ascii_graphic() && byte != b'%' && !self.ends.contains(&byte);
        Subject::parse(&filled(&self.parts, claims, kept)?).ok_or(ClaimError::TooLong)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    impl<S: std::hash::BuildHasher> Claims for HashMap<&str, Value, S> {
        fn claim(&self, name: &str) -> Option<&Value> {
            self.get(name)
        }
    }

    fn topic(template: &str, sub: &Value) -> Result<String, ClaimError> {
        TopicTemplate::parse(template).unwrap().fill(&HashMap::from([("sub", sub.clone())]))
    }

    #[test]
    fn a_value_becomes_one_segment_whatever_it_contains() {
        for (value, expected) in [
            (json!("7"), "users/7/*"),
            (json!(7), "users/7/*"),
            (json!(-7), "users/-7/*"),
            (json!("a/b"), "users/a%2Fb/*"),
            (json!("*"), "users/%2A/*"),
            (json!("$streams"), "users/%24streams/*"),
            (json!("50%"), "users/50%25/*"),
            (json!("%2F"), "users/%252F/*"),
            (json!(".."), "users/../*"),
            (json!("auth0|7"), "users/auth0%7C7/*"),
            (json!("\u{e4}\n"), "users/%C3%A4%0A/*"),
            (json!("a@b.example"), "users/a@b.example/*"),
        ] {
            assert_eq!(topic("users/{sub}/*", &value).as_deref(), Ok(expected), "{value}");
        }
        assert_eq!(topic("{sub}", &json!("$streams/opened")).as_deref(), Ok("%24streams%2Fopened"));
    }

    #[test]
    fn a_claim_that_is_missing_or_no_simple_value_is_refused() {
        for value in [json!(null), json!(true), json!(1.5), json!(["a"]), json!({ "a": 1 })] {
            assert_eq!(topic("users/{sub}", &value), Err(ClaimError::Kind("sub".to_owned())), "{value}");
        }
        assert_eq!(topic("users/{sub}", &json!("")), Err(ClaimError::Empty("sub".to_owned())));
        assert_eq!(topic("users/{tenant}", &json!("a")), Err(ClaimError::Missing("tenant".to_owned())));
        assert_eq!(topic("users/{sub}", &json!("x".repeat(123))), Err(ClaimError::TooLong));
        assert_eq!(topic("users/{sub}", &json!("x".repeat(122))).unwrap().len(), LONGEST_TOPIC);
    }

    #[test]
    fn the_name_of_a_claim_may_be_an_address() {
        let template = TopicTemplate::parse("{https://shop.example/tenant}/orders/*").unwrap();
        let claims = HashMap::from([("https://shop.example/tenant", json!("a"))]);
        assert_eq!(template.fill(&claims).as_deref(), Ok("a/orders/*"));
    }

    #[test]
    fn a_template_that_no_values_make_a_topic_is_refused() {
        use TemplateError::{Braces, OfService, PartOfSegment, Topic};
        for (template, expected) in [
            ("users/{sub", Braces),
            ("users/sub}", Braces),
            ("users/{}", Braces),
            ("users/{a{b}}", Braces),
            ("users/x{sub}", PartOfSegment),
            ("users/{sub}x", PartOfSegment),
            ("{a}{b}", PartOfSegment),
            ("", Topic),
            ("users//{sub}", Topic),
            ("users/{sub}/", Topic),
            ("users/{sub} /*", PartOfSegment),
            ("a/b/c/d/e/f/g/{sub}/*", Topic),
            ("$streams/{sub}", OfService),
        ] {
            assert_eq!(TopicTemplate::parse(template), Err(expected), "{template}");
        }
    }

    #[test]
    fn the_bound_of_a_template_covers_it() {
        for (template, bound) in [
            ("news", "news"),
            ("news/*", "news/*"),
            ("*", "*"),
            ("users/{sub}", "users/*"),
            ("a/b/{x}/c/{y}/*", "a/b/*"),
            ("{tenant}/orders", "*"),
        ] {
            assert_eq!(TopicTemplate::parse(template).unwrap().bound().as_str(), bound, "{template}");
        }
    }

    #[test]
    fn a_subject_keeps_visible_characters_and_different_users_never_share_one() {
        let fill = |template: &str, tenant: &str, sub: &str| {
            let claims = HashMap::from([("tenant", json!(tenant)), ("sub", json!(sub))]);
            let subject = SubjectTemplate::parse(template).unwrap().fill(&claims);
            subject.map(|subject| subject.as_str().to_owned())
        };
        assert_eq!(fill("{sub}", "", "auth0|7/$*").as_deref(), Ok("auth0|7/$*"));
        assert_eq!(fill("{sub}", "", "J\u{f6}rg %").as_deref(), Ok("J%C3%B6rg%20%25"));
        assert_eq!(fill("user:{sub}", "", "a:b").as_deref(), Ok("user:a:b"));
        assert_eq!(fill("{tenant}:{sub}", "a:b", "c").as_deref(), Ok("a%3Ab:c"));
        assert_eq!(fill("{tenant}:{sub}", "a", "b:c").as_deref(), Ok("a:b%3Ac"));
        assert_eq!(fill("{sub}", "", &"x".repeat(129)), Err(ClaimError::TooLong));
        for (template, expected) in [
            ("", TemplateError::Subject),
            ("user", TemplateError::Subject),
            ("user {sub}", TemplateError::Subject),
            ("{tenant}{sub}", TemplateError::Ambiguous),
            ("{tenant}x{sub}", TemplateError::Ambiguous),
            ("{tenant}%{sub}", TemplateError::Ambiguous),
        ] {
            assert_eq!(SubjectTemplate::parse(template), Err(expected), "{template}");
        }
    }

    proptest! {
        #[test]
        fn no_claim_reaches_beyond_its_segment(value in any::<String>(), other in any::<String>()) {
            let template = TopicTemplate::parse("a/{sub}/b").unwrap();
            if let Ok(topic) = topic("a/{sub}/b", &json!(value)) {
                let pattern = Pattern::parse(&topic).unwrap();
                prop_assert!(template.bound().covers(&pattern));
                prop_assert_eq!(topic.split('/').count(), 3);
                prop_assert!(topic.starts_with("a/") && topic.ends_with("/b") && !topic.contains(['*', '$']));
            }
            let same = topic("a/{sub}/b", &json!(value)) == topic("a/{sub}/b", &json!(other));
            let is_refused = topic("a/{sub}/b", &json!(value)).is_err();
            prop_assert!(!same || value == other || is_refused);
        }

        #[test]
        fn two_claims_of_a_subject_never_run_into_each_other(
            one in ("[a:%-]{1,4}", "[a:%-]{1,4}"),
            other in ("[a:%-]{1,4}", "[a:%-]{1,4}"),
        ) {
            let template = SubjectTemplate::parse("{t}:-{s}").unwrap();
            let fill = |(t, s): &(String, String)| template.fill(&HashMap::from([("t", json!(t)), ("s", json!(s))]));
            prop_assert_eq!(fill(&one) == fill(&other), one == other);
        }

        #[test]
        fn no_template_makes_parsing_panic(text in "[a-z{}/*$%: ]{0,20}") {
            let _ = TopicTemplate::parse(&text);
            let _ = SubjectTemplate::parse(&text);
        }
    }
}
