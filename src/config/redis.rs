//! Configuration of Redis, checked as a whole, because its keys depend on each other.

use std::path::Path;

use secrecy::SecretString;

use super::ErrorCollector;
use super::raw::RawRedis;
use super::secrets::{Given, secret, shown};
use super::sources::Shown;
use crate::redis::{ClientCertificate, HostPort, Namespace, NotACertificate, RedisSettings, Topology};
use crate::store::WhenLost;

const SENTINEL_PORT: u16 = 26379;
const HIGHEST_DB: u32 = 1_000_000;
const NO_REDIS: &str =
    "is set, but no Redis is: set REDIS_HOST, REDIS_URL, REDIS_SENTINELS or REDIS_CLUSTER_NODES";

/// The configuration of Redis, if one is configured.
pub(super) fn settings(raw: &RawRedis, complaints: &mut ErrorCollector) -> Option<RedisSettings> {
    let url = secret("redis.url", &raw.url, &raw.url_file, complaints);
    let port = complaints.range("redis.port", raw.port, 1, u16::MAX.into(), "");
    let port = u16::try_from(port).unwrap_or(u16::MAX);
    let sentinels = hosts("redis.sentinels", &raw.sentinels, SENTINEL_PORT, complaints);
    let nodes = hosts("redis.cluster_nodes", &raw.cluster_nodes, port, complaints);
    let given = [
        ("redis.url", url.is_some()),
        ("redis.host", !raw.host.is_empty()),
        ("redis.sentinels", !raw.sentinels.is_empty()),
        ("redis.cluster_nodes", !raw.cluster_nodes.is_empty()),
    ];
    let mut given = given.iter().filter(|(_, is_given)| *is_given).map(|(key, _)| key);
    let Some(first) = given.next() else {
        complain_about_leftovers(raw, complaints);
        return None;
    };
    if let Some(second) = given.next() {
        complaints.add(second, format_args!("{first} is set, too; set only one of the two"));
    }
    let mut settings = RedisSettings {
        topology: Topology::Single(HostPort { host: raw.host.clone(), port }),
        username: Some(raw.username.clone()).filter(|name| !name.is_empty()),
        password: secret("redis.password", &raw.password, &raw.password_file, complaints)
            .map(|given| SecretString::from(given.text)),
        sentinel_password: secret(
            "redis.sentinel_password",
            &raw.sentinel_password,
            &raw.sentinel_password_file,
            complaints,
        )
        .map(|given| SecretString::from(given.text)),
        db: complaints.range("redis.db", raw.db, 0, HIGHEST_DB, "").into(),
        namespace: namespace(&raw.namespace, complaints),
        tls: raw.tls.0,
        ca: pem("redis.ca_file", &raw.ca_file, complaints),
        client: client_certificate(raw, complaints),
    };
    let mut is_tls_known = true;
    if let Some(url) = url {
        is_tls_known = from_url(&url, &mut settings, complaints);
    } else if !raw.sentinels.is_empty() {
        if raw.sentinel_master.is_empty() {
            complaints.add("redis.sentinel_master", "is needed: the name of the master at the sentinels");
        }
        settings.topology = Topology::Sentinel { sentinels, master: raw.sentinel_master.clone() };
    } else if !raw.cluster_nodes.is_empty() {
        settings.topology = Topology::Cluster { nodes };
    } else if let Err(problem) = HostPort::parse(&format!("{}:{port}", bracketed(&raw.host)), port) {
        complaints.add("redis.host", format_args!("{problem}, without a scheme; a URL goes into redis.url"));
    }
    if settings.username.is_some() && settings.password.is_none() {
        complaints.add("redis.username", "a user needs a password (REDIS_PASSWORD)");
    }
    if is_tls_known && !settings.tls {
        complain_about_a_certificate(raw, complaints);
    }
    Some(settings)
}

/// Policy for tokens while Redis is unavailable. Without Redis nothing is lost, so an administrator
/// who asks for `refuse` expects a Redis that is not configured.
pub(super) fn when_lost(raw: &RawRedis, is_configured: bool, complaints: &mut ErrorCollector) -> WhenLost {
    match raw.when_lost.as_str() {
        "accept" => WhenLost::Accept,
        "refuse" => {
            if !is_configured {
                complaints.add("redis.when_lost", NO_REDIS);
            }
            WhenLost::Refuse
        }
        other => {
            complaints.add(
                "redis.when_lost",
                format_args!("{} is unknown; allowed are accept and refuse", Shown(other)),
            );
            WhenLost::Accept
        }
    }
}

/// Refuses a client certificate without TLS: it would not be used, although the administrator
/// expects TLS.
fn complain_about_a_certificate(raw: &RawRedis, complaints: &mut ErrorCollector) {
    let files = [("redis.cert_file", &raw.cert_file), ("redis.key_file", &raw.key_file)];
    for (key, _) in files.iter().filter(|(_, file)| !file.is_empty()) {
        complaints.add(key, "is set, but TLS is not: set rediss:// in redis.url, or redis.tls beside redis.host, redis.sentinels or redis.cluster_nodes");
    }
}

