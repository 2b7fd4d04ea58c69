//! An instance is suspended for longer than any of its deadlines, as a frozen virtual machine is
//! (SIGSTOP, SIGCONT).

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::Cluster;

/// Longer than the deadlines of the session with the log, all of which have expired when the
/// instance resumes.
const SUSPENDED: Duration = Duration::from_millis(1500);

#[tokio::test]
async fn an_instance_that_was_suspended_takes_events_as_soon_as_it_resumes() {
    let cluster = Cluster::start().await;
    let one = cluster.instance("1").await;
    let mut acknowledged = 0;
    for round in 0..4 {
        one.suspend().await;
        // Nothing shows from outside that its deadlines have expired.
        tokio::time::sleep(SUSPENDED).await;
        one.resume();
        for _ in 0..20 {
            let request = one.post_as_principal("/operator/api/events").json(&json!({ "data": round }));
            let answer = request.send().await.unwrap();
            acknowledged += u32::from(answer.status() == StatusCode::ACCEPTED);
            let body: Value = answer.json().await.unwrap();
            assert_ne!(body["code"], "log_unavailable", "Redis is well");
        }
    }
    assert!(acknowledged > 0);
}
