//! Principals: the long-lived identities that may issue, publish and administer, and their rights.
//!
//! A principal may do what its rights say, on topics that its patterns match. The right `observe`
//! alone decides about topics that belong to the service (`$…`): no pattern of a principal covers
//! them. An ephemeral token may do nothing but open a stream. Only hashes of the secrets are kept.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use strum::{EnumString, IntoStaticStr, VariantArray};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::clock::UnixMillis;
use crate::subject::Subject;
use crate::topic::Patterns;

/// Bound of the principals whose tokens need no grant. A plain token does not name its principal,
/// so each of these is tried.
pub const MOST_PLAIN: usize = 16;

/// The public name of a principal: 1 to 64 characters of `A-Z a-z 0-9 . _ -`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PrincipalId(Arc<str>);

impl PrincipalId {
    /// Checks the form of a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let fits = (1..=64).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        fits.then(|| Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PrincipalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Permission of a principal to do one kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, VariantArray, IntoStaticStr, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum Right {
    /// Issue tokens for topics of the principal.
    Issue,
    /// Publish to topics of the principal.
    Publish,
    /// Open streams with the credential, on topics of the principal.
    Subscribe,
    /// Introspect tokens.
    Introspect,
    /// Read figures, list streams, and subscribe to the service's own topics.
    Observe,
    /// Revoke tokens, end streams, block subjects.
    Control,
}

impl Right {
    /// The name, as in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of rights.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    /// All rights.
    #[must_use]
    pub fn all() -> Self {
        Right::VARIANTS.iter().copied().collect()
    }

    /// Whether a right is one of them.
    #[must_use]
    pub const fn contains(self, right: Right) -> bool {
        self.0 & right.bit() != 0
    }
}

impl FromIterator<Right> for Rights {
    fn from_iter<I: IntoIterator<Item = Right>>(rights: I) -> Self {
        Self(rights.into_iter().fold(0, |bits, right| bits | right.bit()))
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(Right::VARIANTS.iter().filter(|right| self.contains(**right))).finish()
    }
}

/// A principal and what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    id: PrincipalId,
    rights: Rights,
    topics: Patterns,
    user: Option<User>,
}

/// The end user whose JWT is the credential of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Subject of everything that is issued to the user.
    pub subject: Subject,
    /// The first moment at which the JWT is no longer valid.
    pub until: UnixMillis,
}

impl Principal {
    /// A principal with these rights, on topics that these patterns match.
    #[must_use]
    pub const fn new(id: PrincipalId, rights: Rights, topics: Patterns) -> Self {
        Self { id, rights, topics, user: None }
    }

    /// An issuer as the principal of one of its users, on topics of this user.
    #[must_use]
    pub const fn of_user(id: PrincipalId, rights: Rights, topics: Patterns, user: User) -> Self {
        Self { id, rights, topics, user: Some(user) }
    }

    /// Its public name.
    #[must_use]
    pub const fn id(&self) -> &PrincipalId {
        &self.id
    }

    /// Whether it has a right.
    #[must_use]
    pub const fn may(&self, right: Right) -> bool {
        self.rights.contains(right)
    }

    /// Patterns of the topics that it may issue tokens for, publish to and subscribe to. For topics
    /// that belong to the service, see [`Right::Observe`].
    #[must_use]
    pub const fn topics(&self) -> &Patterns {
        &self.topics
    }

    /// The user of the JWT; `None` if the credential is the principal's own.
    #[must_use]
    pub const fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    /// The topics of a request that names none: those of the user, or `default`.
    #[must_use]
    pub fn topics_by_default(&self) -> Patterns {
        if self.user.is_some() { self.topics.clone() } else { Patterns::default() }
    }
}

/// All principals of an instance, with the hashes of their secrets. One id may have several
/// secrets, as while a secret is being rotated.
#[derive(Clone)]
pub struct Principals {
    /// Principals with secrets in configured order, then issuers.
    all: Vec<Arc<Principal>>,
    /// Number of the principals with secrets.
    with_secrets: usize,
    /// Index in `all` by id.
    by_id: HashMap<PrincipalId, usize>,
    /// SHA-256 of a secret and the index of its owner in `all`.
    secrets: Vec<([u8; 32], u32)>,
}

