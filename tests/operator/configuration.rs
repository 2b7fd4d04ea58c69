//! What cannot be used stops the start: exit code 2 and a message that names the key, the problem and what is
//! allowed, and never a secret.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::support::{Instance, complaint, complaint_about_file, file, planted, run};

const RANGE: &str = "out of range";
const NUMBER: &str = "expected is a whole number";
const TOO_LONG: &str = "a-name-with-one-character-more-than-the-sixty-four-that-it-may-be";
/// A variable, a bad value, how the complaint begins, and something of what it says.
const BAD: [(&str, &str, &str, &str); 36] = [
    ("EPHEMERAL_TOKEN_TTL_SEC", "0", "token.ttl_seconds (EPHEMERAL_TOKEN_TTL_SEC)", "1 to 900 seconds"),
    ("EPHEMERAL_TOKEN_TTL_SEC", "901", "token.ttl_seconds (EPHEMERAL_TOKEN_TTL_SEC)", "1 to 900 seconds"),
    ("EPHEMERAL_TOKEN_TTL_SEC", "-1", "token.ttl_seconds", "1 to 900 seconds"),
    ("EPHEMERAL_TOKEN_TTL_SEC", "abc", "token.ttl_seconds (EPHEMERAL_TOKEN_TTL_SEC)", NUMBER),
    ("EPHEMERAL_TOKEN_TTL_SEC", "1.5", "token.ttl_seconds", NUMBER),
    ("EPHEMERAL_TOKEN_TTL_SEC", "true", "token.ttl_seconds", NUMBER),
    ("EPHEMERAL_TOKEN_TTL_SEC", "99999999999999999999", "token.ttl_seconds", NUMBER),
    ("INSTANCE_ID", "a b", "instance.id (INSTANCE_ID)", "1 to 64 characters"),
    ("INSTANCE_ID", TOO_LONG, "instance.id", "1 to 64 characters"),
    ("VX11_OPERATOR_LISTEN", "8001", "http.listen (VX11_OPERATOR_LISTEN)", "address:port"),
    ("VX11_OPERATOR_LISTEN", "127.0.0.1:65536", "http.listen", "address:port"),
    (
        "VX11_OPERATOR_LOG_LEVEL",
        "loud",
        "log.level (VX11_OPERATOR_LOG_LEVEL)",
        "error, warn, info, debug, trace",
    ),
    ("VX11_OPERATOR_LOG_LEVEL", "info,", "log.level", "error, warn, info, debug, trace"),
    ("VX11_OPERATOR_LOG_LEVEL", "info,actix=loud", "log.level", "error, warn, info, debug, trace"),
    ("VX11_OPERATOR__AUDIT__CLIENT_ADDRESS", "half", "audit.client_address", "full, network and none"),
    ("VX11_OPERATOR_LOG_FORMAT", "xml", "log.format (VX11_OPERATOR_LOG_FORMAT)", "text and json"),
    (
        "VX11_OPERATOR_SIGNING_KEYS",
        "abc",
        "token.signing_keys (VX11_OPERATOR_SIGNING_KEYS)",
        "64 hexadecimal",
    ),
    ("VX11_OPERATOR__HTTP__WORKERS", "1025", "http.workers", "0 to 1024 threads"),
    ("VX11_OPERATOR__HTTP__BODY_TIMEOUT_SECONDS", "0", "http.body_timeout_seconds", "1 to 300 seconds"),
    ("VX11_OPERATOR__HTTP__TRUSTED_PROXIES", "10.0.0.0/33", "http.trusted_proxies", "such as 10.0.0.0/8"),
    ("VX11_OPERATOR__HTTP__TRUSTED_PROXIES", "::1,localhost", "http.trusted_proxies", "such as 10.0.0.0/8"),
    ("VX11_OPERATOR__MEMORY__MAX_ENTRIES", "0", "memory.max_entries", "any positive number"),
    ("VX11_OPERATOR__MEMORY__MAX_BYTES", "-1", "memory.max_bytes", "160 bytes"),
    ("VX11_OPERATOR__EVENTS__LOG_ENTRIES", "0", "events.log_entries", "any positive number"),
    ("VX11_OPERATOR__EVENTS__RING_ENTRIES", "0", "events.ring_entries", "any positive number"),
    ("VX11_OPERATOR__EVENTS__RING_BYTES", "0", "events.ring_bytes", RANGE),
    ("VX11_OPERATOR__STREAMS__MAX", "0", "streams.max", "1 to 1000000 streams"),
    ("VX11_OPERATOR__STREAMS__HEARTBEAT_SECONDS", "31", "streams.heartbeat_seconds", "1 to 30"),
    ("VX11_OPERATOR__STREAMS__GATHER_MILLISECONDS", "1001", "streams.gather_milliseconds", "0 to 1000"),
    ("VX11_OPERATOR__STREAMS__MAX_AGE_SECONDS", "86401", "streams.max_age_seconds", "1 to 86400"),
    ("VX11_OPERATOR__STREAMS__PRINCIPAL_IN_QUERY", "no", "streams.principal_in_query", "true or false"),
    ("VX11_OPERATOR__STREAMS__PRINCIPAL_IN_QUERY", "0", "streams.principal_in_query", "true or false"),
    ("VX11_OPERATOR__STREAMS__RETRY_MILLISECONDS", "0", "streams.retry_milliseconds", "1 to 60000"),
    ("VX11_OPERATOR__LIMITS__ISSUE_PER_SECOND", "-1", "limits.issue_per_second", "0 to 1000000"),
    ("VX11_OPERATOR__LIMITS__FAILED_AUTH_PER_MINUTE", "1000001", "limits.failed_auth_per_minute", RANGE),
    ("VX11_OPERATOR__DRAIN__WINDOW_SECONDS", "301", "drain.window_seconds", "0 to 300 seconds"),
];

