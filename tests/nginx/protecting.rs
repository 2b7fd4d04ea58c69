//! `examples/protect-backend.conf`: somebody else's streams and sockets behind our tokens.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vx11_kit::{Port, Site, remember_secret, shipped_nginx};

use crate::support::{Act, Backend, Cluster, problem};

/// A backend without knowledge of tokens: streams, and an echo socket.
async fn backend() -> Backend {
    Backend::start(|request| {
        if request.to_ascii_lowercase().contains("upgrade: websocket") {
            Act::Echo(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
                    .to_owned(),
            )
        } else {
            Act::answer("200 OK", "Content-Type: text/event-stream\r\n", "data: theirs\n\n")
        }
    })
    .await
}

/// A cluster that also protects the backend; gives the protected server's address.
async fn protecting(backend: &Backend, port: &Port) -> (Cluster, String) {
    let address = format!("127.0.0.1:{}", port.number());
    let example = std::fs::read_to_string(shipped_nginx().join("examples/protect-backend.conf")).unwrap();
    let example = example
        .replace("server 127.0.0.1:9000;", &format!("server {};", backend.address))
        .replace("listen 8002 ", &format!("listen {address} "));
    let site = Site { files: vec![("servers/protect-backend.conf".to_owned(), example)], ..Site::default() };
    (Cluster::with(2, site, &[]).await, address)
}

#[tokio::test]
async fn a_token_opens_their_stream_and_they_learn_who_it_is_but_not_the_token() {
    let (backend, port) = (backend().await, Port::reserve());
    let (cluster, address) = protecting(&backend, &port).await;
    let token = cluster.issue().await;
    let url = format!("http://{address}/protected/ticks");
    for request in [
        cluster.client.get(&url).query(&[("token", &token)]),
        cluster.client.get(&url).header("X-VX11-Token", &token),
        cluster.client.get(&url).bearer_auth(&token),
        cluster.client.get(&url).query(&[("token", &cluster.principal)]),
    ] {
        let request =
            request.header("Referer", format!("http://x/?token={token}")).header("X-Principal", "forged");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.text().await.unwrap(), "data: theirs\n\n");
    }
    let requests = backend.requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 4);
    for request in &requests {
        assert!(request.starts_with("GET /protected/ticks HTTP/1.1"), "the path alone");
        assert!(request.contains("X-Principal: operator\r\n") && !request.contains("forged"));
        assert!(!request.contains(&token) && !request.contains(&cluster.principal), "no credential");
    }
    assert_eq!(
        requests.iter().filter(|request| request.contains("X-Token-Id: ")).count(),
        3,
        "a principal has none"
    );
}

#[tokio::test]
async fn they_learn_subject_and_topics_of_a_grant_and_never_what_a_client_says_of_itself() {
    const NAMES: [&str; 6] =
        ["X-Subject", "X-Topics", "X-VX11-Subject", "X-VX11-Topics", "X-VX11-Principal", "X-VX11-Token-Id"];
    let (backend, port) = (backend().await, Port::reserve());
    let (cluster, address) = protecting(&backend, &port).await;
    let url = format!("http://{address}/protected/ticks");
    let plain = cluster.issue().await;
    let grant = json!({ "subject": "user-7", "topics": ["users/7/*", "news"] });
    let issued = cluster.post_as_principal("/operator/api/events/sse-token").json(&grant).send().await;
    let issued: Value = issued.unwrap().json().await.unwrap();
    let granted = issued["sse_token"].as_str().unwrap();
    remember_secret(granted);
    for token in [plain.as_str(), granted] {
        let mut request = cluster.client.get(&url).query(&[("token", token)]);
        for name in NAMES {
            request = request.header(name, "forged");
        }
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    }
    let requests = backend.requests.lock().unwrap().clone();
    let [plain, granted] = requests.as_slice() else { panic!("two requests, and not {requests:?}") };
    for name in NAMES {
        assert!(!plain.to_lowercase().contains(&format!("{}:", name.to_lowercase())), "{plain}");
    }
    assert!(granted.contains("X-Subject: user-7\r\n"), "{granted}");
    assert!(granted.contains("X-Topics: users/7/* news\r\n"), "{granted}");
    assert!(!granted.contains("X-VX11-") && !granted.contains("forged"), "{granted}");
}

