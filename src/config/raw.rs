//! What can be written down, in the shape of `defaults.toml`. Numbers are wide so that range checks can name them.

use std::collections::HashMap;
use std::path::Path;

use config::{ConfigError, File, FileFormat};
use serde::{Deserialize, Deserializer, Serialize};

use super::{DEFAULTS, environment};

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) principal_token: String,
    pub(super) principal_token_file: String,
    pub(super) principals: Vec<RawPrincipal>,
    pub(super) instance: RawInstance,
    pub(super) http: RawHttp,
    pub(super) token: RawToken,
    pub(super) memory: RawMemory,
    pub(super) events: RawEvents,
    pub(super) streams: RawStreams,
    pub(super) limits: RawLimits,
    pub(super) drain: RawDrain,
    pub(super) log: RawLog,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPrincipal {
    pub(super) id: String,
    #[serde(default)]
    pub(super) token: String,
    #[serde(default)]
    pub(super) token_file: String,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawInstance {
    pub(super) id: String,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHttp {
    pub(super) listen: String,
    pub(super) workers: i64,
    pub(super) body_timeout_seconds: i64,
    #[serde(deserialize_with = "list")]
    pub(super) trusted_proxies: Vec<String>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawToken {
    pub(super) ttl_seconds: i64,
    #[serde(deserialize_with = "list")]
    pub(super) signing_keys: Vec<String>,
    pub(super) signing_keys_file: String,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMemory {
    pub(super) max_entries: i64,
    pub(super) max_bytes: i64,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEvents {
    pub(super) ring_entries: i64,
    pub(super) ring_bytes: i64,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStreams {
    pub(super) max: i64,
    pub(super) heartbeat_seconds: i64,
    pub(super) max_age_seconds: i64,
    pub(super) retry_milliseconds: i64,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) issue_per_second: i64,
    pub(super) failed_auth_per_minute: i64,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDrain {
    pub(super) window_seconds: i64,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) level: String,
    pub(super) format: String,
}

/// A list, or in the environment one text with commas between its items.
fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        List(Vec<String>),
        Text(String),
    }
    let trimmed = |text: &str| text.trim().to_owned();
    Ok(match Written::deserialize(deserializer)? {
        Written::List(items) => items,
        Written::Text(text) => text
            .split(',')
            .map(trimmed)
            .filter(|item| !item.is_empty())
            .collect(),
    })
}

/// Lays file and environment over the defaults.
pub(super) fn read(file: Option<&Path>, environment: &HashMap<String, String>) -> Result<Raw, Vec<String>> {
    let complaints = environment::complaints(environment);
    if !complaints.is_empty() {
        return Err(complaints);
    }
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
        sources = sources
            .set_override(key, value)
            .map_err(|error| vec![explain(&error)])?;
    }
    sources
        .build()
        .and_then(config::Config::try_deserialize)
        .map_err(|error| vec![explain(&error)])
}

/// Puts a complaint of the configuration library into our words. Values are repeated only for keys that cannot
/// hold a secret.
fn explain(error: &ConfigError) -> String {
    match error {
        ConfigError::Type {
            key: Some(key),
            unexpected,
            expected,
            ..
        } if !is_secret(key) => {
            format!(
                "{}: {unexpected} is not allowed; expected is {expected}",
                environment::describe(key)
            )
        }
        ConfigError::Type { key, expected, .. } => {
            let key = key.as_deref().unwrap_or("a key");
            format!(
                "{}: this value is not allowed; expected is {expected}",
                environment::describe(key)
            )
        }
        ConfigError::At { error, key, .. } => match key {
            Some(key) => format!("{}: {}", environment::describe(key), explain(error)),
            None => explain(error),
        },
        ConfigError::FileParse { uri, cause } => {
            let file = uri.as_deref().unwrap_or("the file");
            // The parser quotes the line it stumbles over, which may hold a secret; its first line only says where.
            let place = cause.to_string();
            format!(
                "{file}: not valid TOML: {}",
                place.lines().next().unwrap_or_default()
            )
        }
        ConfigError::Message(message) => message.clone(),
        other => other.to_string(),
    }
}

fn is_secret(key: &str) -> bool {
    key.starts_with("principal") || key.contains("signing_keys")
}
