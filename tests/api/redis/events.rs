//! One log for all instances: what is published anywhere reaches every stream, and a stream goes on
//! wherever it resumes.

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::Cluster;
use crate::support::{Instance, problem};

/// Publishes `data` under `key`; the status, the id, and whether it was there before.
async fn publish_once(instance: &Instance, key: &str, data: Value) -> (StatusCode, Value, bool) {
    let request = instance.post_as_principal("/operator/api/events").header("Idempotency-Key", key);
    let answer = request.json(&json!({ "data": data })).send().await.unwrap();
    let replayed = answer.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
    (answer.status(), answer.json().await.unwrap(), replayed)
}

/// The answer to publishing under a key. It repeats while Redis misses the deadline of the service,
/// as on a busy machine.
async fn publish_under(instance: &Instance, key: &str, data: Value) -> (StatusCode, Value, bool) {
    vx11_kit::eventually("an answer other than that of the deadline", async || {
        let answer = publish_once(instance, key, data.clone()).await;
        let code = answer.1["code"].as_str().unwrap_or_default();
        (!["log_unavailable", "outcome_unknown"].contains(&code)).then_some(answer)
    })
    .await
}

/// Number of events with an unknown outcome because of the deadline.
async fn unknown_outcomes(instance: &Instance) -> u64 {
    instance.metric("vx11_operator_events_refused_total{outcome=\"unknown\"").await
}

#[tokio::test]
async fn an_event_published_on_one_instance_reaches_the_streams_of_all_in_one_order() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let token = one.issue().await.token;
    let mut subscribers = [one.open_stream(&token).await, two.open_stream(&token).await];
    let mut ids = Vec::new();
    for n in 0..20 {
        let publisher = if n % 3 == 0 { &one } else { &two };
        ids.push(publisher.publish(json!(n)).await);
    }
    for stream in &mut subscribers {
        for (n, id) in ids.iter().enumerate() {
            let frame = stream.next_published().await;
            assert_eq!((&frame.id, frame.data), (id, n.to_string()));
        }
    }
}

#[tokio::test]
async fn a_stream_resumes_on_another_instance_with_exactly_what_it_missed() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let token = one.issue().await.token;
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(one.publish(json!(n)).await);
    }
    one.kill().await;
    let three = cluster.instance("3").await;
    for (instance, seen) in [(&two, 0), (&two, 9), (&three, 0), (&three, 5)] {
        let mut stream = instance.resume_stream(&token, &ids[seen]).await;
        assert_eq!(stream.greeting.id, ids[seen]);
        for missed in &ids[seen + 1..] {
            assert_eq!(stream.next_published().await.id, *missed);
        }
    }
}

