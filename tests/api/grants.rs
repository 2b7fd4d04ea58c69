//! Tokens with a grant: what they open, and that nobody gets more out of one.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::{Value, json};
use vx11_kit::{EventStream, remember_secret};

use crate::support::{
    Instance, Limited, ask_for_token, issue_with, problem, publish_to, stream, token_for, with_principals,
};

const ISSUE: &str = "/operator/api/events/sse-token";
const AUTHORISE: &str = "/operator/internal/authorise";

/// Opens a stream with further parameters.
async fn open(instance: &Instance, token: &str, more: &[(&str, &str)]) -> EventStream {
    let parameters = [&[("token", token)], more].concat();
    EventStream::connected(stream(instance, &parameters).send().await.unwrap()).await
}

/// Publishes to each topic in turn an event whose data is its topic; returns their ids.
async fn publish_to_each(instance: &Instance, topics: &[&str]) -> Vec<String> {
    let mut ids = Vec::new();
    for topic in topics {
        ids.push(publish_to(instance, topic, topic).await);
    }
    ids
}

/// Asserts that the next events of a stream are those of these topics.
async fn delivers(stream: &mut EventStream, topics: &[&str]) {
    for topic in topics {
        assert_eq!(stream.next().await.unwrap().json(), *topic);
    }
}

#[tokio::test]
async fn the_answer_tells_what_the_token_opens_and_where_its_stream_is() {
    let instance = Instance::with(&[("EPHEMERAL_TOKEN_TTL_SEC", "60")]).await;
    let fields = json!({ "subject": "user:7/a", "topics": ["orders/*", "news"] });
    let issued = issue_with(&instance, &fields).await;
    let token = issued["sse_token"].as_str().unwrap();
    let (uuid, grant) = token.split_once('.').unwrap();
    assert_eq!(uuid.len(), 36);
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    assert!(!grant.is_empty() && grant.bytes().all(is_base64url), "{grant}");
    assert_eq!((&issued["subject"], &issued["topics"]), (&fields["subject"], &fields["topics"]));
    assert_eq!(issued["expires_in"], json!(60));
    let url = issued["stream_url"].as_str().unwrap();
    assert_eq!(url, format!("/operator/api/events/stream?token={token}"));
    let mut stream = EventStream::connected(instance.get(url).send().await.unwrap()).await;
    publish_to_each(&instance, &["users/7", "news"]).await;
    delivers(&mut stream, &["news"]).await;
}

#[tokio::test]
async fn any_field_gives_a_grant_and_the_topic_is_default_unless_another_is_asked_for() {
    let instance = Instance::start().await;
    for fields in
        [json!({ "subject": "user-7" }), json!({ "expires_in": 30 }), json!({ "topics": ["default"] })]
    {
        let issued = issue_with(&instance, &fields).await;
        let token = issued["sse_token"].as_str().unwrap();
        assert!(token.contains('.'), "{fields}");
        assert_eq!(issued["topics"], json!(["default"]), "{fields}");
        assert_eq!(issued.get("subject"), fields.get("subject"), "{fields}");
        let mut stream = open(&instance, token, &[]).await;
        publish_to_each(&instance, &["news", "default"]).await;
        delivers(&mut stream, &["default"]).await;
    }
}

#[tokio::test]
async fn a_token_lives_as_long_as_its_request_says() {
    let instance = Instance::start().await;
    for seconds in [1, 300, 900] {
        let issued = issue_with(&instance, &json!({ "expires_in": seconds })).await;
        assert_eq!(issued["expires_in"], json!(seconds));
        let token = issued["sse_token"].as_str().unwrap();
        let described = instance.introspect(token).await;
        if let (Some(exp), Some(iat)) = (described["exp"].as_u64(), described["iat"].as_u64()) {
            assert!((seconds..=seconds + 1).contains(&(exp - iat)), "{described}");
        } else {
            assert_eq!(seconds, 1, "only that one may have expired: {described}");
        }
    }
    let brief = issue_with(&instance, &json!({ "expires_in": 1 })).await;
    instance.expires(brief["sse_token"].as_str().unwrap()).await;
}

/// The topics that a grant of `orders/*` and `news` matches, among others.
const PUBLISHED: [&str; 8] =
    ["orders", "orders/1", "users/7", "default", "news", "orders/1/items", "news/1", "orders/2"];
const GRANTED: [&str; 4] = ["orders/1", "news", "orders/1/items", "orders/2"];

