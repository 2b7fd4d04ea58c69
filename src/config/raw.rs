//! What can be written down, in the shape of `defaults.toml`. Numbers are wide so that range checks can name them.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use config::{ConfigError, File, FileFormat};
use serde::de::{DeserializeOwned, Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{DEFAULTS, environment};

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) principal_token: String,
    pub(super) principal_token_file: String,
    pub(super) principals: Vec<RawPrincipal>,
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

/// What [`Raw`] says of principals. All that someone needs who acts as one, whatever else is set.
#[derive(Deserialize)]
pub(super) struct RawPrincipals {
    pub(super) principal_token: String,
    pub(super) principal_token_file: String,
    pub(super) principals: Vec<RawPrincipal>,
}

impl From<&Raw> for RawPrincipals {
    fn from(raw: &Raw) -> Self {
        Self {
            principal_token: raw.principal_token.clone(),
            principal_token_file: raw.principal_token_file.clone(),
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
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a section with keys of its own")]
pub(super) struct RawInstance {
    pub(super) id: String,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a section with keys of its own")]
pub(super) struct RawHttp {
    pub(super) listen: String,
    pub(super) workers: Whole,
    pub(super) body_timeout_seconds: Whole,
    #[serde(deserialize_with = "list")]
    pub(super) trusted_proxies: Vec<String>,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a section with keys of its own")]
pub(super) struct RawToken {
    pub(super) ttl_seconds: Whole,
    #[serde(deserialize_with = "list")]
    pub(super) signing_keys: Vec<String>,
    pub(super) signing_keys_file: String,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a section with keys of its own")]
pub(super) struct RawMemory {
    pub(super) max_entries: Whole,
    pub(super) max_bytes: Whole,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a section with keys of its own")]
pub(super) struct RawRedis {
    pub(super) url: String,
    pub(super) url_file: String,
    pub(super) host: String,
    pub(super) port: Whole,
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
    pub(super) db: Whole,
    pub(super) tls: Switch,
    pub(super) ca_file: String,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a section with keys of its own")]
pub(super) struct RawEvents {
    pub(super) log_entries: Whole,
    pub(super) ring_entries: Whole,
    pub(super) ring_bytes: Whole,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a section with keys of its own")]
pub(super) struct RawStreams {
    pub(super) max: Whole,
    pub(super) heartbeat_seconds: Whole,
    pub(super) gather_milliseconds: Whole,
    pub(super) max_age_seconds: Whole,
    pub(super) retry_milliseconds: Whole,
    pub(super) principal_in_query: Switch,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a section with keys of its own")]
pub(super) struct RawLimits {
    pub(super) issue_per_second: Whole,
    pub(super) failed_auth_per_minute: Whole,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a section with keys of its own")]
pub(super) struct RawDrain {
    pub(super) window_seconds: Whole,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a section with keys of its own")]
pub(super) struct RawAudit {
    pub(super) file: String,
    pub(super) client_address: String,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a section with keys of its own")]
pub(super) struct RawLog {
    pub(super) level: String,
    pub(super) format: String,
}

/// A whole number, or in the environment its digits. The configuration library would also take `true` for 1 and
/// 1.5 for 2.
#[derive(Clone, Copy, Serialize)]
#[serde(transparent)]
pub(super) struct Whole(pub(super) i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Whole, E> {
                Ok(Whole(value))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Whole, E> {
                let wrong = |_| E::invalid_value(Unexpected::Str(text), &self);
                text.trim().parse().map(Whole).map_err(wrong)
            }
        }
        deserializer.deserialize_any(Digits)
    }
}

/// `true` or `false`. The configuration library would also take 1, "yes" and "on".
#[derive(Clone, Copy, Serialize)]
#[serde(transparent)]
pub(super) struct Switch(pub(super) bool);

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = Switch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Switch, E> {
                Ok(Switch(value))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Switch, E> {
                let wrong = |_| E::invalid_value(Unexpected::Str(text), &self);
                text.trim().parse().map(Switch).map_err(wrong)
            }
        }
        deserializer.deserialize_any(Word)
    }
}

/// A list, or in the environment one text with commas between its items.
fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "this value is not allowed; expected is a list of texts")]
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

/// Everything.
pub(super) fn read(file: Option<&Path>, environment: &HashMap<String, String>) -> Result<Raw, Vec<String>> {
    let complaints = environment::complaints(environment);
    if complaints.is_empty() { layered(file, environment) } else { Err(complaints) }
}

/// What is said of principals; the rest may be wrong.
pub(super) fn read_principals(
    file: Option<&Path>,
    environment: &HashMap<String, String>,
) -> Result<RawPrincipals, Vec<String>> {
    layered(file, environment)
}

/// Lays file and environment over the defaults.
fn layered<T: DeserializeOwned>(
    file: Option<&Path>,
    environment: &HashMap<String, String>,
) -> Result<T, Vec<String>> {
    let sectioned = config::Environment::with_prefix("VX11_OPERATOR")
        .prefix_separator("__")
        .separator("__")
        .source(Some(environment::sectioned(environment)));
    let mut sources = config::Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
    if let Some(file) = file {
        sources = sources.add_source(File::from(file).format(FileFormat::Toml));
    }
    sources = sources.add_source(sectioned);
    for (key, value) in environment::aliased(environment) {
        sources = sources.set_override(key, value).map_err(|error| vec![explain(&error)])?;
    }
    sources.build().and_then(config::Config::try_deserialize).map_err(|error| vec![explain(&error)])
}

/// Puts a complaint of the configuration library into our words. Values are repeated only for keys that cannot
/// hold a secret.
fn explain(error: &ConfigError) -> String {
    match error {
        ConfigError::Type { key: Some(key), unexpected, expected, .. } if !is_secret(key) => {
            format!("{}: {unexpected} is not allowed; expected is {expected}", environment::describe(key))
        }
        ConfigError::Type { key, expected, .. } => {
            let key = key.as_deref().unwrap_or("a key");
            format!("{}: this value is not allowed; expected is {expected}", environment::describe(key))
        }
        ConfigError::At { error, key, .. } => match key {
            Some(key) => format!("{}: {}", environment::describe(key), explain(error)),
            None => explain(error),
        },
        ConfigError::FileParse { uri, cause } => {
            let file = uri.as_deref().unwrap_or("the file");
            // The parser quotes the line it stumbles over, which may hold a secret; its first line only says where.
            let place = cause.to_string();
            format!("{file}: not valid TOML: {}", place.lines().next().unwrap_or_default())
        }
        ConfigError::Message(message) => without_value(message),
        ConfigError::NotFound(key) => format!("{}: is missing", environment::describe(key)),
        other => other.to_string(),
    }
}

/// A message of the deserialiser, "invalid type: string "x", expected y", without the value it quotes: a secret
/// may have been written where something else belongs.
fn without_value(message: &str) -> String {
    match message.rsplit_once(", expected ") {
        Some((problem, expected)) if problem.starts_with("invalid ") => {
            format!("this value is not allowed; expected is {expected}")
        }
        _ => message.to_owned(),
    }
}

fn is_secret(key: &str) -> bool {
    key.starts_with("principal")
        || key.contains("signing_keys")
        || key.contains("password")
        // A URL may contain a password, and may be given where a host belongs.
        || ["redis.url", "redis.url_file", "redis.host", "redis.sentinels", "redis.cluster_nodes"].contains(&key)
}
