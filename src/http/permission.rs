//! Permission of a caller for topics, within the rights that the table of URLs demands.
//!
//! The topics of a principal bound what it may grant, read and publish to. Topics that belong to
//! the service (`$…`) are apart: the right `observe` alone decides who may read and grant them, and
//! nobody publishes to them. A token reads what its grant names.

use actix_web::HttpRequest;

use super::AppState;
use super::error::Problem;
use super::extract::audit_event;
use crate::audit::Act;
use crate::principal::{Principal, PrincipalId, Right};
use crate::token::{TokenId, first_not_grantable};
use crate::topic::{Patterns, Topics};

/// Part of a request that its caller is not permitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// The principal lacks this right.
    #[error("this principal lacks the right {0}")]
    Right(Right),
    /// The topics of the principal do not include this topic or pattern.
    #[error("the topics of this principal do not include {0}")]
    Topic(String),
    /// The grant of the token does not include this pattern.
    #[error("the grant of this token does not include {0}")]
    Granted(String),
    /// The token would be for another end user than the JWT.
    #[error("the JWT is of another subject, and a token for it can have no other one")]
    Subject,
    /// The topic to publish to belongs to the service.
    #[error("{0} belongs to the service, as all topics that begin with $: nobody else publishes to them")]
    OfService(String),
}

/// Checks that a principal has a right.
pub(super) fn has_right(principal: &Principal, right: Right) -> Result<(), Lack> {
    if principal.may(right) { Ok(()) } else { Err(Lack::Right(right)) }
}

/// Checks that a principal may grant or read these patterns.
pub(super) fn may_read(principal: &Principal, patterns: &Patterns) -> Result<(), Lack> {
    match first_not_grantable(principal, patterns) {
        None => Ok(()),
        Some(pattern) if pattern.is_of_service() => Err(Lack::Right(Right::Observe)),
        Some(pattern) => Err(Lack::Topic(pattern.to_string())),
    }
}

/// Checks that a principal may publish to these topics.
pub(super) fn may_publish(principal: &Principal, topics: &Topics) -> Result<(), Lack> {
    if let Some(topic) = topics.of_service() {
        return Err(Lack::OfService(topic.to_owned()));
    }
    let unmatched = principal.topics().first_unmatched(topics);
    unmatched.map_or(Ok(()), |topic| Err(Lack::Topic(topic.to_owned())))
}

/// The patterns of a stream whose token grants `granted`: those that the client asks for, or all.
pub(super) fn narrowed(granted: Patterns, asked: Option<Patterns>) -> Result<Patterns, Lack> {
    let Some(asked) = asked else { return Ok(granted) };
    match granted.first_beyond(&asked) {
        Some(pattern) => Err(Lack::Granted(pattern.to_string())),
        None => Ok(asked),
    }
}

/// Counts and audits a request that needs `right` and is not permitted. This is no failed
/// authentication: the credential is right, be it the principal's or a token that was issued to it.
pub(super) fn not_permitted(
    request: &HttpRequest,
    state: &AppState,
    principal: &PrincipalId,
    token: Option<TokenId>,
    right: Right,
    lack: Lack,
) -> Problem {
    let right = if let Lack::Right(missing) = lack { missing } else { right };
    state.metrics.not_permitted(right);
    // Without the topic, which may name a user.
    tracing::info!(%principal, %right, "request not permitted");
    let problem = Problem::NotPermitted(lack);
    let token_id = token.map(|token| token.to_string());
    let (code, principal, right) = (problem.code(), principal.as_str(), right.name());
    let act = Act::RefuseRequest { code, principal, right, token_id: token_id.as_deref() };
    audit_event(request, state, act);
    problem
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::principal::Rights;

    fn principal(rights: &[Right], topics: &[&str]) -> Principal {
        let id = PrincipalId::parse("backend").unwrap();
        let rights: Rights = rights.iter().copied().collect();
        Principal::new(id, rights, Patterns::new(topics.iter().copied()).unwrap())
    }

    fn patterns(texts: &[&str]) -> Patterns {
        Patterns::new(texts.iter().copied()).unwrap()
    }

    fn topic(text: &str) -> Lack {
        Lack::Topic(text.to_owned())
    }

    #[test]
    fn a_principal_reads_what_its_topics_cover() {
        let shop = principal(&[], &["orders/*", "news"]);
        for (asked, expected) in [
            (&["orders/1", "news"][..], Ok(())),
            (&["orders/*"], Ok(())),
            (&["orders/1/*"], Ok(())),
            (&["news", "users/7"], Err(topic("users/7"))),
            (&["orders"], Err(topic("orders"))),
            (&["*"], Err(topic("*"))),
            (&["default"], Err(topic("default"))),
        ] {
            assert_eq!(may_read(&shop, &patterns(asked)), expected, "{asked:?}");
        }
    }

    #[test]
    fn topics_of_the_service_need_the_right_to_observe_and_no_topic() {
        let missing: Result<(), Lack> = Err(Lack::Right(Right::Observe));
        for (rights, topics, expected) in [
            (&[Right::Issue][..], &["*"][..], missing.clone()),
            (&[Right::Issue], &["$streams/*"], missing),
            (&[Right::Observe], &["news"], Ok(())),
        ] {
            let principal = principal(rights, topics);
            assert_eq!(may_read(&principal, &patterns(&["$streams/opened"])), expected, "{rights:?}");
        }
        // It is no permission for anything else.
        let observer = principal(&[Right::Observe], &["news"]);
        assert_eq!(may_read(&observer, &patterns(&["$streams/*", "users/7"])), Err(topic("users/7")));
    }

    #[test]
    fn nobody_publishes_to_topics_of_the_service() {
        let all = Principal::new(PrincipalId::parse("a").unwrap(), Rights::all(), patterns(&["*", "$a/*"]));
        let topics = Topics::parse("news $a/b").unwrap();
        assert_eq!(may_publish(&all, &topics), Err(Lack::OfService("$a/b".to_owned())));
    }

    #[test]
    fn a_principal_publishes_to_topics_that_its_own_match() {
        let shop = principal(&[Right::Publish], &["orders/*", "news"]);
        for (topics, expected) in [
            ("orders/1 news", Ok(())),
            ("news users/7", Err(topic("users/7"))),
            ("default", Err(topic("default"))),
        ] {
            assert_eq!(may_publish(&shop, &Topics::parse(topics).unwrap()), expected, "{topics}");
        }
    }

    #[test]
    fn a_stream_without_a_wish_gets_all_that_is_granted() {
        let granted = patterns(&["orders/*", "$streams/opened"]);
        assert_eq!(narrowed(granted.clone(), None), Ok(granted));
    }

    proptest! {
        #[test]
        fn narrowing_never_reaches_beyond_the_grant(
            granted in prop::collection::btree_set("(\\$)?[ab](/[ab]){0,2}(/\\*)?|\\*", 1..4),
            asked in prop::collection::btree_set("(\\$)?[ab](/[ab]){0,2}(/\\*)?|\\*", 1..4),
            topic in "(\\$)?[ab](/[ab]){0,3}",
        ) {
            let of = |texts: &std::collections::BTreeSet<String>| {
                Patterns::new(texts.iter().map(String::as_str)).unwrap()
            };
            let (granted, asked) = (of(&granted), of(&asked));
            if let Ok(given) = narrowed(granted.clone(), Some(asked.clone())) {
                prop_assert_eq!(&given, &asked);
                prop_assert!(!given.matches(&topic) || granted.matches(&topic), "{}", topic);
            }
        }
    }
}