impl Principals {
    /// Builds the table from pairs of principal and secret. Of several pairs with one id the first
    /// decides about rights and topics; the secrets of all count.
    ///
    /// # Panics
    /// With 2^32 principals or more, which no configuration can hold.
    #[must_use]
    pub fn new<'a>(entries: impl IntoIterator<Item = (Principal, &'a str)>) -> Self {
        let mut table = Self { all: Vec::new(), with_secrets: 0, by_id: HashMap::new(), secrets: Vec::new() };
        for (principal, secret) in entries {
            let owner = table.place_of(principal);
            let owner = u32::try_from(owner).expect("a configuration file cannot hold 2^32 principals");
            table.secrets.push((Sha256::digest(secret).into(), owner));
        }
        table.with_secrets = table.all.len();
        table
    }

    /// Adds the issuers of JWTs. They have no secrets, and their tokens always have a grant.
    #[must_use]
    pub fn with_issuers(mut self, issuers: impl IntoIterator<Item = Principal>) -> Self {
        for issuer in issuers {
            self.place_of(issuer);
        }
        self
    }

    /// Number of the principals whose tokens need no grant.
    fn plain_places(&self) -> usize {
        self.with_secrets.min(MOST_PLAIN)
    }

    /// Index of the principal with this id, which is added if there is none.
    fn place_of(&mut self, principal: Principal) -> usize {
        let next = self.all.len();
        let place = *self.by_id.entry(principal.id.clone()).or_insert(next);
        if place == next {
            self.all.push(Arc::new(principal));
        }
        place
    }

    /// Whose secret `presented` is. Takes the same time for every wrong answer and for every right
    /// one.
    #[must_use]
    pub fn authenticate(&self, presented: &[u8]) -> Option<&Arc<Principal>> {
        let hash: [u8; 32] = Sha256::digest(presented).into();
        let mut owner = 0_u32;
        let mut found = Choice::from(0);
        for (secret, candidate) in &self.secrets {
            let same = secret.ct_eq(&hash);
            owner.conditional_assign(candidate, same);
            found |= same;
        }
        if bool::from(found) { self.all.get(owner as usize) } else { None }
    }

    /// The principal with this id, in a time that does not grow with their number.
    #[must_use]
    pub fn find(&self, id: &PrincipalId) -> Option<&Arc<Principal>> {
        self.all.get(*self.by_id.get(id)?)
    }

    /// The principals whose tokens need no grant: the first [`MOST_PLAIN`].
    pub fn plain(&self) -> impl Iterator<Item = &PrincipalId> {
        self.all.iter().take(self.plain_places()).map(|principal| principal.id())
    }

    /// Whether tokens of this principal need no grant.
    #[must_use]
    pub fn is_plain(&self, id: &PrincipalId) -> bool {
        self.by_id.get(id).is_some_and(|place| *place < self.plain_places())
    }
}