#[tokio::test]
async fn a_stream_delivers_what_its_grant_matches_and_nothing_else() {
    let instance = Instance::start().await;
    let mut stream = open(&instance, &token_for(&instance, &["orders/*", "news"]).await, &[]).await;
    let mut of_plain = open(&instance, &instance.issue().await.token, &[]).await;
    let mut of_all = open(&instance, &token_for(&instance, &["*"]).await, &[]).await;
    publish_to_each(&instance, &PUBLISHED).await;
    // Nothing is between them, or after the last one.
    publish_to_each(&instance, &["news", "default"]).await;
    delivers(&mut stream, &GRANTED).await;
    delivers(&mut stream, &["news"]).await;
    delivers(&mut of_plain, &["default", "default"]).await;
    delivers(&mut of_all, &PUBLISHED).await;
    delivers(&mut of_all, &["news", "default"]).await;
    assert_eq!(instance.metric("vx11_operator_events_delivered_total").await, 5 + 2 + 10);
}

#[tokio::test]
async fn a_stream_that_resumes_delivers_what_its_grant_matches_after_the_event_of_any_topic() {
    let instance = Instance::with(&[("VX11_OPERATOR__STREAMS__MAX_PER_TOKEN", "0")]).await;
    let token = token_for(&instance, &["orders/*", "news"]).await;
    let start = open(&instance, &token, &[]).await.greeting.id;
    let ids = publish_to_each(&instance, &PUBLISHED).await;
    publish_to(&instance, "news", "the end").await;
    for (seen, id) in std::iter::once(&start).chain(&ids).enumerate() {
        let rest = PUBLISHED[seen..].iter().copied().filter(|topic| GRANTED.contains(topic));
        let rest: Vec<_> = rest.chain(["the end"]).collect();
        let mut stream = open(&instance, &token, &[("last_event_id", id)]).await;
        delivers(&mut stream, &rest).await;
    }
}

#[tokio::test]
async fn a_stream_is_narrowed_within_its_grant_and_never_beyond() {
    let instance = Instance::start().await;
    let token = token_for(&instance, &["orders/*", "news"]).await;
    for (asked, expected) in [
        (&["news"][..], &["news"][..]),
        (&["orders/1"], &["orders/1"]),
        (&["orders/1", "news"], &["orders/1", "news"]),
        (&["orders/1/*"], &["orders/1/items"]),
        (&["orders/*"], &["orders/1", "orders/1/items", "orders/2"]),
    ] {
        let parameters: Vec<_> = asked.iter().map(|topic| ("topic", *topic)).collect();
        let mut stream = open(&instance, &token, &parameters).await;
        // Twice, so that nothing else is after the last one either.
        for _ in 0..2 {
            publish_to_each(&instance, &PUBLISHED).await;
        }
        delivers(&mut stream, &expected.repeat(2)).await;
    }
    for (asked, beyond) in [
        (&["users/7"][..], "users/7"),
        (&["orders"], "orders"),
        (&["*"], "*"),
        (&["news", "default"], "default"),
        (&["news/*"], "news/*"),
        (&["$streams/opened"], "$streams/opened"),
    ] {
        let mut parameters = vec![("token", token.as_str())];
        parameters.extend(asked.iter().map(|topic| ("topic", *topic)));
        let answer = stream(&instance, &parameters).send().await.unwrap();
        let refusal = problem(answer, StatusCode::FORBIDDEN, "not_permitted").await;
        assert_eq!(refusal["detail"], format!("the grant of this token does not include {beyond}"));
    }
    let counter = "vx11_operator_not_permitted_total{right=\"subscribe\"}";
    assert_eq!(instance.metric(counter).await, 6);
    // A token that is not valid gets the answer of all such tokens.
    let revoked = instance.post_as_principal("/operator/api/tokens/revoke").form(&[("token", &token)]);
    assert_eq!(revoked.send().await.unwrap().status(), StatusCode::OK);
    let answer = stream(&instance, &[("token", token.as_str()), ("topic", "users/7")]).send().await.unwrap();
    problem(answer, StatusCode::FORBIDDEN, "token_refused").await;
}

#[tokio::test]
async fn a_plain_token_reads_default_and_is_narrowed_to_nothing_else() {
    let instance = Instance::start().await;
    let token = instance.issue().await.token;
    let mut stream = open(&instance, &token, &[("topic", "default")]).await;
    publish_to_each(&instance, &["news", "default"]).await;
    delivers(&mut stream, &["default"]).await;
    let answer =
        crate::support::stream(&instance, &[("token", &token), ("topic", "*")]).send().await.unwrap();
    problem(answer, StatusCode::FORBIDDEN, "not_permitted").await;
}

