//! No token and no subject is in what nginx writes down, wherever a client puts it and whatever
//! becomes of the request.

use std::path::Path;

use futures_util::future::join_all;
use vx11_kit::{ClientLimits, Nginx, Site, remember_secret, until};

use crate::support::{Act, Backend, Cluster, exchange, sooner};

/// Requests with `token` in every place, allowed or by mistake.
fn planted(token: &str) -> Vec<String> {
    let encoded = token.replace('-', "%2D");
    let upper = token.to_uppercase();
    let long = "k".repeat(9000);
    let mut requests = Vec::new();
    for target in [
        format!("/operator/api/events/stream?token={token}"),
        format!("/operator/api/events/stream?a=b&token={encoded}"),
        format!("/operator/api/events/stream?TOKEN={upper}&x={token}"),
        format!("/operator/api/events/stream/{token}"),
        format!("/operator/api/events/sse-token?{token}"),
        format!("/operator/api/events?sse_token={token}"),
        // In place of a subject, which is in no log either.
        format!("/operator/api/streams?subject={token}&limit=1"),
        format!("/client/{token}"),
        format!("/panel/{token}.js"),
        format!("/{token}"),
        format!("//{token}/../metrics?token={token}"),
        format!("http://x/operator/api/events/stream?token={token}"),
        format!("/operator/api/events/stream?token={token}&{long}"),
        format!("/health;token={token}"),
        format!("/operator/api/health#{token}"),
    ] {
        for rest in [
            "Connection: close\r\n".to_owned(),
            "Connection: close\r\nAccept: text/event-stream\r\n".to_owned(),
            // Malformed: answered with 400, after the request line was read.
            format!("Referer: http://x/?token={token}\r\nContent-Length: {token}\r\n"),
            format!("Connection: close\r\nX-Long: {token}{long}\r\n"),
        ] {
            requests.push(format!("GET {target} HTTP/1.1\r\nHost: x\r\n{rest}\r\n"));
        }
    }
    for head in [
        format!("GET /{token}\r\n"),
        format!("{token} / HTTP/1.1\r\nHost: x\r\n"),
        format!("GET / HTTP/{token}\r\nHost: x\r\n"),
        format!("GET /operator/api/events/stream?token={token} NONSENSE\r\nHost: x\r\n"),
        format!("GET /\0{token} HTTP/1.1\r\nHost: x\r\n"),
        format!("GET /health HTTP/1.1\r\nHost: {token}\r\nConnection: close\r\n"),
        format!("GET /health HTTP/1.1\r\nHost: x/{token}\r\nConnection: close\r\n"),
        format!(
            "GET /health HTTP/1.1\r\nHost: x\r\nUser-Agent: {token}\r\nReferer: /?token={token}\r\nConnection: close\r\n"
        ),
        format!(
            "POST /operator/api/events?token={token} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 99999\r\n"
        ),
        format!(
            "GET /operator/api/events/stream HTTP/1.1\r\nHost: x\r\nCookie: __Host-vx11-stream={token}\r\nConnection: close\r\n"
        ),
        format!(
            "GET /health HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {token}\r\nX-Request-Id: {token}\r\nCookie: {token}\r\nX-VX11-Token: {token}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n"
        ),
    ] {
        requests.push(format!("{head}\r\n"));
    }
    requests
}