#[tokio::test]
async fn they_get_their_own_cookies_and_never_one_with_a_token() {
    const OURS: &str = "__Host-vx11-stream";
    let (backend, port) = (backend().await, Port::reserve());
    let (cluster, address) = protecting(&backend, &port).await;
    let token = cluster.issue().await;
    let url = format!("http://{address}/protected/ticks");
    let cases = [
        ("a=1; b=2".to_owned(), Some("a=1; b=2")),
        (format!("{OURS}={token}"), None),
        (format!("{OURS}={token}; b=2"), Some("b=2")),
        (format!("a=1; {OURS}={token}"), Some("a=1")),
        (format!("a=1; {OURS}={token}; b=2"), Some("a=1; b=2")),
        (format!("a=1;\t{OURS}={token};b=2"), Some("a=1;b=2")),
        (format!("a=1; {OURS}={token}; b=2; {OURS}={token}"), None),
        (format!("x{OURS}=theirs"), Some("x__Host-vx11-stream=theirs")),
    ];
    for (cookies, _) in &cases {
        let request = cluster.client.get(&url).bearer_auth(&token).header("Cookie", cookies);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    }
    let requests = backend.requests.lock().unwrap().clone();
    for (request, (cookies, expected)) in requests.iter().zip(&cases) {
        assert!(!request.contains(&token), "{cookies}");
        let got = request.lines().find_map(|line| line.strip_prefix("Cookie: "));
        assert_eq!(got, *expected, "{cookies}");
    }
    // The cookie is no credential here: another page of the site could send it.
    let only_cookie = cluster.client.get(&url).header("Cookie", format!("{OURS}={token}"));
    problem(only_cookie.send().await.unwrap(), 401, "credential_wrong").await;
}

#[tokio::test]
async fn a_token_opens_their_socket() {
    let (backend, port) = (backend().await, Port::reserve());
    let (cluster, address) = protecting(&backend, &port).await;
    let token = cluster.issue().await;
    let mut socket = TcpStream::connect(&address).await.unwrap();
    let request = format!(
        "GET /protected/socket?token={token} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 1024];
    let length = socket.read(&mut answer).await.unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer[..length]));
    socket.write_all(b"hello").await.unwrap();
    let mut echo = [0; 5];
    socket.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"hello");
}

#[tokio::test]
async fn a_token_opens_their_streams_and_nothing_else() {
    let (backend, port) = (backend().await, Port::reserve());
    let (cluster, address) = protecting(&backend, &port).await;
    let token = cluster.issue().await;
    let url = format!("http://{address}/protected/ticks");
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
        for body in ["", r#"{"delete":"everything"}"#] {
            let request = cluster.client.request(method.clone(), &url).query(&[("token", &token)]);
            let refused = request.body(body).send().await.unwrap();
            assert_eq!(refused.headers()["allow"], "GET, HEAD", "{method}");
            problem(refused, 405, "method_not_allowed").await;
        }
    }
    assert_eq!(backend.requests.lock().unwrap().len(), 0, "nothing reaches the backend");
    let head = cluster.client.head(&url).query(&[("token", &token)]).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(backend.count("HEAD /protected/ticks HTTP/1.1"), 1);
}

#[tokio::test]
async fn without_a_good_token_the_backend_is_not_asked() {
    let (backend, port) = (backend().await, Port::reserve());
    let (mut cluster, address) = protecting(&backend, &port).await;
    let url = format!("http://{address}/protected/ticks");
    let none = cluster.client.get(&url).send().await.unwrap();
    assert!(none.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
    problem(none, 401, "credential_wrong").await;
    let bad = cluster.client.get(format!("{url}?token=nonsense")).send().await.unwrap();
    problem(bad, 403, "token_refused").await;
    let elsewhere = cluster.client.get(format!("http://{address}/")).send().await.unwrap();
    problem(elsewhere, 404, "not_found").await;
    for instance in &mut cluster.instances {
        instance.kill();
    }
    let nobody = cluster.client.get(format!("{url}?token=nonsense")).send().await.unwrap();
    problem(nobody, 503, "no_instance").await;
    assert_eq!(backend.count("GET"), 0);
}
