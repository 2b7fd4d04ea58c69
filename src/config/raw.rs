//! Types of the configuration as written, in the structure of `defaults.toml`. Numbers are wide, so
//! that range checks can name them.

use std::collections::BTreeSet;
use std::fmt;

use config::ConfigError;
use serde::de::{DeserializeOwned, Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use strum::VariantArray;

use super::ErrorCollector;
use super::keys::Keys;
use super::sources::root;
use crate::identity::Algorithm;
use crate::principal::Right;
use crate::topic::Patterns;

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) principal_token: String,
    pub(super) principal_token_file: String,
    pub(super) principals_dir: String,
    pub(super) principals: Vec<RawPrincipal>,
    pub(super) issuers: Vec<RawIssuer>,
    pub(super) instance: RawInstance,
    pub(super) http: RawHttp,
    pub(super) token: RawToken,
    pub(super) memory: RawMemory,
    pub(super) redis: RawRedis,
    pub(super) events: RawEvents,
    pub(super) streams: RawStreams,
    pub(super) limits: RawLimits,
    pub(super) drain: RawDrain,
    pub(super) audit: RawAudit,
    pub(super) log: RawLog,
}

/// The part of [`Raw`] about principals, which is all that a client needs.
#[derive(Deserialize)]
pub(super) struct RawPrincipals {
    pub(super) principal_token: String,
    pub(super) principal_token_file: String,
    pub(super) principals_dir: String,
    pub(super) principals: Vec<RawPrincipal>,
}

impl From<&Raw> for RawPrincipals {
    fn from(raw: &Raw) -> Self {
        Self {
            principal_token: raw.principal_token.clone(),
            principal_token_file: raw.principal_token_file.clone(),
            principals_dir: raw.principals_dir.clone(),
            principals: raw.principals.clone(),
        }
    }
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a table with id and token or token_file")]
pub(super) struct RawPrincipal {
    pub(super) id: String,
    #[serde(default)]
    pub(super) token: String,
    #[serde(default)]
    pub(super) token_file: String,
    #[serde(default = "all_rights", deserialize_with = "texts")]
    pub(super) rights: Vec<String>,
    #[serde(default = "all_topics", deserialize_with = "texts")]
    pub(super) topics: Vec<String>,
}

/// The rights of a principal whose rights are not configured.
pub(super) fn all_rights() -> Vec<String> {
    Right::VARIANTS.iter().map(ToString::to_string).collect()
}

/// The topics of a principal whose topics are not configured.
pub(super) fn all_topics() -> Vec<String> {
    Patterns::all().iter().map(ToString::to_string).collect()
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a table with id, issuer, audience, jwks_url or jwks_file, and topics"
)]
pub(super) struct RawIssuer {
    pub(super) id: String,
    pub(super) issuer: String,
    pub(super) audience: String,
    #[serde(default)]
    pub(super) jwks_url: String,
    #[serde(default)]
    pub(super) jwks_file: String,
    #[serde(default = "all_algorithms", deserialize_with = "texts")]
    pub(super) algorithms: Vec<String>,
    #[serde(default = "right_to_issue", deserialize_with = "texts")]
    pub(super) rights: Vec<String>,
    #[serde(deserialize_with = "texts")]
    pub(super) topics: Vec<String>,
    #[serde(default = "subject_claim")]
    pub(super) subject: String,
}

/// The algorithms of an issuer whose algorithms are not configured.
fn all_algorithms() -> Vec<String> {
    Algorithm::VARIANTS.iter().map(|algorithm| <&str>::from(algorithm).to_owned()).collect()
}

/// The rights of an issuer whose rights are not configured: its JWTs belong to end users.
fn right_to_issue() -> Vec<String> {
    vec![Right::Issue.to_string()]
}

