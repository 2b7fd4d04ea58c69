//! Configuration: defaults, overridden by a file, overridden by the environment.
//!
//! `sources` reads file and variables and finds unknown keys; `folder` reads the files of
//! principals. `raw` has the types of the file; [`Config`] is checked. All errors are reported
//! together. Each names the key, the file or variable that sets it, the problem, and the allowed
//! values; it never repeats the value of a secret.

mod environment;
mod errors;
mod folder;
mod issuers;
mod keys;
mod origins;
mod raw;
mod redis;
mod secrets;
mod show;
mod sources;
mod syntax;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use hyper::Uri;
use ipnet::IpNet;
use secrecy::SecretString;
use tracing_subscriber::filter::{LevelFilter, Targets};

pub use self::errors::ConfigErrors;
use self::errors::ErrorCollector;
use self::keys::Keys;
use self::raw::{Raw, RawAudit, RawPrincipals, RawStreams, StrictInt};
use self::secrets::WithoutPrincipals;
use self::sources::{Misplaced, Shown, Sources};
use crate::audit::{AuditSettings, ClientAddress};
use crate::events::{RingLimits, StreamLimits};
use crate::identity::IssuerSettings;
use crate::limits::LONGEST_LIFE_SECONDS;
use crate::principal::{Principal, PrincipalId};
use crate::redis::RedisSettings;
use crate::store::{MemoryLimits, SubjectLimit, SubjectPolicy, WhenLost};
use crate::telemetry::LogFormat;
use crate::token::SigningKeys;

/// The built-in defaults, with comments for users.
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// A checked configuration.
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the configuration")]
#[derive(Debug)]
pub struct Config {
    /// Name of the instance.
    pub instance_id: String,
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Worker threads; `None`: one for each core.
    pub workers: Option<usize>,
    /// Deadline of a request's body.
    pub body_timeout: Duration,
    /// Address of the service as clients see it, without a path; `None`: not configured.
    pub public_url: Option<String>,
    /// Networks of trusted proxies.
    pub trusted_proxies: Vec<IpNet>,
    /// Origins whose pages may read answers, as browsers send them, or `*` alone.
    pub cors_origins: Vec<String>,
    /// Whether pages of other sites send the cookie with a token.
    pub cookie_for_other_sites: bool,
    /// Principals and their credentials; never empty.
    pub principals: Vec<(Principal, SecretString)>,
    /// Identity providers, whose JWTs are credentials.
    pub issuers: Vec<IssuerSettings>,
    /// Whether the credential was generated because none is configured; it is shown once.
    pub generated_principal: bool,
    /// Signing keys.
    pub signing_keys: SigningKeys,
    /// Lifetime of a token.
    pub token_ttl: Duration,
    /// Bounds of the memory store.
    pub memory: MemoryLimits,
    /// Redis; `None`: an instance without Redis.
    pub redis: Option<RedisSettings>,
    /// Policy for tokens while Redis is unavailable.
    pub when_lost: WhenLost,
    /// Bound of the shared log in events.
    pub log_entries: usize,
    /// Bound of the shared log in bytes.
    pub log_bytes: u64,
    /// Bounds of the ring.
    pub ring: RingLimits,
    /// Whether openings and ends of streams are events.
    pub stream_topics: bool,
    /// Bounds of open streams: of all, of a token, of a principal.
    pub stream_limits: StreamLimits,
    /// Limit of a subject's open streams; `None`: no limit.
    pub subject_limit: Option<SubjectLimit>,
    /// Interval of SSE heartbeats.
    pub heartbeat: Duration,
    /// Bound of the coalescing delay.
    pub coalesce: Duration,
    /// Maximum age of a stream.
    pub max_stream_age: Duration,
    /// Maximum of the reconnect delay.
    pub retry: Duration,
    /// Whether `?token=` of a stream may contain a principal's credential.
    pub principal_in_query: bool,
    /// Bound of tokens issued to a principal per second.
    pub issue_per_second: Option<u32>,
    /// Bound of failed authentications of a client address per minute.
    pub failed_auth_per_minute: Option<u32>,
    /// Time over which a drain ends the streams.
    pub drain_window: Duration,
    /// The audit trail.
    pub audit: Option<AuditSettings>,
    /// Filter of log lines.
    pub log_filter: Targets,
    /// Form of log lines.
    pub log_format: LogFormat,
    /// Whether logs and the audit trail may contain subjects and topics.
    pub log_subjects: bool,
    /// Warnings about a configuration that works.
    pub warnings: Vec<String>,
    /// The configuration as TOML, without secrets.
    pub redacted: String,
}