async fn send_all(nginx: &Nginx, token: &str) {
    for request in planted(token) {
        exchange(&nginx.balancer(), request.as_bytes()).await;
    }
    let base = nginx.gateway();
    exchange(
        &base,
        format!("GET /{token}?token={token} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
    )
    .await;
}

fn found_in(log: &str, token: &str) -> bool {
    let log = log.to_lowercase();
    log.contains(token) || log.contains(&token.replace('-', "%2d"))
}

/// Asserts that nginx has written down what happened, and no token.
async fn assert_clean(nginx: &Nginx, token: &str, expected: &[&str]) {
    for text in expected {
        until(&format!("{text} in the access log"), async || nginx.access_log().contains(text)).await;
    }
    let (log, access) = (nginx.log(), nginx.access_log());
    for log in [&log, &access] {
        let leaking: Vec<_> = log.lines().filter(|line| found_in(line, token)).collect();
        assert_eq!(leaking, Vec::<&str>::new());
    }
}

/// A token nobody issued; what nginx writes does not depend on it.
fn token() -> String {
    let digits = vx11_kit::new_principal();
    let token = format!(
        "{}-{}-8{}-a{}-{}",
        &digits[..8],
        &digits[8..12],
        &digits[12..15],
        &digits[15..18],
        &digits[18..30]
    );
    remember_secret(&token);
    token
}

#[tokio::test]
async fn with_instances() {
    let cluster = Cluster::of(1).await;
    let token = token();
    send_all(&cluster.nginx, &token).await;
    assert_clean(
        &cluster.nginx,
        &token,
        &[
            "stream?token=***",
            "/operator/api/streams?***",
            r#""path":"/***""#,
            r#""status":"400""#,
            r#""status":"414""#,
            r#""status":"403""#,
            r#""status":"404""#,
        ],
    )
    .await;
}

#[tokio::test]
async fn without_instances() {
    let nginx = Nginx::start(&["127.0.0.1:1".to_owned()]).await;
    let token = token();
    send_all(&nginx, &token).await;
    assert_clean(&nginx, &token, &["stream?token=***", r#""status":"503""#, r#""upstream_status":"502"#])
        .await;
}

#[tokio::test]
async fn with_instances_that_hang_up_or_hang() {
    for act in [|| Act::Close, || Act::Hang, || Act::Answer("NONSENSE\r\n\r\n".to_owned())] {
        let backend = Backend::start(move |_| act()).await;
        let nginx = Nginx::with(Site {
            instances: vec![backend.address.clone()],
            files: vec![sooner("locations/streaming.conf", "20s", "4s")],
            ..Site::default()
        })
        .await;
        let token = token();
        let request = |path: &str| {
            format!(
                "GET {path}?token={token} HTTP/1.1\r\nHost: x\r\nReferer: {token}\r\nConnection: close\r\n\r\n"
            )
        };
        let base = nginx.balancer();
        let paths = [
            "/operator/api/events/stream",
            "/operator/api/events/sse-token",
            "/operator/api/events",
            "/health",
        ];
        // At once: nginx waits for those that hang.
        join_all(paths.map(async |path| exchange(&base, request(path).as_bytes()).await)).await;
        assert_clean(&nginx, &token, &["stream?token=***", r#""status":"503""#]).await;
    }
}

#[tokio::test]
async fn past_the_limits() {
    let limits = ClientLimits { requests_per_second: 1, burst: 1, connections: 1 };
    let cluster = Cluster::with(1, Site { limits: Some(limits), ..Site::default() }, &[]).await;
    let token = token();
    send_all(&cluster.nginx, &token).await;
    assert_clean(&cluster.nginx, &token, &[r#""status":"429""#, r#""limit_req":"REJECTED""#]).await;
}

/// Log format of a careless deployment, written into `folder`, which no other check searches.
async fn careless(folder: &Path, logs: &str) -> String {
    let file = folder.join("careless.log");
    let logs = logs.replace("FILE", &file.display().to_string());
    let site = Site {
        instances: vec!["127.0.0.1:1".to_owned()],
        files: vec![("logs.conf".to_owned(), logs)],
        ..Site::default()
    };
    let nginx = Nginx::with(site).await;
    let token = token();
    send_all(&nginx, &token).await;
    let log = std::fs::read_to_string(file).unwrap();
    assert!(found_in(&log, &token), "the check finds nothing where there is something");
    log
}

#[tokio::test]
async fn this_check_finds_a_token_in_an_access_log_with_the_request_line() {
    let folder = tempfile::tempdir().unwrap();
    careless(folder.path(), "log_format careless '$request $status'; access_log FILE careless;").await;
}

#[tokio::test]
async fn the_error_log_of_requests_would_have_the_token_at_any_useful_level() {
    join_all(["info", "error"].map(async |level| {
        let folder = tempfile::tempdir().unwrap();
        let log = careless(folder.path(), &format!("error_log FILE {level}; access_log off;")).await;
        assert!(log.contains("connect() failed") && log.contains("token="), "{level}");
    }))
    .await;
}
