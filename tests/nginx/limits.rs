//! Limits of one client address.

use std::path::Path;

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use vx11_kit::{ClientLimits, Site, new_principal, remember_secret, until};

use crate::support::{Cluster, problem, sooner};

const ISSUE: &str = "/operator/api/events/sse-token";
/// The limit of an instance on wrong credentials.
const FAILURES: &str = "VX11_OPERATOR__LIMITS__FAILED_AUTH_PER_MINUTE";

/// The shipped limits, except for the budget of unauthenticated requests, which does not refill
/// during a test.
fn without_refill() -> Site {
    let files = vec![sooner("site/limits.conf", "rate=100r/s", "rate=1r/m")];
    Site { limits: None, files, ..Site::default() }
}

/// Uses up what an address may ask without a credential.
async fn use_up_the_budget_of_anybody(cluster: &Cluster) {
    for _ in 0..300 {
        let answer = cluster.get("/operator/api/health").send().await.unwrap();
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            return;
        }
    }
    panic!("an address may ask without end");
}

/// The limit on wrong credentials that ships. `tests/deployment` checks that every deployment has
/// one.
fn shipped_failures() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd/operator.env");
    let settings = std::fs::read_to_string(file).unwrap();
    let line = settings.lines().find_map(|line| line.strip_prefix(FAILURES)?.strip_prefix('='));
    line.expect("a limit on wrong credentials").to_owned()
}

#[tokio::test]
async fn too_many_requests_of_one_address_are_answered_with_429_and_only_those() {
    // One a minute: as many are served as may come at once, and no more while the test runs.
    let limits = "limit_req_zone $vx11_client zone=vx11_requests:1m rate=1r/m;\n\
                  limit_req zone=vx11_requests burst=5 nodelay;\n";
    let files = vec![("limits.conf".to_owned(), limits.to_owned())];
    let cluster = Cluster::with(1, Site { files, ..Site::default() }, &[]).await;
    let mut statuses = Vec::new();
    for _ in 0..20 {
        let answer = cluster.get("/operator/api/health").send().await.unwrap();
        statuses.push(answer.status());
        if answer.status() != StatusCode::OK {
            problem(answer, 429, "rate_limited").await;
        }
    }
    let served = statuses.iter().filter(|status| **status == StatusCode::OK).count();
    assert_eq!(served, 6, "{statuses:?}");
    let stream = "/operator/api/events/stream?token=x";
    for (path, accept) in
        [(stream, "*/*"), ("/operator/api/events", "*/*"), ("/operator/api/events", "text/event-stream")]
    {
        let answer = cluster.get(path).header("Accept", accept).send().await.unwrap();
        problem(answer, 429, "rate_limited").await;
    }
    // A browser's own EventSource would give up for good.
    let answer = cluster.get(stream).header("Accept", "text/event-stream").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.text().await.unwrap().starts_with("retry: "));
    assert!(cluster.nginx.access_log().contains(r#""limit_req":"REJECTED""#));
}

#[tokio::test]
async fn too_many_streams_of_one_address_are_answered_with_429_until_one_ends() {
    let limits = ClientLimits { connections: 3, ..ClientLimits::OUT_OF_THE_WAY };
    let cluster = Cluster::with(1, Site { limits: Some(limits), ..Site::default() }, &[]).await;
    let token = cluster.issue().await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(cluster.open_stream(&token).await);
    }
    let refused =
        cluster.get("/operator/api/events/stream").query(&[("token", &token)]).send().await.unwrap();
    problem(refused, 429, "rate_limited").await;
    streams.pop();
    vx11_kit::until("a place to be free again", async || {
        let answer = cluster.get("/operator/api/health").send().await.unwrap();
        answer.status() == StatusCode::OK
    })
    .await;
}