impl Config {
    /// Reads and checks defaults, `file` and `environment`.
    ///
    /// # Errors
    /// All errors that can be found at once.
    pub fn load(file: Option<&Path>, environment: &HashMap<String, String>) -> Result<Self, ConfigErrors> {
        Self::read(file, environment, WithoutPrincipals::Generate)
    }

    /// Reads and checks everything again. A credential that was generated stays the same.
    ///
    /// # Errors
    /// As [`load`](Self::load). It is an error, too, if no principal is configured any more.
    pub fn load_again(
        &self,
        file: Option<&Path>,
        environment: &HashMap<String, String>,
    ) -> Result<Self, ConfigErrors> {
        let generated = self.principals.first().filter(|_| self.generated_principal);
        let without =
            generated.map_or(WithoutPrincipals::Refuse, |(_, secret)| WithoutPrincipals::Keep(secret));
        Self::read(file, environment, without)
    }

    /// Keys with other values than in the `running` configuration, except for those that a reload
    /// reads again. Secrets and the contents of files are not compared.
    #[must_use]
    pub fn keys_that_need_a_restart(&self, running: &Self) -> Vec<String> {
        show::differences(&self.redacted, &running.redacted)
    }

    fn read(
        file: Option<&Path>,
        environment: &HashMap<String, String>,
        without: WithoutPrincipals<'_>,
    ) -> Result<Self, ConfigErrors> {
        let keys = Keys::of_defaults();
        let mut lines = environment::complaints(environment, &keys);
        let (sources, misplaced) = match Sources::read(file, environment, &keys) {
            Ok(read) => read,
            Err(problem) => {
                lines.push(problem);
                return Err(ConfigErrors(lines));
            }
        };
        let mut complaints = ErrorCollector { sources, lines, undecided: Vec::new() };
        for misplaced in &misplaced {
            complaints.add_misplaced(misplaced);
        }
        for Misplaced { key, .. } in misplaced.iter().filter(|misplaced| keys.is_section(&misplaced.key)) {
            complaints.judge_no_further(key);
        }
        match raw::read(&mut complaints, &keys) {
            Some(raw) => check(&raw, &keys, without, complaints),
            None => Err(ConfigErrors(complaints.lines)),
        }
    }

    /// The credential of the command-line client: that of the first configured principal. Errors in
    /// other keys are ignored, because they do not concern a client.
    ///
    /// # Errors
    /// All errors about principals.
    pub fn principal_credential(
        file: Option<&Path>,
        environment: &HashMap<String, String>,
    ) -> Result<Option<SecretString>, ConfigErrors> {
        let keys = Keys::of_defaults();
        let (sources, misplaced) =
            Sources::read(file, environment, &keys).map_err(|problem| ConfigErrors(vec![problem]))?;
        let mut complaints = ErrorCollector { sources, ..ErrorCollector::default() };
        for misplaced in misplaced.iter().filter(|misplaced| misplaced.key.starts_with("principals[")) {
            complaints.add_misplaced(misplaced);
        }
        let Some(raw) = raw::read::<RawPrincipals>(&mut complaints, &keys) else {
            return Err(ConfigErrors(complaints.lines));
        };
        let files = folder::read(&raw.principals_dir, &keys, &mut complaints);
        // A weak credential is refused by the service, not by its client.
        let principals = secrets::configured(&raw, &files, &mut complaints, &mut Vec::new());
        if complaints.is_empty() {
            Ok(principals.into_iter().next().map(|(_, credential)| credential))
        } else {
            Err(ConfigErrors(complaints.lines))
        }
    }

    /// Variables with our prefixes that neither the service nor its clients read, in alphabetical
    /// order.
    #[must_use]
    pub fn unknown_variables(environment: &HashMap<String, String>) -> Vec<&str> {
        environment::unknown(environment)
    }
}