/// Refuses keys for a Redis that is not configured, instead of ignoring them.
fn complain_about_leftovers(raw: &RawRedis, complaints: &mut ErrorCollector) {
    let leftovers = [
        ("redis.sentinel_master", &raw.sentinel_master),
        ("redis.sentinel_password", &raw.sentinel_password),
        ("redis.sentinel_password_file", &raw.sentinel_password_file),
        ("redis.username", &raw.username),
        ("redis.password", &raw.password),
        ("redis.password_file", &raw.password_file),
        ("redis.ca_file", &raw.ca_file),
        ("redis.cert_file", &raw.cert_file),
        ("redis.key_file", &raw.key_file),
    ];
    for (key, _) in leftovers.iter().filter(|(_, value)| !value.is_empty()) {
        complaints.add(key, NO_REDIS);
    }
}

fn namespace(name: &str, complaints: &mut ErrorCollector) -> Namespace {
    Namespace::parse(name).unwrap_or_else(|| {
        complaints.add("redis.namespace", "allowed are 1 to 32 characters of a-z 0-9 -");
        Namespace::default()
    })
}

/// An IPv6 address needs brackets before a port can follow.
fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

fn hosts(key: &str, texts: &[String], port: u16, complaints: &mut ErrorCollector) -> Vec<HostPort> {
    let mut hosts = Vec::with_capacity(texts.len());
    for text in texts {
        match HostPort::parse(text, port) {
            Ok(host) => hosts.push(host),
            // The text may be a URL with a password, so it is not repeated.
            Err(problem) => complaints.add(key, format_args!("{problem}, with commas between several")),
        }
    }
    hosts
}

/// Applies the URL; false if it cannot be parsed.
fn from_url(
    Given { text, key }: &Given,
    settings: &mut RedisSettings,
    complaints: &mut ErrorCollector,
) -> bool {
    // The library's errors may repeat parts of the URL, so they are dropped.
    let Some(parsed) = redis::parse_redis_url(text).filter(|url| ["redis", "rediss"].contains(&url.scheme()))
    else {
        complaints.add(
            key,
            "cannot be read; expected: redis://[user[:password]@]host[:port][/db], or rediss:// for TLS. Write special characters of user and password as %XX",
        );
        return false;
    };
    let Ok(info) = redis::IntoConnectionInfo::into_connection_info(parsed.clone()) else {
        complaints.add(
            key,
            "cannot be used; expected: redis://[user[:password]@]host[:port][/db], or rediss:// for TLS",
        );
        return false;
    };
    let host = parsed.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    settings.topology = Topology::Single(HostPort { host, port: parsed.port().unwrap_or(6379) });
    settings.tls = parsed.scheme() == "rediss";
    let inside = info.redis_settings();
    if let Some(password) = inside.password() {
        if settings.password.is_some() {
            complaints.add("redis.password", "redis.url contains a password, too; set only one of the two");
        }
        settings.password = Some(SecretString::from(password));
    }
    if let Some(username) = inside.username() {
        settings.username = Some(username.to_owned());
    }
    if !parsed.path().trim_matches('/').is_empty() {
        settings.db = inside.db();
    }
    true
}

fn client_certificate(raw: &RawRedis, complaints: &mut ErrorCollector) -> Option<ClientCertificate> {
    match (raw.cert_file.is_empty(), raw.key_file.is_empty()) {
        (true, false) => complaints.add("redis.cert_file", "is needed: the certificate of redis.key_file"),
        (false, true) => complaints.add("redis.key_file", "is needed: the private key of redis.cert_file"),
        _ => {}
    }
    let chain = pem("redis.cert_file", &raw.cert_file, complaints);
    let key = pem("redis.key_file", &raw.key_file, complaints);
    let (chain, key) = chain.zip(key)?;
    let key = String::from_utf8(key).map(SecretString::from).map_err(|_| NotACertificate::Key);
    let certificate = key.and_then(|key| ClientCertificate::new(chain, key));
    match certificate {
        Ok(certificate) => Some(certificate),
        Err(problem) => {
            let (key, file) = match problem {
                NotACertificate::Chain => ("redis.cert_file", &raw.cert_file),
                NotACertificate::Key | NotACertificate::Pair(_) => ("redis.key_file", &raw.key_file),
            };
            complaints.add(key, format_args!("{} {problem}", shown(Path::new(file))));
            None
        }
    }
}

/// Content of a file, if it looks like PEM.
fn pem(key: &str, file: &str, complaints: &mut ErrorCollector) -> Option<Vec<u8>> {
    if file.is_empty() {
        return None;
    }
    let file = Path::new(file);
    match std::fs::read(file) {
        Ok(pem) if pem.windows(11).any(|window| window == b"-----BEGIN ") => Some(pem),
        Ok(_) => {
            complaints.add(key, format_args!("{} holds nothing in PEM form", shown(file)));
            None
        }
        Err(error) => {
            complaints.add(key, format_args!("cannot read {}: {error}", shown(file)));
            None
        }
    }
}