#[tokio::test]
async fn each_bad_value_is_named_with_its_key_and_what_is_allowed() {
    for (variable, value, key, allowed) in BAD {
        let complaint = complaint(&[(variable, value)]).await;
        let line = complaint.lines().find(|line| line.trim_start().starts_with(key));
        let line = line.unwrap_or_else(|| panic!("{variable}={value}: {complaint}"));
        assert!(line.contains(allowed), "{variable}={value}: {line}");
        assert_eq!(complaint.lines().count(), 2, "one problem, one complaint: {complaint}");
    }
}

#[tokio::test]
async fn the_ends_of_a_range_belong_to_it_and_an_empty_variable_is_not_set() {
    for value in ["1", "900", " 60 ", ""] {
        let (code, printed) = run(&["check-config"], &[("EPHEMERAL_TOKEN_TTL_SEC", value)]).await;
        assert_eq!(code, 0, "{printed}");
    }
}

#[tokio::test]
async fn unknown_keys_are_named_wherever_they_stand() {
    for (variable, named) in [
        ("VX11_OPERATOR_FOO", "VX11_OPERATOR_FOO: unknown variable"),
        ("VX11_OPERATOR_TTL", "VX11_OPERATOR_TTL: unknown variable"),
        ("VX11_PRINCIPAL_TOKN", "VX11_PRINCIPAL_TOKN: unknown variable"),
        ("EPHEMERAL_TOKEN_TTL", "EPHEMERAL_TOKEN_TTL: unknown variable"),
        ("VX11_OPERATOR__HTTP__FOO", "http: unknown field `foo`, expected one of `listen`"),
        ("VX11_OPERATOR__FOO", "unknown field `foo`"),
        ("VX11_OPERATOR__FOO__BAR", "unknown field `foo`"),
    ] {
        let complaint = complaint(&[(variable, "1")]).await;
        assert!(complaint.contains(named), "{complaint}");
    }
    for (content, named) in [
        ("foo = 1", "unknown field `foo`"),
        ("[http]\nfoo = 1", "http: unknown field `foo`, expected one of `listen`"),
        ("[[principals]]\nid = 'a'\ntokn = 'b'", "principals[0]: unknown field `tokn`"),
        ("[http]\nworkers = 1.5", "http.workers: this value is not allowed; expected is a whole number"),
        ("[http]\nworkers = true", "http.workers: this value is not allowed; expected is a whole number"),
        (
            "[http]\ntrusted_proxies = 5",
            "http.trusted_proxies: this value is not allowed; expected is a list",
        ),
        ("drain = 5", "drain: this value is not allowed; expected is a section"),
        ("[[principals]]\ntoken = 'b'", "principals[0].id: is missing"),
        ("[[principals]]\nid = 'b'", "principals: each needs a token or a token_file"),
    ] {
        let complaint = complaint_about_file(content).await;
        assert!(complaint.contains(named), "{content}: {complaint}");
    }
}