/// Bound of worker threads; actix starts no more.
pub(crate) const MOST_WORKERS: u32 = 512;
/// Largest bound of streams.
const MOST_STREAMS: u32 = 1_000_000;
/// Largest limit of a subject's streams. A script in Redis reads all of them with each opening.
const MOST_STREAMS_OF_SUBJECT: u32 = 1000;
fn check(
    raw: &Raw,
    keys: &Keys,
    without: WithoutPrincipals<'_>,
    mut complaints: ErrorCollector,
) -> Result<Config, ConfigErrors> {
    let mut warnings = Vec::new();

    let instance_id = raw.instance.id.clone();
    if PrincipalId::parse(&instance_id).is_none() {
        complaints.add("instance.id", "allowed are 1 to 64 characters of A-Z a-z 0-9 . _ -");
    }
    let listen = listen_address(&raw.http.listen, &mut complaints);
    let trusted_proxies = networks(&raw.http.trusted_proxies, &mut complaints);
    let cors_origins = origins::origins(&raw.http.cors_origins, &mut complaints);
    let cookie_for_other_sites = origins::cookie_for_other_sites(&raw.http.cookie_same_site, &mut complaints);
    let public_url = public_url(&raw.http.public_url, &mut complaints);
    let files = folder::read(&raw.principals_dir, keys, &mut complaints);
    let (principals, generated_principal) =
        secrets::principals(raw, &files, without, &mut complaints, &mut warnings);
    let issuers = issuers::issuers(raw, &principals, &mut complaints);
    let redis = redis::settings(&raw.redis, &mut complaints);
    let when_lost = redis::when_lost(&raw.redis, redis.is_some(), &mut complaints);
    if redis.is_some() && generated_principal {
        complaints.add("principal_token", "is needed with Redis, because all instances need the same one (openssl rand -hex 32 makes a good one)");
    }
    let signing_keys = secrets::signing_keys(raw, &principals, &mut complaints);
    let log_filter = log_filter(&raw.log.level).unwrap_or_else(|| {
        let allowed = "allowed are error, warn, info, debug, trace, or a list such as \"info,vx11_operator::http=debug\"";
        complaints.add("log.level", format_args!("{} is no level; {allowed}", Shown(&raw.log.level)));
        Targets::new()
    });
    let audit = audit(&raw.audit, &mut complaints);
    let log_format = log_format(&raw.log.format, &mut complaints);
    let limit = |value: u32| (value > 0).then_some(value);

    let c = &mut complaints;
    let config = Config {
        instance_id,
        listen,
        workers: match c.range("http.workers", raw.http.workers, 0, MOST_WORKERS, "threads") {
            0 => None,
            workers => Some(workers as usize),
        },
        body_timeout: c.seconds("http.body_timeout_seconds", raw.http.body_timeout_seconds, 1, 300),
        public_url,
        trusted_proxies,
        cors_origins,
        cookie_for_other_sites,
        principals,
        issuers,
        generated_principal,
        token_ttl: c.seconds("token.ttl_seconds", raw.token.ttl_seconds, 1, LONGEST_LIFE_SECONDS),
        memory: MemoryLimits {
            entries: c.size("memory.max_entries", raw.memory.max_entries, "records") as u64,
            bytes: c.at_least_one_entry("memory.max_bytes", raw.memory.max_bytes),
        },
        redis,
        when_lost,
        log_entries: c.size("events.log_entries", raw.events.log_entries, "events"),
        log_bytes: c.range("events.log_bytes", raw.events.log_bytes, 1 << 20, u32::MAX, "bytes").into(),
        ring: RingLimits {
            entries: c.size("events.ring_entries", raw.events.ring_entries, "events"),
            bytes: c.size("events.ring_bytes", raw.events.ring_bytes, "bytes"),
        },
        stream_topics: raw.events.stream_topics.0,
        stream_limits: stream_limits(&raw.streams, c),
        subject_limit: subject_limit(&raw.streams, c),
        heartbeat: c.seconds("streams.heartbeat_seconds", raw.streams.heartbeat_seconds, 1, 30),
        coalesce: c.milliseconds("streams.gather_milliseconds", raw.streams.gather_milliseconds, 0, 1000),
        max_stream_age: c.seconds("streams.max_age_seconds", raw.streams.max_age_seconds, 1, 86_400),
        retry: c.milliseconds("streams.retry_milliseconds", raw.streams.retry_milliseconds, 1, 60_000),
        principal_in_query: raw.streams.principal_in_query.0,
        issue_per_second: limit(c.range(
            "limits.issue_per_second",
            raw.limits.issue_per_second,
            0,
            1_000_000,
            "tokens a second",
        )),
        failed_auth_per_minute: limit(c.range(
            "limits.failed_auth_per_minute",
            raw.limits.failed_auth_per_minute,
            0,
            1_000_000,
            "failures a minute",
        )),
        drain_window: c.seconds("drain.window_seconds", raw.drain.window_seconds, 0, 300),
        audit,
        log_filter,
        log_format,
        log_subjects: raw.log.subjects.0,
        warnings,
        // At the end, so that all errors were collected.
        signing_keys: match signing_keys {
            Some(keys) if c.is_empty() => keys,
            _ => return Err(ConfigErrors(complaints.lines)),
        },
        redacted: show::redacted(raw, &files),
    };
    Ok(config)
}

/// Checks the address of the service as clients see it. It has no path: clients look for the
/// documents about it at the root (RFC 8414 §3).
fn public_url(text: &str, complaints: &mut ErrorCollector) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    let parse = || {
        let uri: Uri = text.parse().ok()?;
        let scheme = uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme))?;
        let authority = uri.authority()?.as_str().to_ascii_lowercase();
        let is_bare = uri.path() == "/" && !text.contains(['@', '?', '#']);
        is_bare.then(|| format!("{scheme}://{authority}"))
    };
    let url = parse();
    if url.is_none() {
        let expected = "is no address without a path; expected: https://host[:port]";
        complaints.add("http.public_url", format_args!("{} {expected}", Shown(text)));
    }
    url
}