#[tokio::test]
async fn what_has_left_the_ring_is_resumed_from_the_log_and_what_has_left_the_log_is_announced() {
    let cluster = Cluster::start().await;
    // The token outlives a thousand events on a busy machine.
    let small = [
        ("VX11_OPERATOR__EVENTS__RING_ENTRIES", "10"),
        ("VX11_OPERATOR__EVENTS__LOG_ENTRIES", "200"),
        ("EPHEMERAL_TOKEN_TTL_SEC", "900"),
    ];
    let (one, two) = (cluster.instance_with("1", &small).await, cluster.instance_with("2", &small).await);
    let token = one.issue().await.token;
    let mut ids = vec![one.open_stream(&token).await.greeting.id];
    for n in 0..1000 {
        ids.push(one.publish(json!(n)).await);
    }
    let within = ids.len() - 150;
    let mut stream = two.resume_stream(&token, &ids[within]).await;
    for missed in &ids[within + 1..] {
        assert_eq!(stream.next_published().await.id, *missed);
    }
    let live = two.publish(json!("live")).await;
    assert_eq!(stream.next_published().await.id, live);
    assert_eq!(two.metric(r#"vx11_operator_sse_streams_resumed_total{from="log"}"#).await, 1);

    let mut too_late = one.resume_stream(&token, &ids[100]).await;
    assert_eq!(too_late.greeting.id, "");
    let reset = too_late.next_published().await;
    assert_eq!((reset.event.as_str(), reset.json()), ("reset", json!({"reason": "expired"})));
    assert_eq!(reset.id, live);
}

#[tokio::test]
async fn an_event_that_is_published_twice_under_one_key_is_there_once_whichever_instance_is_asked() {
    let cluster = Cluster::start().await;
    let (one, two) = (cluster.instance("1").await, cluster.instance("2").await);
    let mut stream = two.open_stream(&two.issue().await.token).await;
    let (status, first, replayed) = publish_under(&one, "order-17", json!({"n": 1})).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert!(!replayed || unknown_outcomes(&one).await > 0, "nothing was published under this key before");
    for instance in [&one, &two] {
        let again = publish_under(instance, "order-17", json!({"n": 1})).await;
        assert_eq!(again, (StatusCode::ACCEPTED, first.clone(), true));
    }
    let (status, body, _) = publish_under(&two, "order-17", json!({"n": 2})).await;
    assert_eq!((status, &body["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("idempotency_key_reused")));
    let last = one.publish(json!("last")).await;
    assert_eq!(stream.next_published().await.json(), json!({"n": 1}));
    assert_eq!(stream.next_published().await.id, last, "once");
    let repeated = two.metric("vx11_operator_events_repeated_total").await;
    assert!((1..=1 + unknown_outcomes(&two).await).contains(&repeated), "{repeated}");
}

#[tokio::test]
async fn of_many_that_publish_under_one_key_at_once_one_publishes() {
    let cluster = Cluster::start().await;
    let instances = [cluster.instance("1").await, cluster.instance("2").await];
    let calls = (0..40).map(|n| publish_under(&instances[n % 2], "same", json!(1)));
    let answers = futures_util::future::join_all(calls).await;
    let firsts = answers.iter().filter(|(_, _, replayed)| !replayed).count();
    let unknown = unknown_outcomes(&instances[0]).await + unknown_outcomes(&instances[1]).await;
    // The first answer may be the one that missed the deadline.
    assert!(
        firsts == 1 || (firsts == 0 && unknown > 0),
        "{firsts} answers say that they published the event"
    );
    let (_, first, _) = &answers[0];
    assert!(answers.iter().all(|(status, body, _)| (*status, body) == (StatusCode::ACCEPTED, first)));
}

#[tokio::test]
async fn while_redis_is_unavailable_publishing_gets_retry_after_and_streams_stay_open_and_get_degraded() {
    let mut cluster = Cluster::start().await;
    let one = cluster.instance("1").await;
    let mut stream = one.open_stream(&one.issue().await.token).await;
    let before = one.publish(json!("before")).await;
    assert_eq!(stream.next_published().await.id, before);
    cluster.redis.kill();
    // From here on the log is unavailable until Redis is back.
    one.metric_becomes("vx11_operator_event_log_in_reach", 0).await;
    let degraded = stream.next().await.unwrap();
    assert_eq!(
        (degraded.event.as_str(), degraded.json()),
        ("degraded", json!({"reason": "log_unavailable"}))
    );
    assert_eq!(
        degraded.id, before,
        "it has no id of its own: a client that resumes goes on after the last event"
    );
    let request = one.post_as_principal("/operator/api/events").json(&json!({"data": 1}));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["retry-after"], "1");
    problem(answer, StatusCode::SERVICE_UNAVAILABLE, "log_unavailable").await;
    // A client that connects meanwhile gets `degraded`, too, and misses no event that is available.
    let mut late = one.resume_stream(&one.issue().await.token, &before).await;
    assert_eq!(late.greeting.id, before);
    assert_eq!(late.next().await.unwrap().event, "degraded");

    cluster.redis.restart().await;
    for stream in [&mut stream, &mut late] {
        assert_eq!(stream.next().await.unwrap().event, "recovered");
    }
    let after = one.publish(json!("after")).await;
    for stream in [&mut stream, &mut late] {
        assert_eq!(stream.next_published().await.id, after, "and nothing in between");
    }
    one.metric_becomes("vx11_operator_event_log_in_reach", 1).await;
}

#[tokio::test]
async fn a_hung_redis_makes_publishing_answer_in_time_and_repeating_under_the_key_publishes_once() {
    let mut cluster = Cluster::start().await;
    let one = cluster.instance("1").await;
    let mut stream = one.open_stream(&one.issue().await.token).await;
    cluster.redis.stop().await;
    let (status, body, _) = publish_once(&one, "k", json!(1)).await;
    assert_eq!((status, &body["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("outcome_unknown")));
    vx11_kit::until("it is known", async || {
        let (_, body, _) = publish_once(&one, "k", json!(1)).await;
        body["code"] == "log_unavailable"
    })
    .await;
    cluster.redis.cont();
    let id = vx11_kit::eventually("publishing works again", async || {
        let (status, body, _) = publish_once(&one, "k", json!(1)).await;
        (status == StatusCode::ACCEPTED).then(|| body["id"].as_str().unwrap().to_owned())
    })
    .await;
    let last = one.publish(json!("last")).await;
    let mut got = Vec::new();
    while got.last() != Some(&last) {
        got.push(stream.next_published().await.id);
    }
    assert_eq!(got, [id, last]);
}

#[tokio::test]
async fn a_stream_opened_before_the_log_was_ever_reached_waits_for_it() {
    let mut cluster = Cluster::start().await;
    let one = cluster.instance("1").await;
    let (first, second) = (one.publish(json!(1)).await, one.publish(json!(2)).await);
    cluster.redis.stop().await;
    let two = cluster.instance("2").await;
    let token = two.issue().await.token;
    let (mut knows, mut new) = (two.resume_stream(&token, &first).await, two.open_stream(&token).await);
    for stream in [&mut knows, &mut new] {
        assert_eq!(stream.greeting.id, "");
        assert_eq!(stream.next().await.unwrap().event, "degraded");
    }
    cluster.redis.cont();
    assert_eq!(knows.next_published().await.id, second, "nothing is missed by who says what it has seen");
    let reset = new.next_published().await;
    assert_eq!((reset.event.as_str(), reset.json()), ("reset", json!({"reason": "unknown"})));
}

#[tokio::test]
async fn a_key_that_no_header_should_carry_is_refused() {
    let instance = Instance::start().await;
    for key in ["", "two words", &"k".repeat(129)] {
        let request = instance.post_as_principal("/operator/api/events").header("Idempotency-Key", key);
        let answer = request.json(&json!({"data": 1})).send().await.unwrap();
        problem(answer, StatusCode::BAD_REQUEST, "bad_request").await;
    }
    let request = instance.post_as_principal("/operator/api/events").header("Idempotency-Key", "a");
    let answer = request.header("Idempotency-Key", "b").json(&json!({"data": 1})).send().await.unwrap();
    problem(answer, StatusCode::BAD_REQUEST, "bad_request").await;
}

#[tokio::test]
async fn without_redis_a_key_is_known_as_well() {
    let instance = Instance::start().await;
    let (_, first, _) = publish_once(&instance, "k", json!(1)).await;
    assert_eq!(publish_once(&instance, "k", json!(1)).await, (StatusCode::ACCEPTED, first, true));
    assert_eq!(publish_once(&instance, "k", json!(2)).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(publish_once(&instance, "other", json!(2)).await.0, StatusCode::ACCEPTED);
}
