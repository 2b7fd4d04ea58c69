//! All keys of `defaults.toml`, and suggestions for unknown ones.

use std::collections::BTreeSet;

use super::DEFAULTS;

/// The fields of the entries of a list of tables.
pub(super) struct Fields {
    /// An entry, for errors.
    pub(super) entry: &'static str,
    pub(super) names: &'static [&'static str],
}

/// The fields of an entry of `principals`, and of a file in the folder of principals.
pub(super) const PRINCIPAL: Fields =
    Fields { entry: "a principal", names: &["id", "token", "token_file", "rights", "topics"] };
/// The fields of an entry of `issuers`.
pub(super) const ISSUER: Fields = Fields {
    entry: "an issuer",
    names: &[
        "id",
        "issuer",
        "audience",
        "jwks_url",
        "jwks_file",
        "algorithms",
        "rights",
        "topics",
        "subject",
    ],
};
/// The lists of tables, which no variable can set.
pub(super) const LISTS_OF_TABLES: [(&str, Fields); 2] = [("principals", PRINCIPAL), ("issuers", ISSUER)];
/// Bound of the edits between a misspelt name and a suggestion.
const SLIP: usize = 2;
/// Shortest name that counts as an abbreviation.
const SHORTEST_ABBREVIATION: usize = 3;

/// All keys by full name, `section.key`.
pub(super) struct Keys(BTreeSet<String>);

impl Keys {
    /// The keys of the built-in defaults.
    pub(super) fn of_defaults() -> Self {
        let defaults: toml::Table = DEFAULTS.parse().expect("the built-in defaults are TOML");
        let mut keys = BTreeSet::new();
        for (name, value) in defaults {
            match value {
                toml::Value::Table(section) => keys.extend(section.keys().map(|key| format!("{name}.{key}"))),
                _ => drop(keys.insert(name)),
            }
        }
        Self(keys)
    }

    /// Whether there is a key with this full name.
    pub(super) fn contains(&self, key: &str) -> bool {
        self.0.contains(key)
    }

    /// Whether there is a section with this name.
    pub(super) fn is_section(&self, name: &str) -> bool {
        self.sections().contains(name)
    }

    /// Whether a key ends in this name.
    pub(super) fn has_name(&self, name: &str) -> bool {
        LISTS_OF_TABLES.iter().any(|(_, fields)| fields.names.contains(&name))
            || self.0.iter().any(|key| last(key) == name)
    }

    /// Whether a key that ends in this name may hold a secret, in any section.
    pub(super) fn may_be_secret(&self, name: &str) -> bool {
        ["token", "token_file"].contains(&name)
            || self.0.iter().any(|key| last(key) == name && is_secret(key))
    }

    /// All keys by their full name.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The names of the sections.
    pub(super) fn sections(&self) -> BTreeSet<&str> {
        self.0.iter().filter_map(|key| Some(key.split_once('.')?.0)).collect()
    }

    /// The names of the keys of a section.
    pub(super) fn of_section<'a>(&'a self, section: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter_map(move |key| key.strip_prefix(section)?.strip_prefix('.'))
    }

    /// The names of the keys outside all sections.
    pub(super) fn outside_sections(&self) -> impl Iterator<Item = &str> {
        self.all().filter(|key| !key.contains('.'))
    }

    /// Suggestion for an unknown key: the same name with `_` instead of the dot, a similar name in
    /// the same section, or the same name in another section.
    pub(super) fn meant_by(&self, unknown: &str) -> Option<&str> {
        let flat = unknown.replace('.', "_");
        let similar = || match unknown.split_once('.') {
            Some((section, name)) => {
                let meant = closest(name, self.of_section(section))?;
                self.0.get(&format!("{section}.{meant}")).map(String::as_str)
            }
            None => closest(unknown, self.outside_sections().chain(self.sections())),
        };
        self.all()
            .find(|key| key.replace('.', "_") == flat)
            .or_else(similar)
            .or_else(|| self.all().find(|key| last(key) == last(unknown)))
    }
}

/// The last part of a full name.
pub(super) fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// The candidate that is similar to `name`: with few edits the same, or one the prefix of the
/// other.
pub(super) fn closest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let distance = |candidate: &str| {
        let candidate = candidate.to_lowercase();
        let edits = strsim::osa_distance(&lower, &candidate);
        let shorter = lower.len().min(candidate.len());
        let begins = candidate.starts_with(&lower) || lower.starts_with(&candidate);
        let is_abbreviation = begins && shorter >= SHORTEST_ABBREVIATION;
        let is_slip = edits <= SLIP && edits * 3 <= shorter.max(SHORTEST_ABBREVIATION);
        (is_abbreviation || is_slip).then_some(edits)
    };
    candidates.filter_map(|candidate| Some((distance(candidate)?, candidate))).min().map(|(_, name)| name)
}

/// Whether a reload reads this key again; all others are read at start only.
pub(super) fn is_reloaded(key: &str) -> bool {
    key.starts_with("principal")
        || ["issuers", "token.signing_keys", "token.signing_keys_file", "token.allow_weak_principals"]
            .contains(&key)
}

/// Whether the value may be a secret.
pub(super) fn is_secret(key: &str) -> bool {
    key.starts_with("principal")
        || key.contains("signing_keys")
        || key.contains("password")
        // A URL may contain a password, and may be given instead of a host.
        || ["redis.url", "redis.url_file", "redis.host", "redis.sentinels", "redis.cluster_nodes"].contains(&key)
        || key == "redis.key_file"
}