/// The subject of an issuer whose subject is not configured.
fn subject_claim() -> String {
    "{sub}".to_owned()
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a section with keys")]
pub(super) struct RawInstance {
    pub(super) id: String,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a section with keys")]
pub(super) struct RawHttp {
    pub(super) listen: String,
    pub(super) workers: StrictInt,
    pub(super) body_timeout_seconds: StrictInt,
    pub(super) public_url: String,
    #[serde(deserialize_with = "list")]
    pub(super) trusted_proxies: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub(super) cors_origins: Vec<String>,
    pub(super) cookie_same_site: String,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a section with keys")]
pub(super) struct RawToken {
    pub(super) ttl_seconds: StrictInt,
    #[serde(deserialize_with = "list")]
    pub(super) signing_keys: Vec<String>,
    pub(super) signing_keys_file: String,
    pub(super) allow_weak_principals: StrictBool,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a section with keys")]
pub(super) struct RawMemory {
    pub(super) max_entries: StrictInt,
    pub(super) max_bytes: StrictInt,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a section with keys")]
pub(super) struct RawRedis {
    pub(super) url: String,
    pub(super) url_file: String,
    pub(super) host: String,
    pub(super) port: StrictInt,
    #[serde(deserialize_with = "list")]
    pub(super) sentinels: Vec<String>,
    pub(super) sentinel_master: String,
    pub(super) sentinel_password: String,
    pub(super) sentinel_password_file: String,
    #[serde(deserialize_with = "list")]
    pub(super) cluster_nodes: Vec<String>,
    pub(super) username: String,
    pub(super) password: String,
    pub(super) password_file: String,
    pub(super) db: StrictInt,
    pub(super) namespace: String,
    pub(super) tls: StrictBool,
    pub(super) ca_file: String,
    pub(super) cert_file: String,
    pub(super) key_file: String,
    pub(super) when_lost: String,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a section with keys")]
pub(super) struct RawEvents {
    pub(super) log_entries: StrictInt,
    pub(super) log_bytes: StrictInt,
    pub(super) ring_entries: StrictInt,
    pub(super) ring_bytes: StrictInt,
    pub(super) stream_topics: StrictBool,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a section with keys")]
pub(super) struct RawStreams {
    pub(super) max: StrictInt,
    pub(super) max_per_token: StrictInt,
    pub(super) max_per_principal: StrictInt,
    pub(super) per_subject: StrictInt,
    pub(super) per_subject_policy: String,
    pub(super) heartbeat_seconds: StrictInt,
    pub(super) gather_milliseconds: StrictInt,
    pub(super) max_age_seconds: StrictInt,
    pub(super) retry_milliseconds: StrictInt,
    pub(super) principal_in_query: StrictBool,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a section with keys")]
pub(super) struct RawLimits {
    pub(super) issue_per_second: StrictInt,
    pub(super) failed_auth_per_minute: StrictInt,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a section with keys")]
pub(super) struct RawDrain {
    pub(super) window_seconds: StrictInt,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a section with keys")]
pub(super) struct RawAudit {
    pub(super) file: String,
    pub(super) client_address: String,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a section with keys")]
pub(super) struct RawLog {
    pub(super) level: String,
    pub(super) format: String,
    pub(super) subjects: StrictBool,
}

/// An integer, or its digits in the environment. The configuration library would also accept `true`
/// as 1 and 1.5 as 2.
#[derive(Clone, Copy, Serialize)]
#[serde(transparent)]
pub(super) struct StrictInt(pub(super) i64);

impl<'de> Deserialize<'de> for StrictInt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = StrictInt;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<StrictInt, E> {
                Ok(StrictInt(value))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<StrictInt, E> {
                let wrong = |_| E::invalid_value(Unexpected::Str(text), &self);
                text.trim().parse().map(StrictInt).map_err(wrong)
            }
        }
        deserializer.deserialize_any(Digits)
    }
}

/// `true` or `false`. The configuration library would also accept 1, "yes" and "on".
#[derive(Clone, Copy, Serialize)]
#[serde(transparent)]
pub(super) struct StrictBool(pub(super) bool);

impl<'de> Deserialize<'de> for StrictBool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = StrictBool;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<StrictBool, E> {
                Ok(StrictBool(value))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<StrictBool, E> {
                let wrong = |_| E::invalid_value(Unexpected::Str(text), &self);
                text.trim().parse().map(StrictBool).map_err(wrong)
            }
        }
        deserializer.deserialize_any(Word)
    }
}

/// A list, or in the environment a text with commas between the items.
fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "invalid value, expected a list of texts")]
    enum Written {
        List(Vec<String>),
        Text(String),
    }
    let trimmed = |text: &str| text.trim().to_owned();
    Ok(match Written::deserialize(deserializer)? {
        Written::List(items) => items,
        Written::Text(text) => text.split(',').map(trimmed).filter(|item| !item.is_empty()).collect(),
    })
}

/// A list, which no variable can set.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let list: Result<Vec<String>, _> = Deserialize::deserialize(deserializer);
    list.map_err(|_| D::Error::custom("invalid value, expected a list of texts"))
}

/// Reads the keys of `T`. Adds an error for each value of the wrong type and continues with its
/// default, so that all are found. `None` if nothing can be read.
pub(super) fn read<T: DeserializeOwned>(complaints: &mut ErrorCollector, keys: &Keys) -> Option<T> {
    let mut without = BTreeSet::<String>::new();
    loop {
        let read = complaints.sources.merged(&without).and_then(config::Config::try_deserialize);
        let misfit = match read {
            Ok(raw) => {
                for key in &without {
                    complaints.judge_no_further(key);
                }
                return Some(raw);
            }
            Err(error) => Misfit::of(&error),
        };
        let key = misfit.key.unwrap_or_else(|| "a key".to_owned());
        let problem = match misfit.problem {
            Problem::Expected(expected) => {
                let value = complaints.sources.shown(&key);
                let value = value.as_deref().unwrap_or("this value");
                format!("{value} is not allowed; expected: {expected}")
            }
            Problem::Other(problem) => problem,
        };
        complaints.add(&key, problem);
        let root = root(&key).to_owned();
        if !keys.contains(&root) || !without.insert(root) {
            return None;
        }
    }
}

/// The key that the configuration library could not read, and the reason.
struct Misfit {
    key: Option<String>,
    problem: Problem,
}

enum Problem {
    /// A value of the wrong type. The library quotes it; it is left out here, because it may be a
    /// secret.
    Expected(String),
    Other(String),
}

impl Misfit {
    fn of(error: &ConfigError) -> Self {
        // The library omits the dot after an item of a list.
        let full = |key: &str| key.replace(']', "].").replace("..", ".").trim_end_matches('.').to_owned();
        match error {
            ConfigError::Type { key, expected, .. } => {
                Self { key: key.as_deref().map(full), problem: Problem::Expected((*expected).to_owned()) }
            }
            ConfigError::At { error, key, .. } => {
                let inner = Self::of(error);
                Self { key: key.as_deref().map(full).or(inner.key), problem: inner.problem }
            }
            ConfigError::NotFound(key) => {
                Self { key: Some(full(key)), problem: Problem::Other("is missing".to_owned()) }
            }
            other => {
                let message = other.to_string();
                let problem = match message.rsplit_once(", expected ") {
                    Some((_, expected)) if message.starts_with("invalid ") => {
                        Problem::Expected(expected.to_owned())
                    }
                    _ => Problem::Other(message),
                };
                Self { key: None, problem }
            }
        }
    }
}