#[tokio::test]
async fn a_backend_that_issues_for_its_users_is_not_limited_as_one_client() {
    let cluster = Cluster::with(1, without_refill(), &[]).await;
    use_up_the_budget_of_anybody(&cluster).await;
    // More than anybody may ask at once.
    for _ in 0..300 {
        cluster.issue().await;
    }
    for _ in 0..5 {
        let request = cluster.get("/operator/internal/instance-id").bearer_auth(&cluster.principal);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn forged_requests_are_still_limited() {
    let failures = shipped_failures();
    let cluster = Cluster::with(1, without_refill(), &[(FAILURES, &failures)]).await;
    let forged = new_principal();
    remember_secret(&forged);
    // In a header: by the instance, which knows that it is wrong.
    until("wrong credentials to be limited", async || {
        let requests = (0..50).map(|_| cluster.get(ISSUE).header("X-VX11-Token", &forged).send());
        let statuses: Vec<_> =
            join_all(requests).await.into_iter().map(|answer| answer.unwrap().status()).collect();
        let expected = [StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS];
        assert!(statuses.iter().all(|status| expected.contains(status)), "{statuses:?}");
        statuses.contains(&StatusCode::TOO_MANY_REQUESTS)
    })
    .await;
    until("the answer to be the instance's", async || {
        cluster.nginx.access_log().contains(r#""upstream_status":"429""#)
    })
    .await;
    assert!(!cluster.nginx.access_log().contains(r#""limit_req":"REJECTED""#));
    // In the address, as a token: by nginx, whatever it is worth.
    for _ in 0..300 {
        let request = cluster.get("/operator/api/events/stream").query(&[("token", &forged)]);
        request.send().await.unwrap();
    }
    until("nginx to refuse forged tokens", async || {
        cluster.nginx.access_log().contains(r#""limit_req":"REJECTED""#)
    })
    .await;
    // Who shares the address and has the right credential is served.
    cluster.issue().await;
}

#[tokio::test]
async fn a_header_that_no_instance_judges_is_limited_as_anybodys() {
    let cluster = Cluster::with(1, without_refill(), &[]).await;
    use_up_the_budget_of_anybody(&cluster).await;
    let as_principal = |method: Method, path: &str| {
        let request = reqwest::Client::new().request(method, format!("{}{path}", cluster.nginx.balancer()));
        request.header("X-VX11-Token", &cluster.principal)
    };
    for request in [
        // No credential is judged on this path, or not first.
        cluster.get_as_principal("/operator/api/health"),
        cluster.get_as_principal("/operator/api/events/stream"),
        cluster.get_as_principal("/openapi.json"),
        // Nor with this method, nor where the path is written in another way.
        as_principal(Method::DELETE, "/operator/api/tokens/revoke"),
        as_principal(Method::GET, "/operator/api/tokens/revoke"),
        as_principal(Method::GET, "/operator/api/events"),
        as_principal(Method::HEAD, ISSUE),
        as_principal(Method::POST, "/operator/internal/cache-stats"),
        as_principal(Method::POST, "/operator/api//tokens/revoke"),
        // Two credentials. None, and one of another scheme, are no failed authentication: nobody
        // would count them.
        cluster.get_as_principal(ISSUE).bearer_auth("another"),
        cluster.get(ISSUE).header("X-VX11-Token", ""),
        cluster.get(ISSUE).header("Authorization", "Bearer "),
        cluster.get(ISSUE).basic_auth("somebody", Some("something")),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS, "{}", answer.url());
    }
    let refused_by_nginx = cluster.get_as_principal("/operator/api/health").send().await.unwrap();
    problem(refused_by_nginx, 429, "rate_limited").await;
}

#[tokio::test]
async fn two_credentials_in_one_header_are_limited() {
    let cluster = Cluster::with(1, without_refill(), &[(FAILURES, "20")]).await;
    let forged = new_principal();
    remember_secret(&forged);
    // nginx before 1.23 sees the first header alone and lets all of them through. Far fewer than it
    // lets through.
    for _ in 0..500 {
        let request = cluster.get_as_principal(ISSUE).header("X-VX11-Token", &forged);
        let answer = request.send().await.unwrap();
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            // Who has the right credential is served.
            cluster.issue().await;
            return;
        }
        problem(answer, 400, "credentials_conflict").await;
    }
    panic!("two credentials may be shown without end");
}

#[tokio::test]
async fn what_ships_lets_a_person_with_many_tabs_through() {
    let cluster = Cluster::with(2, Site { limits: None, ..Site::default() }, &[]).await;
    let mut streams = Vec::new();
    for _ in 0..50 {
        streams.push(cluster.open_stream(&cluster.issue().await).await);
        assert_eq!(cluster.get("/operator/api/health").send().await.unwrap().status(), StatusCode::OK);
    }
}