fn log_format(text: &str, complaints: &mut ErrorCollector) -> LogFormat {
    match text {
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        other => {
            complaints
                .add("log.format", format_args!("{} is no format; allowed are text and json", Shown(other)));
            LogFormat::Text
        }
    }
}

fn stream_limits(raw: &RawStreams, complaints: &mut ErrorCollector) -> StreamLimits {
    let mut limit = |key: &str, value: StrictInt, least: u32| {
        complaints.range(key, value, least, MOST_STREAMS, "streams") as usize
    };
    let all = limit("streams.max", raw.max, 1);
    let mut optional = |key, value| Some(limit(key, value, 0)).filter(|streams| *streams > 0);
    let per_token = optional("streams.max_per_token", raw.max_per_token);
    let per_principal = optional("streams.max_per_principal", raw.max_per_principal);
    StreamLimits { all, per_token, per_principal }
}

fn subject_limit(raw: &RawStreams, complaints: &mut ErrorCollector) -> Option<SubjectLimit> {
    let streams =
        complaints.range("streams.per_subject", raw.per_subject, 0, MOST_STREAMS_OF_SUBJECT, "streams");
    let policy = subject_policy(&raw.per_subject_policy, complaints);
    (streams > 0).then_some(SubjectLimit { streams: streams as usize, policy })
}

fn subject_policy(text: &str, complaints: &mut ErrorCollector) -> SubjectPolicy {
    match text {
        "refuse" => SubjectPolicy::Refuse,
        "replace_oldest" => SubjectPolicy::ReplaceOldest,
        other => {
            complaints.add(
                "streams.per_subject_policy",
                format_args!("{} is unknown; allowed are refuse and replace_oldest", Shown(other)),
            );
            SubjectPolicy::Refuse
        }
    }
}

fn audit(raw: &RawAudit, complaints: &mut ErrorCollector) -> Option<AuditSettings> {
    let client_address = match raw.client_address.as_str() {
        "full" => ClientAddress::Full,
        "network" => ClientAddress::Network,
        "none" => ClientAddress::Omitted,
        other => {
            complaints.add(
                "audit.client_address",
                format_args!("{} is unknown; allowed are full, network and none", Shown(other)),
            );
            ClientAddress::Omitted
        }
    };
    (!raw.file.is_empty()).then(|| AuditSettings { file: raw.file.clone().into(), client_address })
}

/// Parses a level, or levels by module. With a plain level above debug, lines of the web server are
/// dropped.
fn log_filter(text: &str) -> Option<Targets> {
    // `Targets` takes an unknown level for the name of a module, so a misspelt level would silence
    // everything.
    let is_level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
    if !text.split(',').all(|part| part.contains('=') || is_level(part)) {
        return None;
    }
    match text.parse::<LevelFilter>() {
        Ok(level) if level == LevelFilter::INFO => {
            Some(Targets::new().with_default(level).with_target("actix_server", LevelFilter::WARN))
        }
        Ok(level) => Some(Targets::new().with_default(level)),
        Err(_) => text.parse().ok(),
    }
}

fn listen_address(text: &str, complaints: &mut ErrorCollector) -> SocketAddr {
    text.to_socket_addrs().ok().and_then(|mut found| found.next()).unwrap_or_else(|| {
        complaints.add(
            "http.listen",
            format_args!(
                "{} is no address to listen on; expected: address:port, such as 0.0.0.0:8001 or [::]:8001",
                Shown(text)
            ),
        );
        SocketAddr::from(([127, 0, 0, 1], 0))
    })
}

fn networks(texts: &[String], complaints: &mut ErrorCollector) -> Vec<IpNet> {
    let parse = |text: &String| text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    // Peers appear as IPv4 addresses also on an IPv6 socket, so a network in the form ::ffff:…
    // would match none.
    let is_mapped =
        |network: &IpNet| matches!(network.addr(), IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    let mut networks = Vec::new();
    for text in texts {
        match parse(text) {
            Ok(network) if is_mapped(&network) => complaints.add(
                "http.trusted_proxies",
                format_args!(
                    "{} is an IPv4 network in IPv6 form; write it in IPv4 form, such as 10.0.0.0/8",
                    Shown(text)
                ),
            ),
            Ok(network) => networks.push(network),
            Err(_) => complaints.add(
                "http.trusted_proxies",
                format_args!(
                    "{} is no network; expected: an address or prefix, such as 10.0.0.0/8",
                    Shown(text)
                ),
            ),
        }
    }
    networks
}

#[cfg(test)]
mod tests;
