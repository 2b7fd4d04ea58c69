//! Opening, resuming and ending streams.

use reqwest::StatusCode;
use serde_json::json;

use crate::support::Instance;

#[tokio::test]
async fn a_stream_greets_at_once_and_carries_events_in_order() {
    let instance = Instance::start().await;
    let mut stream = instance.open_stream(&instance.issue().await.token).await;
    assert_eq!(stream.greeting.event, "message");
    assert!(stream.greeting.retry.is_some());
    for n in 0..100 {
        instance.publish(json!({ "n": n })).await;
    }
    for n in 0..100 {
        assert_eq!(stream.next().await.unwrap().json(), json!({ "n": n }));
    }
}