#[tokio::test]
async fn variables_of_others_are_none_of_our_business() {
    let (mut command, log) =
        Instance::command(&[("VX11_OPERATOR_PROXY_ENABLED", "1"), ("PATH", "/bin"), ("FOO", "1")]);
    command.env("STRAY", OsStr::from_bytes(b"\xff\xfe"));
    let status = command.arg("check-config").status().await.unwrap();
    assert!(status.success(), "{}", std::fs::read_to_string(log).unwrap());
}

#[tokio::test]
async fn several_problems_are_told_at_once() {
    let environment = [
        ("EPHEMERAL_TOKEN_TTL_SEC", "0"),
        ("VX11_OPERATOR_LOG_FORMAT", "xml"),
        ("INSTANCE_ID", "?"),
        ("VX11_PRINCIPAL_TOKEN_FILE", "/nonexistent/principal"),
    ];
    let complaint = complaint(&environment).await;
    for key in ["token.ttl_seconds", "log.format", "instance.id", "principal_token"] {
        assert_eq!(complaint.matches(&format!("\n  {key}")).count(), 1, "{complaint}");
    }
}

#[tokio::test]
async fn serving_refuses_what_check_config_refuses() {
    let (status, printed) = Instance::try_with(&[("EPHEMERAL_TOKEN_TTL_SEC", "901")]).await.err().unwrap();
    assert_eq!(status.code(), Some(2));
    assert!(printed.contains("allowed are 1 to 900 seconds"), "{printed}");
    let (_, missing) = file("");
    for arguments in [["serve", "--config", &missing], ["--config", &missing, "healthcheck"]] {
        let (code, printed) = run(&arguments, &[]).await;
        assert!(code == 2 && printed.contains("not found"), "{printed}");
    }
}

#[tokio::test]
async fn a_redis_that_cannot_be_meant_stops_the_start_and_no_password_is_repeated() {
    let password = planted();
    let url = format!("redis://user:{password}@redis");
    let (url, password) = (url.as_str(), password.as_str());
    for (variables, expected) in [
        (
            &[("REDIS_HOST", url)][..],
            "redis.host (REDIS_HOST): expected is host or host:port, without a scheme",
        ),
        (&[("REDIS_URL", "http://redis")], "redis.url (REDIS_URL): cannot be read; expected is redis://"),
        (&[("REDIS_URL", url), ("REDIS_PASSWORD", password)], "redis.url holds one too"),
        (
            &[("REDIS_URL", url), ("REDIS_HOST", "redis")],
            "redis.url is given too; keep the one that is meant",
        ),
        (&[("REDIS_PASSWORD", password)], "redis.password (REDIS_PASSWORD): is set, but no Redis is"),
        (&[("REDIS_SENTINELS", "one,two")], "redis.sentinel_master (REDIS_SENTINEL_MASTER): is needed"),
        (&[("REDIS_SENTINELS", url)], "redis.sentinels (REDIS_SENTINELS): expected is host or host:port"),
        (&[("REDIS_CLUSTER_NODES", "one:0")], "redis.cluster_nodes (REDIS_CLUSTER_NODES): expected is host"),
        (
            &[("REDIS_HOST", "redis"), ("REDIS_PORT", "70000")],
            "redis.port (REDIS_PORT): 70000 is out of range",
        ),
        (&[("REDIS_HOST", "redis"), ("REDIS_DB", "-1")], "redis.db (REDIS_DB): -1 is out of range"),
        (&[("REDIS_HOST", "redis"), ("REDIS_USERNAME", "sse")], "a user needs a password (REDIS_PASSWORD)"),
        (
            &[("REDIS_HOST", "redis"), ("VX11_OPERATOR__REDIS__CA_FILE", "./none.pem")],
            "redis.ca_file: cannot read the file ./none.pem",
        ),
        (&[("REDIS_HOST", "redis"), ("VX11_OPERATOR__REDIS__TLS", "yes")], "expected is true or false"),
    ] {
        let printed = complaint(variables).await;
        assert!(printed.contains(expected) && !printed.contains(password), "{variables:?}: {printed}");
    }
}

#[tokio::test]
async fn with_redis_a_principal_is_needed_because_all_instances_share_it() {
    let (code, printed) = run(&["serve"], &[("REDIS_HOST", "127.0.0.1")]).await;
    assert_eq!(code, 2);
    assert!(printed.contains("principal_token (VX11_PRINCIPAL_TOKEN): is needed with Redis"), "{printed}");
}
