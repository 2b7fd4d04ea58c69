//! The environment's names: short ones, most of them the predecessor's, and what they stand for.

use std::collections::HashMap;

/// A short name and the key it stands for.
const ALIASES: [(&str, &str); 22] = [
    ("VX11_PRINCIPAL_TOKEN", "principal_token"),
    ("VX11_PRINCIPAL_TOKEN_FILE", "principal_token_file"),
    ("EPHEMERAL_TOKEN_TTL_SEC", "token.ttl_seconds"),
    ("INSTANCE_ID", "instance.id"),
    ("VX11_OPERATOR_LOG_LEVEL", "log.level"),
    ("VX11_OPERATOR_LOG_FORMAT", "log.format"),
    ("VX11_OPERATOR_LISTEN", "http.listen"),
    ("VX11_OPERATOR_SIGNING_KEYS", "token.signing_keys"),
    ("VX11_OPERATOR_SIGNING_KEYS_FILE", "token.signing_keys_file"),
    ("REDIS_URL", "redis.url"),
    ("REDIS_URL_FILE", "redis.url_file"),
    ("REDIS_HOST", "redis.host"),
    ("REDIS_PORT", "redis.port"),
    ("REDIS_USERNAME", "redis.username"),
    ("REDIS_PASSWORD", "redis.password"),
    ("REDIS_PASSWORD_FILE", "redis.password_file"),
    ("REDIS_DB", "redis.db"),
    ("REDIS_SENTINELS", "redis.sentinels"),
    ("REDIS_SENTINEL_MASTER", "redis.sentinel_master"),
    ("REDIS_SENTINEL_PASSWORD", "redis.sentinel_password"),
    ("REDIS_SENTINEL_PASSWORD_FILE", "redis.sentinel_password_file"),
    ("REDIS_CLUSTER_NODES", "redis.cluster_nodes"),
];
/// Variables of the same family that belong to others, the gateway and the command-line client; environment files are
/// often shared.
const OTHERS: [&str; 3] = ["VX11_OPERATOR_PROXY_ENABLED", "VX11_OPERATOR_URL", "VX11_OPERATOR_CA"];
/// Whoever sets a variable that begins like this means us.
const FAMILIES: [&str; 3] = ["VX11_OPERATOR_", "VX11_PRINCIPAL_", "EPHEMERAL_TOKEN_"];
const SECTIONED: &str = "VX11_OPERATOR__";

/// The key with its short name, for messages.
pub(super) fn describe(key: &str) -> String {
    match ALIASES.iter().find(|(_, aliased)| *aliased == key) {
        Some((name, _)) => format!("{key} ({name})"),
        // The configuration library leaves out the dot after an item of a list.
        None => key.replace(']', "].").trim_end_matches('.').to_owned(),
    }
}

/// Keys and values set through short names; empty values count as not set.
pub(super) fn aliased(environment: &HashMap<String, String>) -> impl Iterator<Item = (&'static str, &str)> {
    ALIASES
        .iter()
        .filter_map(|(name, key)| Some((*key, environment.get(*name)?.as_str())))
        .filter(|(_, value)| !value.is_empty())
}

/// Variables in the form `VX11_OPERATOR__SECTION__KEY`.
pub(super) fn sectioned(environment: &HashMap<String, String>) -> HashMap<String, String> {
    let ours = environment.iter().filter(|(name, value)| name.starts_with(SECTIONED) && !value.is_empty());
    ours.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Variables that would be ignored although someone set them for us, in alphabetical order.
pub(super) fn unknown(environment: &HashMap<String, String>) -> Vec<&str> {
    let known = |name: &str| ALIASES.iter().any(|(alias, _)| *alias == name) || OTHERS.contains(&name);
    let names = environment.keys().map(String::as_str);
    let mut unknown: Vec<_> = names
        .filter(|name| FAMILIES.iter().any(|family| name.starts_with(family)))
        .filter(|name| !name.starts_with(SECTIONED) && !known(name))
        .collect();
    unknown.sort_unstable();
    unknown
}

/// A complaint about each unknown variable.
pub(super) fn complaints(environment: &HashMap<String, String>) -> Vec<String> {
    let complaints = unknown(environment).into_iter().map(|name| {
        let allowed: Vec<_> = ALIASES.iter().map(|(alias, _)| *alias).collect();
        format!("{name}: unknown variable; allowed are {}, and {SECTIONED}SECTION__KEY", allowed.join(", "))
    });
    complaints.collect()
}
