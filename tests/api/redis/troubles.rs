//! Problems with Redis are logged once, with a helpful text, and the instance serves nevertheless.

use reqwest::StatusCode;
use vx11_kit::RedisServer;

use super::{DocumentedUser, backend_becomes, figures, nothing_was_denied, revoke_everywhere};
use crate::support::{Instance, issue_with, planted, problem};

/// An instance with these settings says this, once, while it serves requests.
async fn complains(settings: &[(&str, &str)], words: &[&str]) -> Instance {
    let instance = Instance::with(settings).await;
    for _ in 0..10 {
        let issued = instance.post_as_principal("/operator/api/events/sse-token").send().await.unwrap();
        assert_eq!(issued.status(), StatusCode::OK);
        let issued: serde_json::Value = issued.json().await.unwrap();
        assert_eq!(issued["backend"], "fallback-memory");
    }
    instance.metric_becomes("vx11_operator_breaker_state", 2).await;
    // Once for the tokens, once for the events. On a busy machine a connection may also take too
    // long, which is another reason.
    let complaints = |begins: &str| -> Vec<String> {
        let log = instance.log_text();
        let of_this = log.lines().filter(|line| line.contains(begins) && line.contains(words[0]));
        of_this.map(str::to_owned).collect()
    };
    let both = ["Redis cannot be used", "the event log is unavailable:"];
    for begins in both {
        vx11_kit::until(begins, async || !complaints(begins).is_empty()).await;
    }
    // A few more failed health checks, which must not repeat it.
    let before = faults(&instance).await;
    vx11_kit::until("more failures", async || faults(&instance).await >= before + 6).await;
    for begins in both {
        let complaints = complaints(begins);
        assert_eq!(complaints.len(), 1, "{begins}: {complaints:#?}");
        for words in words {
            assert!(complaints[0].contains(words), "{words}: {}", complaints[0]);
        }
        assert!(!complaints[0].contains("?."), "two ends of a sentence: {}", complaints[0]);
    }
    let unusable = &complaints(both[0])[0];
    assert!(unusable.contains("ERROR") && unusable.contains("not used it since its start"), "{unusable}");
    assert_eq!(figures(&instance).await["backend"], "fallback-memory");
    instance
}

