//! Requests for what is not there, in ways that are not taken, or that are no HTTP at all. Each is
//! refused in an orderly way, and none of them leaves a trace on the instance.

use reqwest::{Method, StatusCode};
use vx11_operator::http::endpoints;

use crate::support::{Instance, exchange, problem, raw_problem, raw_request};

/// A text in each refused request that must be in no answer.
const WORD: &str = "xylophone";

/// Asserts that the instance works, and that nothing in it ever panicked.
async fn is_unharmed(instance: &Instance) {
    let stream = instance.open_stream(&instance.issue().await.token).await;
    assert_eq!(stream.greeting.event, "message");
    let log = instance.log_text();
    assert!(!log.contains("panic") && !log.contains(WORD), "{log}");
}

#[tokio::test]
async fn an_unknown_path_is_answered_with_404_and_not_repeated() {
    let instance = Instance::start().await;
    for path in [
        "/xylophone",
        "/operator",
        "/operator/api",
        "/operator/api/",
        "/operator/api/events/",
        "/operator/api/events/stream/",
        "/operator/api/events/xylophone?token=xylophone",
        "/health/",
        "/HEALTH",
        "//health",
        "/health/xylophone",
        "/metrics/xylophone",
        "/panel/",
        "/panel/xylophone",
        "/panel/%2e%2e%2findex.html",
        "/client/xylophone",
        "/client/vx11-events.js/xylophone",
        "/client/index.html",
        "/%00",
        "/%ff%fe",
        "/xylophone%",
        "/operator%2fapi%2fhealth",
    ] {
        for request in [instance.get(path), instance.post(path), instance.get_as_principal(path)] {
            let response = request.send().await.unwrap();
            if response.status() == StatusCode::METHOD_NOT_ALLOWED {
                assert!(path.starts_with("/panel/") || path.starts_with("/client/"), "{path}");
                continue;
            }
            let refused = problem(response, StatusCode::NOT_FOUND, "not_found").await;
            assert!(!refused.to_string().contains(WORD), "{refused}");
        }
    }
    is_unharmed(&instance).await;
}

#[tokio::test]
async fn each_path_answers_every_other_method_with_405_and_those_it_takes() {
    let instance = Instance::start().await;
    let methods =
        ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW", "get", "PROPFIND"];
    for endpoint in endpoints() {
        let path = endpoint.path.replace("{file}", "xylophone");
        let allowed =
            endpoint.methods.iter().map(|(method, _)| method.as_str()).collect::<Vec<_>>().join(", ");
        for method in methods {
            if endpoint.methods.iter().any(|(taken, _)| taken.as_str() == method) {
                continue;
            }
            let url = format!("{}{path}", instance.base);
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let response = instance.client.request(method.clone(), url).send().await.unwrap();
            assert_eq!(
                response.headers().get("allow").map(|value| value.to_str().unwrap()),
                Some(&*allowed),
                "{method} {path}"
            );
            if method == Method::HEAD {
                assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
            } else {
                problem(response, StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed").await;
            }
        }
    }
    is_unharmed(&instance).await;
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_leaves_the_instance_unharmed() {
    let instance = Instance::start().await;
    let get = "GET /health HTTP/1.1\r\nHost: x\r\n";
    let long = WORD.repeat(30_000);
    let many = format!("X: {WORD}\r\n").repeat(200);
    for request in [
        "xylophone\r\n\r\n".to_owned(),
        "\r\n\r\n\r\nxylophone\r\n\r\n".to_owned(),
        "\0\0\0\0\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "GET /xylophone\r\n\r\n".to_owned(),
        "GET / HTTP/9.9\r\nHost: x\r\n\r\n".to_owned(),
        "GET / HTTP/xylophone\r\n\r\n".to_owned(),
        "GET xylophone HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
        "GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "GET /xylo phone HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{fc}\u{3}\u{3}\r\n\r\n".to_owned(),
        format!("{get}X-VX11-Token: xylo\0phone\r\n\r\n"),
        format!("{get}xylo phone: 1\r\n\r\n"),
        format!("{get}xylophone\r\n\r\n"),
        format!("{get}: xylophone\r\n\r\n"),
        format!("{get}X: {long}\r\n\r\n"),
        format!("{get}{many}\r\n"),
        format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("{long} / HTTP/1.1\r\nHost: x\r\n\r\n"),
    ] {
        let answer = exchange(&instance, request.as_bytes()).await;
        let answer = String::from_utf8_lossy(&answer);
        // It may also just hang up; what it does not do is guess what was meant.
        let refused =
            answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.0 4");
        assert!(refused, "{:?}: {answer}", &request[..request.len().min(60)]);
        assert!(!answer.contains(WORD), "{answer}");
    }
    is_unharmed(&instance).await;
}

#[tokio::test]
async fn a_body_that_is_not_encoded_as_announced_is_a_bad_request() {
    let instance = Instance::start().await;
    let chunked = format!(
        "POST /operator/api/events HTTP/1.1\r\nHost: x\r\nX-VX11-Token: {}\r\nContent-Type: application/json\r\n\
         Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
        instance.principal
    );
    for body in [
        "xylophone\r\n",
        "-5\r\n12345\r\n",
        "ffffffffffffffffff\r\n",
        "5\r\n1234567\r\n0\r\n\r\n",
        "\0\r\n",
        "5 5\r\n",
    ] {
        let answer = raw_request(&instance, format!("{chunked}{body}").as_bytes()).await;
        let refused = raw_problem(&answer, 400, "bad_request");
        assert!(!refused.to_string().contains(WORD), "{refused}");
    }
    is_unharmed(&instance).await;
}

#[tokio::test]
async fn a_request_id_is_believed_from_a_trusted_proxy_only_and_never_if_it_could_break_a_log_line() {
    let chosen = "proxy-chose.this_1";
    let asked = async |instance: &Instance, id: &str| {
        let response = instance.get("/xylophone").header("X-Request-Id", id).send().await.unwrap();
        let refused = problem(response, StatusCode::NOT_FOUND, "not_found").await;
        refused["request_id"].as_str().unwrap().to_owned()
    };
    let instance = Instance::start().await;
    assert_ne!(asked(&instance, chosen).await, chosen);
    let instance = Instance::with(&[("VX11_OPERATOR__HTTP__TRUSTED_PROXIES", "127.0.0.0/8")]).await;
    assert_eq!(asked(&instance, chosen).await, chosen);
    for bad in ["", "two words", "a\"b", "{x}", &"x".repeat(65)] {
        assert_eq!(asked(&instance, bad).await.len(), 16, "{bad}: a new one is drawn");
    }
}
