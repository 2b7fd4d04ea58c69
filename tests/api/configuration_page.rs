//! `docs/configuration.md` says what there is to configure: all of it, and nothing else.

use std::collections::BTreeMap;

use vx11_kit::{RedisServer, remember_secret};

use crate::support::{Instance, file, random_hex};

const PAGE: &str = include_str!("../../docs/configuration.md");
/// In the column of the environment: the key can be set in a file only.
const FILE_ONLY: &str = "—";

struct Row<'a> {
    key: &'a str,
    variable: Option<&'a str>,
    default: &'a str,
}

/// The rows of the table of keys.
fn rows() -> Vec<Row<'static>> {
    let code = |cell: &'static str| cell.trim().trim_matches('`');
    let table = PAGE.lines().filter(|line| line.starts_with("| `"));
    table
        .map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split('|').collect();
            assert_eq!(cells.len(), 4, "{line}");
            Row {
                key: code(cells[0]),
                variable: Some(code(cells[1])).filter(|name| *name != FILE_ONLY),
                default: code(cells[2]),
            }
        })
        .collect()
}

/// Every key with a value, by its full name.
fn flat(prefix: &str, table: &toml::Table) -> BTreeMap<String, toml::Value> {
    let mut keys = BTreeMap::new();
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        match value {
            toml::Value::Table(section) => keys.extend(flat(&format!("{key}."), section)),
            value => drop(keys.insert(key, value.clone())),
        }
    }
    keys
}

#[test]
fn the_page_lists_every_key_with_its_default_and_nothing_else() {
    let defaults = flat("", &vx11_operator::config::DEFAULTS.parse().unwrap());
    let on_page: BTreeMap<_, _> =
        rows().iter().map(|row| (row.key.to_owned(), row.default.to_owned())).collect();
    let built_in: BTreeMap<_, _> =
        defaults.iter().map(|(key, value)| (key.clone(), value.to_string())).collect();
    assert_eq!(on_page, built_in);
    assert_eq!(rows().len(), on_page.len(), "each key is there once");
}

/// Keys that a key depends on: key, variable and value.
fn beside<'a>(key: &str, secret: &'a str) -> Vec<(&'static str, &'static str, &'a str)> {
    let principal = ("principal_token", "VX11_PRINCIPAL_TOKEN", secret);
    let host = ("redis.host", "REDIS_HOST", "redis");
    let tls = ("redis.url", "REDIS_URL", "rediss://redis");
    let master = ("redis.sentinel_master", "REDIS_SENTINEL_MASTER", "master");
    let password = ("redis.password", "REDIS_PASSWORD", secret);
    match key {
        "redis.sentinels" => vec![principal, master],
        "redis.username" => vec![principal, host, password],
        "principals_dir" | "redis.url" | "redis.url_file" | "redis.host" | "redis.cluster_nodes" => {
            vec![principal]
        }
        "redis.cert_file" | "redis.key_file" => vec![principal, tls],
        _ if key.starts_with("redis.") => vec![principal, host],
        _ => Vec::new(),
    }
}

fn hidden<'a>(key: &str, value: &'a str) -> &'a str {
    if ["principal_token", "redis.password", "redis.url"].contains(&key) { "***" } else { value }
}

#[tokio::test]
async fn each_variable_on_the_page_sets_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    let key = random_hex() + &random_hex();
    remember_secret(&key);
    std::fs::write(&secret, &key).unwrap();
    let (secret, folder) = (secret.to_str().unwrap(), folder.path().to_str().unwrap());
    let [url, ca] = ["redis://redis", "-----BEGIN CERTIFICATE-----"].map(file);
    let (url, ca) = (url.1.as_str(), ca.1.as_str());
    let redis = RedisServer::with_tls().await;
    let [certificate, private] = &redis.client_certificate().map(|file| file.to_str().unwrap().to_owned());
    for row in rows() {
        let Some(variable) = row.variable else { continue };
        let (value, shown) = match row.key {
            "principal_token" => (key.as_str(), toml::Value::from("***")),
            "token.signing_keys" => (key.as_str(), vec!["***"].into()),
            "principal_token_file"
            | "token.signing_keys_file"
            | "redis.password_file"
            | "redis.sentinel_password_file" => (secret, secret.into()),
            "principals_dir" => (folder, folder.into()),
            "instance.id" => ("seven", "seven".into()),
            "http.listen" => ("127.0.0.1:1", "127.0.0.1:1".into()),
            "http.public_url" => ("https://events.example", "https://events.example".into()),
            "http.trusted_proxies" => ("::1, 10.0.0.0/8", vec!["::1", "10.0.0.0/8"].into()),
            "http.cors_origins" => {
                ("https://a.example, http://b", vec!["https://a.example", "http://b"].into())
            }
            "http.cookie_same_site" => ("none", "none".into()),
            "log.level" => ("warn", "warn".into()),
            "audit.client_address" => ("network", "network".into()),
            "audit.file" => ("/tmp/a", "/tmp/a".into()),
            "log.format" => ("json", "json".into()),
            "memory.max_bytes" => ("160", 160.into()),
            "events.log_bytes" => ("2097152", 2_097_152.into()),
            "redis.url" => ("redis://redis", "***".into()),
            "redis.password" | "redis.sentinel_password" => (key.as_str(), "***".into()),
            "redis.url_file" => (url, url.into()),
            "redis.ca_file" => (ca, ca.into()),
            "redis.cert_file" => (certificate.as_str(), certificate.as_str().into()),
            "redis.key_file" => (private.as_str(), private.as_str().into()),
            "redis.sentinels" | "redis.cluster_nodes" => ("a, b:1", vec!["a", "b:1"].into()),
            "redis.host" | "redis.username" | "redis.sentinel_master" | "redis.namespace" => {
                ("some", "some".into())
            }
            "redis.when_lost" => ("refuse", "refuse".into()),
            "streams.per_subject_policy" => ("replace_oldest", "replace_oldest".into()),
            "redis.tls" | "token.allow_weak_principals" | "log.subjects" | "events.stream_topics" => {
                ("true", true.into())
            }
            "streams.principal_in_query" => ("false", false.into()),
            _ => ("1", 1.into()),
        };
        let (mut command, _) = Instance::command(&[]);
        let command = command.env_clear().env(variable, value).arg("check-config");
        let mut beside = beside(row.key, &key);
        beside.extend(match row.key {
            "redis.cert_file" => Some(("redis.key_file", "VX11_OPERATOR__REDIS__KEY_FILE", private.as_str())),
            "redis.key_file" => {
                Some(("redis.cert_file", "VX11_OPERATOR__REDIS__CERT_FILE", certificate.as_str()))
            }
            _ => None,
        });
        command.envs(beside.iter().map(|(_, variable, value)| (variable, value)));
        command.stdout(std::process::Stdio::piped());
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{variable}");
        let effective = String::from_utf8(output.stdout).unwrap().parse().unwrap();
        let mut expected = flat("", &vx11_operator::config::DEFAULTS.parse().unwrap());
        expected
            .extend(beside.into_iter().map(|(key, _, value)| (key.to_owned(), hidden(key, value).into())));
        expected.insert(row.key.to_owned(), shown);
        assert_eq!(flat("", &effective), expected, "{variable}");
    }
}
