//! Clients that take their time.

use vx11_kit::{Nginx, Site};

use crate::support::{Act, Backend, exchange, sooner};

/// The lengths of the timeouts that ship are held in `configuration`.
#[tokio::test]
async fn half_a_head_and_half_a_body_are_not_waited_for_for_ever_and_no_instance_is_asked() {
    let backend = Backend::start(|request| {
        if request.starts_with("GET /health/live") { Act::answer("200 OK", "", "{}") } else { Act::Hang }
    })
    .await;
    let nginx = Nginx::with(Site {
        instances: vec![backend.address.clone()],
        files: vec![sooner("http/clients.conf", "10s", "2s")],
        ..Site::default()
    })
    .await;
    let base = nginx.balancer();
    let head = "POST /operator/api/events/sse-token HTTP/1.1\r\nHost: x\r\n";
    let requests = [head.to_owned(), format!("{head}Content-Length: 10\r\n\r\nhalf"), String::new()];
    let answers = requests.iter().map(|request| exchange(&base, request.as_bytes()));
    for answer in futures_util::future::join_all(answers).await {
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    assert_eq!(backend.count("POST"), 0);
}