/// Number of times that Redis could not be used, over all reasons.
async fn faults(instance: &Instance) -> u64 {
    let page = instance.get("/metrics").send().await.unwrap().text().await.unwrap();
    let counts = page.lines().filter(|line| line.starts_with("vx11_operator_store_faults_total{"));
    counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn a_redis_that_is_lost_later_is_a_warning() {
    let mut redis = RedisServer::start().await;
    let port = redis.port().to_string();
    let instance = Instance::with(&[("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", &port)]).await;
    backend_becomes(&instance, "redis").await;
    redis.kill();
    instance.logs("Redis cannot be used").await;
    let log = instance.log_text();
    let unusable: Vec<_> = log.lines().filter(|line| line.contains("Redis cannot be used")).collect();
    assert!(unusable.iter().all(|line| line.contains("WARN")), "{unusable:#?}");
}

#[tokio::test]
async fn a_wrong_or_missing_password() {
    let (right, wrong) = (planted(), planted());
    let redis = RedisServer::with(&["--requirepass", &right]).await;
    let port = redis.port().to_string();
    let at = [("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", port.as_str())];
    let words = &["user name or password is refused", "check REDIS_PASSWORD"];
    complains(&[at[0], at[1], ("REDIS_PASSWORD", &wrong)], words).await;
    complains(&at, words).await;
    let well = Instance::with(&[at[0], at[1], ("REDIS_PASSWORD", &right)]).await;
    backend_becomes(&well, "redis").await;
}

#[tokio::test]
async fn an_unknown_user_and_a_user_without_a_right() {
    let password = planted();
    let redis = RedisServer::start().await;
    let enter = format!(">{password}");
    redis.command(&["ACL", "SETUSER", "sse", "on", &enter, "~*", "+@all", "-setex", "-xadd"]).await;
    let port = redis.port().to_string();
    let at =
        [("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", port.as_str()), ("REDIS_PASSWORD", password.as_str())];
    let unknown = [at[0], at[1], at[2], ("REDIS_USERNAME", "nobody")];
    complains(&unknown, &["user name or password is refused", "this user exists"]).await;
    let poor = [at[0], at[1], at[2], ("REDIS_USERNAME", "sse")];
    let instance = complains(&poor, &["the user lacks a right", "docs/redis.md"]).await;
    redis.command(&["ACL", "SETUSER", "sse", "+@all"]).await;
    backend_becomes(&instance, "redis").await;
}

#[tokio::test]
async fn a_database_that_is_not_there() {
    let redis = RedisServer::start().await;
    let port = redis.port().to_string();
    let settings = [("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", port.as_str()), ("REDIS_DB", "99")];
    complains(&settings, &["the database does not exist", "check REDIS_DB"]).await;
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_or_resolved() {
    // Nothing listens on the port of a server that is gone.
    let mut redis = RedisServer::start().await;
    redis.kill();
    let port = redis.port().to_string();
    let gone = [("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", port.as_str())];
    complains(&gone, &["the server cannot be reached", "check that it is running"]).await;
    complains(&[("REDIS_HOST", "no-such-host.invalid")], &["the host name cannot be resolved"]).await;
    let sentinel = format!("127.0.0.1:{port}");
    let none = [("REDIS_SENTINELS", sentinel.as_str()), ("REDIS_SENTINEL_MASTER", "vx11")];
    complains(&none, &["no master can be found", "check REDIS_SENTINELS"]).await;
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted() {
    let redis = RedisServer::with_tls().await;
    let url = redis.url();
    complains(&[("REDIS_URL", &url)], &["TLS cannot be established", "redis.ca_file"]).await;
    let authority = redis.ca_file().to_str().unwrap();
    let well = Instance::with(&[("REDIS_URL", &url), ("VX11_OPERATOR__REDIS__CA_FILE", authority)]).await;
    backend_becomes(&well, "redis").await;
    well.issue().await;
}

#[tokio::test]
async fn the_documented_rights_are_enough() {
    let redis = RedisServer::start().await;
    let user = DocumentedUser::new();
    user.create(&redis).await;
    let port = redis.port().to_string();
    let at = [("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", port.as_str())];
    let [limit, policy] = LIMITED;
    let instance = Instance::with(&[&at[..], &user.settings(), &[limit, policy]].concat()).await;
    needs_leases_tickets_and_answers(&instance).await;
    let issued = instance.issue().await;
    revoke_everywhere(&instance, ("token", &issued.token)).await;
    instance.publish(serde_json::json!(1)).await;
    // A leftover of an instance that is long gone has to be removed, which takes a right of its
    // own.
    redis.command(&["HSET", "{vx11}:instances", "9 dead", "not a heartbeat"]).await;
    vx11_kit::until("the leftover to go", async || {
        redis.command_text(&["HLEN", "{vx11}:instances"]).await == "1"
    })
    .await;
    redis.flush().await;
    instance.logs("Redis has lost data").await;
    backend_becomes(&instance, "redis").await;
    vx11_kit::until("the log to be brought back", async || {
        let publish =
            instance.post_as_principal("/operator/api/events").json(&serde_json::json!({"data": 1}));
        publish.send().await.unwrap().status() == StatusCode::ACCEPTED
    })
    .await;
    assert!(
        !instance.log_text().contains("cannot be used")
            && !instance.log_text().contains("the event log is unavailable:")
    );
    nothing_was_denied(&redis).await;
}

/// Two streams of a subject replace its first; tickets open once; the list and the end of streams
/// ask all instances.
async fn needs_leases_tickets_and_answers(instance: &Instance) {
    let mut streams = Vec::new();
    for _ in 0..=2 {
        let token = ticket(instance).await;
        streams.push(instance.open_stream(&token).await);
        problem(instance.ask_for_stream(&token).await, StatusCode::FORBIDDEN, "token_refused").await;
    }
    instance.stream_ends_are("replaced", 1).await;
    let listed = instance.get_as_principal("/operator/api/streams").send().await.unwrap();
    let listed: serde_json::Value = listed.json().await.unwrap();
    assert_eq!(listed["streams"].as_array().unwrap().len(), 2);
    let order = serde_json::json!({ "subject": "user-7" });
    let end = instance.post_as_principal("/operator/api/streams/end").json(&order).send().await.unwrap();
    let ended: serde_json::Value = end.json().await.unwrap();
    assert_eq!((&ended["ended"], &ended["effective"]), (&2.into(), &"cluster".into()));
    for decided_alone in ["subject_caps_local_total", "tickets_local_total"] {
        assert_eq!(instance.metric(&format!("vx11_operator_{decided_alone}")).await, 0, "{decided_alone}");
    }
}

const LIMITED: [(&str, &str); 2] = [
    ("VX11_OPERATOR__STREAMS__PER_SUBJECT", "2"),
    ("VX11_OPERATOR__STREAMS__PER_SUBJECT_POLICY", "replace_oldest"),
];

/// A single-use token of a subject.
async fn ticket(instance: &Instance) -> String {
    let fields = serde_json::json!({ "subject": "user-7", "single_use": true });
    issue_with(instance, &fields).await["sse_token"].as_str().unwrap().to_owned()
}

/// Patterns of the keys that instances need, but for those of leases and tickets.
fn other_keys() -> String {
    let together = [
        "events*",
        "log*",
        "nothing",
        "published:*",
        "instances",
        "trial*",
        "deployment",
        "revocations",
        "control",
        "blocks",
        "questions",
        "answers:*",
    ];
    let together: Vec<_> = together.iter().map(|name| format!("~{{vx11}}:{name}")).collect();
    format!("~revoked:* ~epoch:* ~token:{} {}", "[0-9a-f]".repeat(32), together.join(" "))
}

#[tokio::test]
async fn rights_that_leases_and_tickets_lack_are_named_at_the_start_and_cost_nothing_else() {
    for (more, named) in [
        ("", "lacks rights: keys {vx11}:alive; keys {vx11}:subject:*; keys token:*:ticket; grant"),
        (" ~{vx11}:alive ~token:*:ticket", "lacks rights: keys {vx11}:subject:*; grant"),
    ] {
        let redis = RedisServer::start().await;
        let user = DocumentedUser::new();
        user.with_keys(&format!("{}{more}", other_keys())).create(&redis).await;
        let port = redis.port().to_string();
        let at = [("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", port.as_str())];
        let instance = Instance::with(&[&at[..], &user.settings(), &LIMITED].concat()).await;
        instance.logs(named).await;
        // As if Redis were unavailable, for these only.
        let token = ticket(&instance).await;
        let _stream = instance.open_stream(&token).await;
        problem(instance.ask_for_stream(&token).await, StatusCode::FORBIDDEN, "token_refused").await;
        assert!(instance.metric("vx11_operator_tickets_local_total").await > 0);
        assert_eq!(instance.metric("vx11_operator_subject_caps_local_total").await, 1);
        assert_eq!(figures(&instance).await["backend"], "redis");
        assert_eq!(faults(&instance).await, instance.missed_deadlines().await);
        // The right is granted, and noticed without a restart.
        user.create(&redis).await;
        instance.logs("limits of subjects and single-use tokens use Redis").await;
    }
}

#[tokio::test]
async fn without_rights_for_leases_and_tickets_their_streams_are_put_off_if_that_is_the_policy() {
    let redis = RedisServer::start().await;
    let user = DocumentedUser::new();
    user.with_keys(&other_keys()).create(&redis).await;
    let port = redis.port().to_string();
    let at = [("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", port.as_str())];
    let refuse = ("VX11_OPERATOR__REDIS__WHEN_LOST", "refuse");
    let instance = Instance::with(&[&at[..], &user.settings(), &LIMITED, &[refuse]].concat()).await;
    let issue = async |fields| issue_with(&instance, &fields).await["sse_token"].as_str().unwrap().to_owned();
    let limited = issue(serde_json::json!({ "subject": "user-7" })).await;
    let ticket = issue(serde_json::json!({ "single_use": true })).await;
    for token in [&limited, &ticket] {
        let answer = instance.ask_for_stream(token).await;
        assert!(answer.headers().contains_key("retry-after"));
        problem(answer, StatusCode::SERVICE_UNAVAILABLE, "store_unavailable").await;
    }
    let proxied = instance.get("/operator/internal/authorise").bearer_auth(&ticket).send().await.unwrap();
    problem(proxied, StatusCode::SERVICE_UNAVAILABLE, "store_unavailable").await;
    let unproven = r#"vx11_operator_ephemeral_tokens_invalid_total{reason="unproven"}"#;
    assert_eq!(instance.metric(unproven).await, 3);
    for name in ["subject_caps_local_total", "tickets_local_total"] {
        assert_eq!(instance.metric(&format!("vx11_operator_{name}")).await, 0);
    }
    let plain = instance.issue().await.token;
    assert_eq!(instance.ask_for_stream(&plain).await.status(), StatusCode::OK, "it needs neither");
}

/// As in a list of rights from before the log was bounded in bytes.
#[tokio::test]
async fn a_user_that_may_not_trim_costs_the_bound_of_the_log_and_no_event() {
    let redis = RedisServer::start().await;
    let user = DocumentedUser::new().without("+xtrim");
    user.create(&redis).await;
    let port = redis.port().to_string();
    let at = [("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", port.as_str())];
    let small = [("VX11_OPERATOR__EVENTS__LOG_BYTES", "1048576")];
    let instance = Instance::with(&[&at[..], &user.settings(), &small].concat()).await;
    instance.metric_becomes("vx11_operator_event_log_in_reach", 1).await;
    instance.logs("may not run XTRIM").await;
    let data = serde_json::json!("x".repeat(60_000));
    for _ in 0..40 {
        instance.publish(data.clone()).await;
    }
    assert_eq!(
        redis.command_text(&["XLEN", "{vx11}:events"]).await,
        "41",
        "the events and the mark at the beginning"
    );
    redis.refuse_memory().await;
    let full = instance.post_as_principal("/operator/api/events").json(&serde_json::json!({"data": 1}));
    assert_eq!(full.send().await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(!instance.log_text().contains("the event log is unavailable:"), "what it may do goes on");
}
