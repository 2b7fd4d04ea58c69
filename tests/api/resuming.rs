//! Resuming: everything after the last event seen, once, or `reset`.

use serde_json::json;

use crate::support::Instance;

#[tokio::test]
async fn a_stream_resumes_with_exactly_the_events_it_missed() {
    let instance = Instance::start().await;
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(instance.publish(json!(n)).await);
    }
    for seen in 0..10 {
        let mut stream = instance.resume_stream(&instance.issue().await.token, &ids[seen]).await;
        assert_eq!(stream.greeting.id, ids[seen], "the greeting names the position resumed from");
        for missed in &ids[seen + 1..] {
            assert_eq!(stream.next().await.unwrap().id, *missed);
        }
        instance.publish(json!("live")).await;
        // The next events are live, not repeated.
        while stream.next().await.unwrap().json() != json!("live") {}
        ids.truncate(10);
    }
}

#[tokio::test]
async fn the_greetings_id_resumes_what_came_before_the_first_event_was_seen() {
    let instance = Instance::start().await;
    let token = instance.issue().await.token;
    let start = instance.open_stream(&token).await.greeting.id;
    let published = instance.publish(json!(1)).await;
    let mut stream = instance.resume_stream(&token, &start).await;
    assert_eq!(stream.next().await.unwrap().id, published);
}

#[tokio::test]
async fn events_that_left_the_ring_are_announced_by_reset() {
    let instance = Instance::with(&[("VX11_OPERATOR__EVENTS__RING_ENTRIES", "5")]).await;
    let token = instance.issue().await.token;
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(instance.publish(json!(n)).await);
    }
    let mut too_late = instance.resume_stream(&token, &ids[3]).await;
    assert_eq!(
        too_late.greeting.id, "",
        "a client cut off before the reset must not resume as if nothing were missing"
    );
    let reset = too_late.next().await.unwrap();
    assert_eq!((reset.event.as_str(), reset.json()), ("reset", json!({"reason": "expired"})));
    assert_eq!(reset.id, ids[9], "the stream goes on at the newest event");
    let mut just_in_time = instance.resume_stream(&token, &ids[4]).await;
    for id in &ids[5..] {
        assert_eq!(just_in_time.next().await.unwrap().id, *id);
    }
}

#[tokio::test]
async fn a_restarted_instance_announces_that_its_log_is_lost() {
    let before = Instance::start().await;
    let id = before.publish(json!(1)).await;
    let principal = before.principal.clone();
    before.kill().await;
    let after = Instance::with(&[("VX11_PRINCIPAL_TOKEN", &principal)]).await;
    let mut stream = after.resume_stream(&after.issue().await.token, &id).await;
    assert_eq!(stream.next().await.unwrap().json(), json!({"reason": "epoch"}));
}