#[tokio::test]
async fn a_grant_cannot_be_dropped_moved_or_changed() {
    let instance = Instance::start().await;
    let (wide, narrow) = (token_for(&instance, &["*"]).await, token_for(&instance, &["news"]).await);
    let plain = instance.issue().await.token;
    let [(wide_uuid, wide_grant), (narrow_uuid, narrow_grant)] =
        [&wide, &narrow].map(|token| token.split_once('.').unwrap());
    let mut changed = narrow_grant.to_owned().into_bytes();
    let middle = changed.len() / 2;
    changed[middle] = if changed[middle] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).unwrap();
    let forged = [
        wide_uuid.to_owned(),
        narrow_uuid.to_owned(),
        format!("{narrow_uuid}.{wide_grant}"),
        format!("{wide_uuid}.{narrow_grant}"),
        format!("{plain}.{wide_grant}"),
        format!("{plain}."),
        format!("{narrow}."),
        format!("{narrow}.{wide_grant}"),
        format!("{narrow}="),
        format!("{narrow} "),
        format!("{narrow_uuid}.{changed}"),
        format!("{narrow_uuid}..{narrow_grant}"),
        format!("{}.{narrow_grant}", narrow_uuid.to_uppercase()),
        narrow[..narrow.len() - 1].to_owned(),
    ];
    for token in &forged {
        remember_secret(token.trim_end());
        for path in ["/operator/api/events/stream", AUTHORISE] {
            let answer = instance.get(path).query(&[("token", token)]).send().await.unwrap();
            problem(answer, StatusCode::FORBIDDEN, "token_refused").await;
        }
        assert_eq!(instance.introspect(token).await, json!({ "active": false }), "{token}");
    }
    let reason =
        |reason: &str| format!("vx11_operator_ephemeral_tokens_invalid_total{{reason=\"{reason}\"}}");
    let refused = instance.metric(&reason("forged")).await + instance.metric(&reason("malformed")).await;
    assert_eq!(refused, 2 * forged.len() as u64);
    for token in [&wide, &narrow, &plain] {
        assert_eq!(instance.introspect(token).await["active"], json!(true));
    }
}

#[tokio::test]
async fn introspection_tells_subject_principal_and_topics_of_a_grant() {
    let (instance, credentials) = with_principals(&[("shop", &["issue"], &["*"])], "").await;
    let fields = json!({ "subject": "user-7", "topics": ["orders/*", "news"] });
    let issued: Value = ask_for_token(&instance, &credentials[0], &fields).await.json().await.unwrap();
    let token = issued["sse_token"].as_str().unwrap();
    remember_secret(token);
    let described = instance.introspect(token).await;
    assert_eq!((&described["active"], &described["sub"]), (&json!(true), &json!("user-7")));
    assert_eq!((&described["client_id"], &described["scope"]), (&json!("shop"), &json!("orders/* news")));
    assert_eq!((&described["jti"], described.get("aud")), (&issued["token_id"], None));
    // Without a subject it is the principal, as for a plain token.
    let described = instance.introspect(&token_for(&instance, &["news"]).await).await;
    assert_eq!((&described["sub"], &described["client_id"]), (&json!("operator"), &json!("operator")));
    let plain = instance.introspect(&instance.issue().await.token).await;
    let names: BTreeSet<_> = plain.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(["active", "exp", "iat", "jti", "sub", "token_type"]));
}

