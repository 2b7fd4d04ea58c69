//! Principals: the long-lived identities that may issue, publish and administer.
//!
//! Every configured principal may do all of these; an ephemeral token may do nothing but open a
//! stream. Only hashes of the secrets are kept.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

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

/// All principals of an instance, with the hashes of their secrets. One id may have several
/// secrets, as while a secret is being rotated.
#[derive(Clone)]
pub struct Principals {
    ids: Vec<PrincipalId>,
    /// SHA-256 of a secret and the index of its owner in `ids`.
    secrets: Vec<([u8; 32], u32)>,
}

impl Principals {
    /// Builds the table from pairs of id and secret.
    ///
    /// # Panics
    /// With 2^32 principals or more, which no configuration can hold.
    #[must_use]
    pub fn new<'a>(pairs: impl IntoIterator<Item = (PrincipalId, &'a str)>) -> Self {
        let mut table = Self { ids: Vec::new(), secrets: Vec::new() };
        for (id, secret) in pairs {
            let owner = table.ids.iter().position(|known| *known == id).unwrap_or_else(|| {
                table.ids.push(id);
                table.ids.len() - 1
            });
            let owner = u32::try_from(owner).expect("a configuration file cannot hold 2^32 principals");
            table.secrets.push((Sha256::digest(secret).into(), owner));
        }
        table
    }

    /// Whose secret `presented` is. Takes the same time for every wrong answer and for every right
    /// one.
    #[must_use]
    pub fn authenticate(&self, presented: &[u8]) -> Option<&PrincipalId> {
        let hash: [u8; 32] = Sha256::digest(presented).into();
        let mut owner = 0_u32;
        let mut found = Choice::from(0);
        for (secret, candidate) in &self.secrets {
            let same = secret.ct_eq(&hash);
            owner.conditional_assign(candidate, same);
            found |= same;
        }
        if bool::from(found) { self.ids.get(owner as usize) } else { None }
    }

    /// All ids.
    pub fn ids(&self) -> impl Iterator<Item = &PrincipalId> {
        self.ids.iter()
    }
}

impl fmt::Debug for Principals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.ids).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> PrincipalId {
        PrincipalId::parse(name).unwrap()
    }

    #[test]
    fn each_secret_authenticates_its_owner_and_nothing_else_does() {
        let principals = Principals::new([(id("a"), "one"), (id("b"), "two"), (id("a"), "three")]);
        let who = |secret: &str| principals.authenticate(secret.as_bytes()).map(PrincipalId::as_str);
        assert_eq!(who("one"), Some("a"));
        assert_eq!(who("two"), Some("b"));
        assert_eq!(who("three"), Some("a"));
        for wrong in ["", "One", "on", "onee", "tw\u{f6}"] {
            assert_eq!(who(wrong), None, "{wrong}");
        }
        assert_eq!(principals.ids().count(), 2);
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
    fn debug_output_shows_ids_only() {
        assert_eq!(format!("{:?}", Principals::new([(id("a"), "secret")])), r#"[PrincipalId("a")]"#);
    }
}
