//! Namespace of the keys in Redis: deployments that share a database have different ones.

use std::fmt;

/// Default namespace. Its keys have the names of releases before namespaces existed.
const DEFAULT: &str = "vx11";
const LONGEST: usize = 32;

/// Prefix of a deployment's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace(String);

impl Namespace {
    /// Parses 1 to 32 characters of `a-z 0-9 -`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_name = (1..=LONGEST).contains(&name.len()) && name.bytes().all(is_allowed);
        is_name.then(|| Self(name.to_owned()))
    }

    /// Name of a key with the common hash tag: Redis Cluster keeps all such keys on one node.
    pub(crate) fn together(&self, name: impl fmt::Display) -> String {
        format!("{{{}}}:{name}", self.0)
    }

    /// Name of a key, or prefix of names, that Redis Cluster places by the whole name.
    pub(crate) fn apart(&self, name: impl fmt::Display) -> String {
        if self.0 == DEFAULT { name.to_string() } else { format!("{}:{name}", self.0) }
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self(DEFAULT.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_namespace_leaves_keys_as_they_were_and_any_other_begins_all_of_them() {
        let default = Namespace::parse("vx11").unwrap();
        assert_eq!(default, Namespace::default());
        assert_eq!(
            (default.together("log").as_str(), default.apart("token:").as_str()),
            ("{vx11}:log", "token:")
        );
        let other = Namespace::parse("staging-2").unwrap();
        assert_eq!(
            (other.together("log").as_str(), other.apart("token:").as_str()),
            ("{staging-2}:log", "staging-2:token:")
        );
    }

    #[test]
    fn a_namespace_has_1_to_32_lower_case_letters_digits_and_hyphens() {
        assert!(Namespace::parse(&"a".repeat(32)).is_some());
        for wrong in ["", "Staging", "a b", "a:b", "{a}", "a*", "ä", &"a".repeat(33)] {
            assert!(Namespace::parse(wrong).is_none(), "{wrong}");
        }
    }
}