#[tokio::test]
async fn a_proxy_learns_the_topics_of_a_limited_principal() {
    let limited: [Limited<'_>; 1] = [("shop", &["subscribe"], &["orders/*", "news"])];
    let (instance, credentials) = with_principals(&limited, "").await;
    let answer = instance.get(AUTHORISE).header("X-VX11-Token", &credentials[0]).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(answer.headers()["x-vx11-topics"], "orders/* news");
}

#[tokio::test]
async fn a_proxy_that_asks_learns_subject_and_topics_of_a_grant() {
    let instance = Instance::start().await;
    let fields = json!({ "subject": "user\"7", "topics": ["orders/*", "news"] });
    let granted = issue_with(&instance, &fields).await;
    let without_subject = token_for(&instance, &["news"]).await;
    let plain = instance.issue().await.token;
    for (token, subject, topics) in [
        (granted["sse_token"].as_str().unwrap(), Some("user\"7"), Some("orders/* news")),
        (&without_subject, None, Some("news")),
        (&plain, None, None),
        (&instance.principal, None, None),
    ] {
        let answer = instance.get(AUTHORISE).header("X-VX11-Token", token).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        let header = |name| answer.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!((header("x-vx11-subject"), header("x-vx11-topics")), (subject, topics));
        assert_eq!(header("x-vx11-principal"), Some("operator"));
    }
}

#[tokio::test]
async fn a_grant_that_would_be_too_long_is_refused() {
    let instance = Instance::start().await;
    let topics: Vec<_> = (0..16).map(|n| format!("{n}/{}", "x".repeat(100))).collect();
    let answer = ask_for_token(&instance, &instance.principal, &json!({ "topics": topics })).await;
    let refusal = problem(answer, StatusCode::BAD_REQUEST, "bad_request").await;
    assert!(refusal["detail"].as_str().unwrap().contains("grant"), "{refusal}");
    assert_eq!(instance.metric("vx11_operator_ephemeral_tokens_issued_total").await, 0);
    // As long as it may be: the longest tokens fit into a URL and into a header.
    let topics: Vec<_> = (0..6).map(|n| format!("{n}/{}", "x".repeat(100))).collect();
    let topics: Vec<_> = topics.iter().map(String::as_str).collect();
    let token = token_for(&instance, &topics).await;
    assert!(token.len() > 800, "{}", token.len());
    let in_header = instance.get("/operator/api/events/stream").bearer_auth(&token).send().await.unwrap();
    assert_eq!(in_header.status(), StatusCode::OK);
    open(&instance, &token, &[]).await;
}

#[tokio::test]
async fn a_bad_value_is_refused_by_the_name_of_its_field_and_nothing_is_issued() {
    let instance = Instance::start().await;
    for (fields, name) in [
        (json!({ "subject": null }), "subject"),
        (json!({ "subject": "xylo phone" }), "subject"),
        (json!({ "topics": null }), "topics"),
        (json!({ "topics": ["xylophone//"] }), "topics"),
        (json!({ "expires_in": 901 }), "expires_in"),
        (json!({ "expires_in": 60, "stream_until": "2026-01-01T00:00:00Z" }), "stream_until"),
        (json!({ "single_use": "xylophone" }), "single_use"),
        (json!({ "resource": "/xylophone" }), "resource"),
    ] {
        let answer = ask_for_token(&instance, &instance.principal, &fields).await;
        let refusal = problem(answer, StatusCode::BAD_REQUEST, "bad_request").await;
        let detail = refusal["detail"].as_str().unwrap();
        assert!(detail.starts_with(name) && !detail.contains("xylo"), "{fields}: {detail}");
    }
    assert_eq!(instance.metric("vx11_operator_ephemeral_tokens_issued_total").await, 0);
}

/// A plain token does not name its principal, so few principals are tried for it.
#[tokio::test]
async fn a_principal_after_the_first_sixteen_gets_a_grant_for_default_in_place_of_a_plain_token() {
    const RIGHTS: &[&str] = &["issue"];
    const TOPICS: &[&str] = &["*"];
    let names: Vec<_> = (0..17).map(|n| format!("p{n}")).collect();
    let principals: Vec<_> = names.iter().map(|name| (name.as_str(), RIGHTS, TOPICS)).collect();
    let (instance, credentials) = with_principals(&principals, "").await;
    // `operator` is the first of all.
    for (name, credential, is_plain) in [("p14", &credentials[14], true), ("p15", &credentials[15], false)] {
        let answer = instance.post(ISSUE).header("X-VX11-Token", credential).send().await.unwrap();
        let issued: Value = answer.json().await.unwrap();
        let token = issued["sse_token"].as_str().unwrap();
        remember_secret(token);
        assert_eq!(!token.contains('.'), is_plain, "{name}");
        assert_eq!((issued.get("topics"), issued.get("stream_url")), (None, None), "{name}");
        assert_eq!(instance.introspect(token).await["sub"], json!(name));
        let mut stream = open(&instance, token, &[]).await;
        publish_to_each(&instance, &["news", "default"]).await;
        delivers(&mut stream, &["default"]).await;
    }
}

#[tokio::test]
async fn the_log_names_a_subject_by_a_hash_unless_it_may_have_it() {
    const SUBJECT: &str = "xylophone@example.org";
    for is_shown in [false, true] {
        let more = format!("[log]\nsubjects = {is_shown}\n");
        let (instance, _) = with_principals(&[], &more).await;
        let fields = json!({ "subject": SUBJECT, "topics": ["users/xylophone"] });
        let token = issue_with(&instance, &fields).await;
        let token = token["sse_token"].as_str().unwrap();
        open(&instance, token, &[]).await;
        let opened = async || {
            let log = instance.log_text();
            log.lines().find(|line| line.contains("stream opened by token")).map(str::to_owned)
        };
        let line = vx11_kit::eventually("a line of the stream", opened).await;
        let (_, rest) = line.split_once("subject=").unwrap();
        let shown = rest.split(' ').next().unwrap();
        if is_shown {
            assert_eq!(shown, SUBJECT);
        } else {
            let is_hash = shown.len() == 16 && shown.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(is_hash, "{line}");
            assert!(!instance.log_text().contains("xylophone"), "{}", instance.log.display());
        }
        // A stream of a plain token has no subject.
        open(&instance, &instance.issue().await.token, &[]).await;
        let lines = async || {
            let log = instance.log_text();
            let opened: Vec<_> = log.lines().filter(|line| line.contains("stream opened by token")).collect();
            (opened.len() == 2).then(|| opened[1].contains("subject="))
        };
        assert!(!vx11_kit::eventually("another line", lines).await);
    }
}