impl fmt::Debug for Principals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all.iter().map(|principal| principal.id())).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> PrincipalId {
        PrincipalId::parse(name).unwrap()
    }

    fn unlimited(name: &str) -> Principal {
        Principal::new(id(name), Rights::all(), Patterns::all())
    }

    /// Principals with these names, each with its name as secret.
    fn named(names: &[String]) -> Principals {
        Principals::new(names.iter().map(|name| (unlimited(name), name.as_str())))
    }

    #[test]
    fn each_secret_authenticates_its_owner_and_nothing_else_does() {
        let principals =
            Principals::new([(unlimited("a"), "one"), (unlimited("b"), "two"), (unlimited("a"), "three")]);
        let who = |secret: &str| {
            principals.authenticate(secret.as_bytes()).map(|principal| principal.id().as_str())
        };
        assert_eq!(who("one"), Some("a"));
        assert_eq!(who("two"), Some("b"));
        assert_eq!(who("three"), Some("a"));
        for wrong in ["", "One", "on", "onee", "tw\u{f6}"] {
            assert_eq!(who(wrong), None, "{wrong}");
        }
        assert_eq!(principals.plain().count(), 2);
    }

    #[test]
    fn the_first_entry_of_an_id_decides_what_all_its_secrets_allow() {
        let limited = Principal::new(id("a"), [Right::Issue].into_iter().collect(), Patterns::default());
        let principals = Principals::new([(limited.clone(), "one"), (unlimited("a"), "two")]);
        for secret in ["one", "two"] {
            let owner = principals.authenticate(secret.as_bytes()).unwrap();
            assert_eq!(**owner, limited, "{secret}");
        }
        assert_eq!(**principals.find(&id("a")).unwrap(), limited);
    }

    #[test]
    fn a_principal_may_do_what_its_rights_say_and_nothing_else() {
        let principal =
            |rights: &[Right]| Principal::new(id("a"), rights.iter().copied().collect(), Patterns::all());
        for right in Right::VARIANTS {
            assert!(unlimited("a").may(*right) && !principal(&[]).may(*right), "{right}");
            for other in Right::VARIANTS {
                assert_eq!(principal(&[*right]).may(*other), right == other, "{right} {other}");
                let both = principal(&[*right, *other, *right]);
                assert!(both.may(*right) && both.may(*other), "{right} {other}");
            }
        }
    }

    #[test]
    fn a_right_is_parsed_from_its_name_only() {
        let names: Vec<_> = Right::VARIANTS.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["issue", "publish", "subscribe", "introspect", "observe", "control"]);
        for right in Right::VARIANTS {
            assert_eq!(right.name().parse::<Right>(), Ok(*right));
        }
        for wrong in ["", "Issue", "issue ", "all", "*"] {
            assert!(wrong.parse::<Right>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_principal_is_found_by_its_id() {
        let principals = named(&["a".to_owned(), "b".to_owned()]);
        for name in ["a", "b"] {
            assert_eq!(principals.find(&id(name)).map(|found| found.id()), Some(&id(name)));
        }
        assert!(principals.find(&id("c")).is_none());
    }

    #[test]
    fn tokens_of_the_first_16_principals_need_no_grant() {
        let names: Vec<_> = (0..MOST_PLAIN + 2).map(|number| format!("p{number}")).collect();
        let principals = named(&names);
        let plain: Vec<_> = principals.plain().map(PrincipalId::as_str).collect();
        assert_eq!(plain, names[..MOST_PLAIN]);
        for (number, name) in names.iter().enumerate() {
            assert_eq!(principals.is_plain(&id(name)), number < MOST_PLAIN, "{name}");
            assert!(principals.find(&id(name)).is_some(), "{name}");
        }
        assert!(!principals.is_plain(&id("stranger")));
    }

    #[test]
    fn an_issuer_is_found_has_no_secret_and_its_tokens_need_a_grant() {
        let principals = named(&["a".to_owned()]).with_issuers([unlimited("issuer")]);
        assert!(principals.find(&id("issuer")).is_some());
        assert!(principals.authenticate(b"issuer").is_none());
        assert!(!principals.is_plain(&id("issuer")) && principals.is_plain(&id("a")));
        assert_eq!(principals.plain().count(), 1);
    }

    #[test]
    fn a_request_that_names_no_topics_is_for_those_of_its_user_or_for_default() {
        let topics = Patterns::new(["users/7/*"]).unwrap();
        let user = User { subject: Subject::parse("7").unwrap(), until: UnixMillis(1) };
        let of_user = Principal::of_user(id("issuer"), Rights::all(), topics.clone(), user);
        assert_eq!(of_user.topics_by_default(), topics);
        assert!(Principal::new(id("a"), Rights::all(), topics).topics_by_default().is_default());
    }

    #[test]
    fn a_principal_is_written_by_its_name() {
        assert_eq!((id("a.B_1-").to_string().as_str(), id("a.B_1-").as_str()), ("a.B_1-", "a.B_1-"));
    }

    #[test]
    fn names_that_would_not_be_safe_in_a_log_are_refused() {
        for bad in ["", "a b", "a\n", "ä", &"x".repeat(65)] {
            assert!(PrincipalId::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn debug_output_shows_no_secret() {
        assert_eq!(format!("{:?}", Principals::new([(unlimited("a"), "secret")])), r#"[PrincipalId("a")]"#);
        let rights: Rights = [Right::Publish, Right::Issue].into_iter().collect();
        assert_eq!(format!("{rights:?}"), "{Issue, Publish}");
    }
}
