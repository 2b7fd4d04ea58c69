//! An instance that is asked to end, under load: nobody notices.

use std::time::Duration;

use reqwest::{Response, StatusCode};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::support::{Cluster, is_deadline};

/// Each instance ends once.
const ROUNDS: usize = 2;
/// 200 a second.
const BETWEEN_REQUESTS: Duration = Duration::from_millis(5);
/// Of a round: longer than nginx leaves an instance alone that refused it.
const REQUESTS: usize = 600;

/// Violations in an answer. An instance may miss its deadline for Redis on a busy machine, and then
/// answer a publish accordingly.
async fn complaint(what: &str, answer: reqwest::Result<Response>, expected: StatusCode) -> Option<String> {
    match answer {
        Ok(answer) if answer.status() == expected => {
            answer.bytes().await.err().map(|error| format!("{what}: {error}"))
        }
        Ok(answer) => {
            let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
            let body = serde_json::from_str(&text).unwrap_or_default();
            (!is_deadline(status, &body)).then(|| format!("{what}: {status} {text}"))
        }
        Err(error) => Some(format!("{what}: {}", error.without_url())),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_instances_end_one_after_the_other() {
    let mut cluster = Cluster::of(2).await;
    let token = cluster.issue().await;
    let mut complaints = Vec::new();
    for round in 0..ROUNDS {
        let mut requests = JoinSet::new();
        let mut ticks = interval(BETWEEN_REQUESTS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for number in 0..REQUESTS {
            ticks.tick().await;
            if number == REQUESTS / 6 {
                cluster.instances[round % 2].terminate();
            }
            let (what, request, expected) = match number % 4 {
                0 => ("publishing", cluster.publish(number), StatusCode::ACCEPTED),
                1 => ("reading", cluster.get_as_principal("/operator/internal/instance-id"), StatusCode::OK),
                2 => (
                    "revoking",
                    cluster
                        .post_as_principal("/operator/api/tokens/revoke")
                        .form(&[("token_id", "0123456789abcdef")]),
                    StatusCode::OK,
                ),
                _ => (
                    "introspecting",
                    cluster.post_as_principal("/operator/api/tokens/introspect").form(&[("token", &token)]),
                    StatusCode::OK,
                ),
            };
            requests.spawn(async move { complaint(what, request.send().await, expected).await });
        }
        complaints.extend(requests.join_all().await.into_iter().flatten());
        cluster.instances[round % 2].ended().await;
        cluster.restart(round % 2).await;
    }
    assert_eq!(complaints, Vec::<String>::new());
}
