//! Requests that are repeated, and requests that never are.

use reqwest::{Client, Response, StatusCode};
use vx11_kit::{EventStream, Nginx};

use crate::support::{Act, Backend, Cluster, problem};

#[tokio::test]
async fn nobody_notices_that_an_instance_is_killed() {
    let mut cluster = Cluster::of(2).await;
    for number in 0..60 {
        if number == 20 {
            cluster.instances[0].kill();
        }
        cluster.issue().await;
        cluster.publish_event(number.into()).await;
        let form = cluster
            .post_as_principal("/operator/api/tokens/revoke")
            .form(&[("token_id", "0123456789abcdef")]);
        assert_eq!(form.send().await.unwrap().status(), StatusCode::OK);
    }
    let log = cluster.nginx.access_log();
    assert!(
        log.contains(r#""status":"200""#) && log.contains("502, 200"),
        "no request met the dead instance:\n{log}"
    );
}

/// Two backends that live, and do something to everything else; nginx in front of them.
async fn two(act: impl Fn() -> Act + Copy + Send + Sync + 'static) -> ([Backend; 2], Nginx) {
    let decide = move |request: &str| {
        if request.starts_with("GET /health/live ") { Act::answer("200 OK", "", "{}") } else { act() }
    };
    let backends = [Backend::start(decide).await, Backend::start(decide).await];
    let nginx = Nginx::start(&[backends[0].address.clone(), backends[1].address.clone()]).await;
    (backends, nginx)
}

async fn post(nginx: &Nginx, path: &str) -> Response {
    let client = Client::builder().no_proxy().build().unwrap();
    client.post(format!("{}{path}", nginx.balancer())).body("{}").send().await.unwrap()
}

fn times(backends: &[Backend; 2], request: &str) -> usize {
    backends.iter().map(|backend| backend.count(request)).sum()
}

#[tokio::test]
async fn an_event_that_was_sent_is_never_sent_again() {
    let (backends, nginx) = two(|| Act::Close).await;
    problem(post(&nginx, "/operator/api/events").await, 502, "outcome_unknown").await;
    assert_eq!(times(&backends, "POST /operator/api/events "), 1);

    let (backends, nginx) = two(|| Act::Hang).await;
    problem(post(&nginx, "/operator/api/events").await, 504, "outcome_unknown").await;
    assert_eq!(times(&backends, "POST /operator/api/events "), 1);
}

#[tokio::test]
async fn an_event_with_a_key_is_sent_to_a_second_instance_and_no_third_time() {
    let publish = async |nginx: &Nginx| {
        let client = Client::builder().no_proxy().build().unwrap();
        let request = client.post(format!("{}/operator/api/events", nginx.balancer())).body("{}");
        request.header("Idempotency-Key", "k").send().await.unwrap()
    };
    let (backends, nginx) = two(|| Act::Close).await;
    problem(publish(&nginx).await, 502, "outcome_unknown").await;
    assert_eq!(times(&backends, "POST /operator/api/events "), 2);

    let answers_second = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let asked = std::sync::Arc::clone(&answers_second);
    let decide = move |_: &str| {
        let earlier = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if earlier == 0 { Act::Close } else { Act::answer("202 Accepted", "", "{}") }
    };
    let backends = [Backend::start(decide.clone()).await, Backend::start(decide).await];
    let nginx = Nginx::start(&[backends[0].address.clone(), backends[1].address.clone()]).await;
    let (second, only) = (publish(&nginx).await, publish(&nginx).await);
    for (answer, asked_before) in [(second, Some("true")), (only, None)] {
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        let header = answer.headers().get("x-vx11-asked-before").map(|value| value.to_str().unwrap());
        assert_eq!(header, asked_before, "only where another may have published it");
    }
    assert_eq!(times(&backends, "GET /health/live "), 0, "nobody has to be asked first");
}

#[tokio::test]
async fn what_may_be_repeated_is_asked_of_a_second_instance_and_no_third_time() {
    for path in [
        "/operator/api/events/sse-token",
        "/operator/api/tokens/revoke",
        "/operator/api/tokens/introspect",
        "/operator/api/streams/end",
        "/operator/api/subjects/revoke",
        "/operator/api/subjects/block",
        "/operator/api/subjects/unblock",
    ] {
        let (backends, nginx) = two(|| Act::Close).await;
        problem(post(&nginx, path).await, 503, "no_instance").await;
        assert_eq!(times(&backends, &format!("POST {path} ")), 2, "{path}");
    }
}

#[tokio::test]
async fn an_answer_of_an_instance_is_final_whatever_it_says() {
    let refusal = || Act::answer("503 Service Unavailable", "Retry-After: 7\r\n", "{\"mine\":1}");
    let (backends, nginx) = two(refusal).await;
    for path in ["/operator/api/events/sse-token", "/operator/api/events"] {
        for asked in 1..=8 {
            let answer = post(&nginx, path).await;
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(answer.headers()["retry-after"], "7");
            assert_eq!(answer.text().await.unwrap(), "{\"mine\":1}");
            assert_eq!(times(&backends, &format!("POST {path} ")), asked);
        }
    }
}

#[tokio::test]
async fn three_requests_that_reset_two_instances_each_do_not_take_the_cluster_down() {
    let poison = |request: &str| {
        if request.contains("poison") { Act::Close } else { Act::answer("200 OK", "", "{}") }
    };
    let backends = [Backend::start(poison).await, Backend::start(poison).await, Backend::start(poison).await];
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address.clone()).collect();
    let nginx = Nginx::start(&addresses).await;
    for _ in 0..3 {
        problem(post(&nginx, "/operator/api/events/sse-token?poison").await, 503, "no_instance").await;
        assert_eq!(post(&nginx, "/operator/api/events/sse-token").await.status(), StatusCode::OK);
    }
    assert_eq!(post(&nginx, "/operator/api/events").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn an_event_whose_instance_goes_away_after_it_said_it_lives_reaches_another() {
    let leaves = |request: &str| {
        if request.starts_with("GET /health/live ") {
            Act::Farewell("{}".to_owned())
        } else {
            Act::answer("202 Accepted", "", "{}")
        }
    };
    let backends = [Backend::start(leaves).await, Backend::start(leaves).await];
    let nginx = Nginx::start(&[backends[0].address.clone(), backends[1].address.clone()]).await;
    assert_eq!(post(&nginx, "/operator/api/events").await.status(), StatusCode::ACCEPTED);
    assert_eq!((times(&backends, "GET /health/live "), times(&backends, "POST ")), (1, 1));
}

#[tokio::test]
async fn an_instance_that_is_back_is_asked_although_nginx_leaves_it_alone() {
    let mut cluster = Cluster::left_alone_for(2, "10m").await;
    let token = cluster.issue().await;
    cluster.instances[0].kill();
    for _ in 0..12 {
        cluster.issue().await;
    }
    cluster.restart(0).await;
    // While the test runs nginx believes that the first is not there; the second is not.
    cluster.instances[1].kill();
    cluster.issue().await;
    cluster.publish_event(1.into()).await;
    for accept in ["*/*", "text/event-stream"] {
        let request = cluster.get("/operator/api/events/stream").query(&[("token", &token)]);
        EventStream::connected(request.header("Accept", accept).send().await.unwrap()).await;
    }
    // In the log the name of the upstream means "none left".
    let second_chances = cluster.nginx.access_log().matches("vx11_operator : 127.0.0.1:").count();
    assert!(second_chances > 0, "it was asked in the ordinary way");
}

#[tokio::test]
async fn after_an_outage_of_all_the_first_that_is_back_is_asked_at_once() {
    let mut cluster = Cluster::of(2).await;
    for instance in &mut cluster.instances {
        instance.kill();
    }
    for _ in 0..12 {
        problem(cluster.get("/operator/api/health").send().await.unwrap(), 503, "no_instance").await;
    }
    cluster.restart(0).await;
    for number in 0..12 {
        cluster.issue().await;
        cluster.publish_event(number.into()).await;
    }
}
