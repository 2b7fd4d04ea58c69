//! Environment variables: short names, most of them the predecessor's, and their keys.

use std::collections::{BTreeMap, HashMap};

use super::keys::{Keys, LISTS_OF_TABLES, closest};

/// A short name and its key.
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
/// Variables with our prefixes that belong to the gateway and the command-line client. Environment
/// files are often shared.
const OTHERS: [&str; 3] = ["VX11_OPERATOR_PROXY_ENABLED", "VX11_OPERATOR_URL", "VX11_OPERATOR_CA"];
/// Prefixes of variables that are meant for the service.
const FAMILIES: [&str; 3] = ["VX11_OPERATOR_", "VX11_PRINCIPAL_", "EPHEMERAL_TOKEN_"];
const SECTIONED: &str = "VX11_OPERATOR__";

/// The short name of a key, if it has one.
pub(super) fn short_name(key: &str) -> Option<&'static str> {
    ALIASES.iter().find(|(_, aliased)| *aliased == key).map(|(name, _)| *name)
}

/// A variable and its value.
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
}

/// Keys that a variable sets. A short name takes precedence over the long one. An empty variable
/// counts as not set.
pub(super) fn set(environment: &HashMap<String, String>, keys: &Keys) -> BTreeMap<String, Variable> {
    let long = environment.iter().filter_map(|(name, value)| {
        let key = long_key(name).filter(|key| keys.contains(key) && !is_list_of_tables(key))?;
        Some((key, name.as_str(), value))
    });
    let short =
        ALIASES.iter().filter_map(|(name, key)| Some(((*key).to_owned(), *name, environment.get(*name)?)));
    long.chain(short)
        .filter(|(_, _, value)| !value.is_empty())
        .map(|(key, name, value)| (key, Variable { name: name.to_owned(), value: value.clone() }))
        .collect()
}

/// Variables with our prefixes that neither the service nor its clients read, in alphabetical
/// order, without those of the form `VX11_OPERATOR__SECTION__KEY`.
pub(super) fn unknown(environment: &HashMap<String, String>) -> Vec<&str> {
    let mut unknown: Vec<_> =
        environment.keys().map(String::as_str).filter(|name| is_unknown(name)).collect();
    unknown.sort_unstable();
    unknown
}

fn is_unknown(name: &str) -> bool {
    let is_ours = FAMILIES.iter().any(|family| name.starts_with(family)) && !name.starts_with(SECTIONED);
    is_ours && !OTHERS.contains(&name) && !ALIASES.iter().any(|(alias, _)| *alias == name)
}

/// Errors about variables that were set for the service and would be ignored.
pub(super) fn complaints(environment: &HashMap<String, String>, keys: &Keys) -> Vec<String> {
    let mut names: Vec<_> = environment.iter().collect();
    names.sort_unstable();
    names.into_iter().filter_map(|(name, value)| complaint(name, value, keys)).collect()
}

fn complaint(name: &str, value: &str, keys: &Keys) -> Option<String> {
    let problem = if let Some(key) = long_key(name) {
        if value.is_empty() || keys.contains(&key) && !is_list_of_tables(&key) {
            return None;
        }
        unknown_long(&key, keys)
    } else {
        if !is_unknown(name) {
            return None;
        }
        unknown_short(name, keys)
    };
    Some(format!("{name}: {problem}"))
}

fn unknown_long(key: &str, keys: &Keys) -> String {
    let section = key.split('.').next().unwrap_or_default();
    let of_section = || keys.of_section(section).collect::<Vec<_>>().join(", ");
    if is_list_of_tables(key) {
        let folder = format!("; {} names a folder with a file for each", long_name("principals_dir"));
        let folder = if key == "principals" { folder.as_str() } else { "" };
        format!("only a file can list {key}, as [[{key}]]{folder}")
    } else if keys.is_section(key) {
        format!("{key} is a section; its keys are {} ({SECTIONED}{}__KEY)", of_section(), key.to_uppercase())
    } else if let Some(meant) = keys.meant_by(key) {
        let key = if keys.is_section(meant) { format!("{meant}.KEY") } else { meant.to_owned() };
        format!("unknown variable; did you mean {}?", long_name(&key))
    } else if keys.is_section(section) {
        format!("unknown variable; keys of {section} are {}", of_section())
    } else {
        let sections: Vec<_> = keys.sections().into_iter().collect();
        format!("unknown variable; sections are {}", sections.join(", "))
    }
}

fn unknown_short(name: &str, keys: &Keys) -> String {
    let short = || ALIASES.iter().map(|(alias, _)| *alias);
    // A long name with one `_` instead of two.
    let flat = |key: &&str| long_name(key).replace("__", "_") == name;
    let meant =
        keys.all().find(flat).map(long_name).or_else(|| closest(name, short()).map(ToOwned::to_owned));
    if let Some(meant) = meant {
        return format!("unknown variable; did you mean {meant}?");
    }
    let allowed: Vec<_> = short().collect();
    format!("unknown variable; allowed are {}, and {SECTIONED}SECTION__KEY", allowed.join(", "))
}

fn is_list_of_tables(key: &str) -> bool {
    LISTS_OF_TABLES.iter().any(|(list, _)| *list == key)
}

/// The key of a variable `VX11_OPERATOR__SECTION__KEY`, whether it exists or not.
fn long_key(name: &str) -> Option<String> {
    Some(name.strip_prefix(SECTIONED)?.to_lowercase().replace("__", "."))
}

fn long_name(key: &str) -> String {
    format!("{SECTIONED}{}", key.to_uppercase().replace('.', "__"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_the_service_and_of_its_clients_are_not_unknown() {
        let names = [
            "TERM",
            "VX11_OPERATOR_CA",
            "VX11_OPERATOR_LISTEN",
            "VX11_OPERATOR_URI",
            "VX11_OPERATOR_URL",
            "VX11_OPERATOR__STREAMS__MAX",
            "VX11_PRINCIPAL_TOKEN",
        ];
        let environment = names.map(|name| (name.to_owned(), "x".to_owned())).into();
        assert_eq!(unknown(&environment), ["VX11_OPERATOR_URI"]);
    }
}
