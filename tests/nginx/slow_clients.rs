//! Clients that take their time.

use std::time::{Duration, Instant};

use vx11_rig::Nginx;

use crate::support::{Act, Backend, exchange};

/// `client_header_timeout` and `client_body_timeout`.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn half_a_head_and_half_a_body_are_waited_for_a_while_and_no_instance_is_asked() {
    let backend = Backend::start(|request| {
        if request.starts_with("GET /health/live") { Act::answer("200 OK", "", "{}") } else { Act::Hang }
    })
    .await;
    let nginx = Nginx::start(std::slice::from_ref(&backend.address)).await;
    let base = nginx.balancer();
    let head = "POST /operator/api/events/sse-token HTTP/1.1\r\nHost: x\r\n";
    let requests = [head.to_owned(), format!("{head}Content-Length: 10\r\n\r\nhalf"), String::new()];
    let started = Instant::now();
    let answers = requests.iter().map(|request| exchange(&base, request.as_bytes()));
    for answer in futures_util::future::join_all(answers).await {
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    let took = started.elapsed();
    assert!((PATIENCE.mul_f64(0.9)..PATIENCE * 2).contains(&took), "{took:?}");
    assert_eq!(backend.count("POST"), 0);
}
