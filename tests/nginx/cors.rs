//! Pages of other origins, and the cookie: nginx passes both on and permits nothing itself.

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use vx11_kit::{EventStream, Nginx, Site, remember_secret};

use crate::support::{Cluster, problem};

const LISTED: &str = "https://app.example";
const FOREIGN: &str = "https://foreign.example";
const ORIGINS: [(&str, &str); 1] = [("VX11_OPERATOR__HTTP__CORS_ORIGINS", LISTED)];
const ISSUE: &str = "/operator/api/events/sse-token";
const STREAM: &str = "/operator/api/events/stream";
const COOKIE: &str = "/operator/api/events/cookie";

/// Headers that a browser decides by.
fn deciding(answer: &Response) -> Vec<(String, String)> {
    let is_one = |name: &str| name.starts_with("access-control-") || ["vary", "allow"].contains(&name);
    let headers = answer.headers().iter().filter(|(name, _)| is_one(name.as_str()));
    let sorted = |value: &str| {
        let mut members: Vec<_> = value.split(", ").collect();
        members.sort_unstable();
        members.join(", ")
    };
    let mut headers: Vec<_> =
        headers.map(|(name, value)| (name.to_string(), sorted(value.to_str().unwrap()))).collect();
    headers.sort_unstable();
    headers
}

#[tokio::test]
async fn preflights_and_answers_pass_as_the_instances_give_them() {
    let cluster = Cluster::with(2, Site::default(), &ORIGINS).await;
    let bases = [cluster.nginx.balancer(), cluster.nginx.gateway()];
    let instance = format!("http://{}", cluster.instances[0].address());
    for (path, method) in [
        ("/client/vx11-events.js", Method::GET),
        ("/operator/api/events", Method::POST),
        (COOKIE, Method::POST),
        (ISSUE, Method::POST),
        (STREAM, Method::GET),
        ("/operator/api/tokens/introspect", Method::POST),
        ("/operator/api/tokens/revoke", Method::POST),
        // Of no other origin.
        ("/operator/api/streams", Method::GET),
        ("/panel/panel.js", Method::GET),
    ] {
        for origin in [LISTED, FOREIGN] {
            let preflight = |base: &str| {
                let request = cluster.client.request(Method::OPTIONS, format!("{base}{path}"));
                let request = request.header("Access-Control-Request-Method", method.as_str());
                request.header("Access-Control-Request-Headers", "authorization,idempotency-key")
            };
            let call = |base: &str| cluster.client.request(method.clone(), format!("{base}{path}"));
            let requests: [&dyn Fn(&str) -> RequestBuilder; 2] = [&preflight, &call];
            for request in requests {
                let direct = request(&instance).header("Origin", origin).send().await.unwrap();
                for base in &bases {
                    let passed = request(base).header("Origin", origin).send().await.unwrap();
                    assert_eq!(passed.status(), direct.status(), "{path} {origin}");
                    assert_eq!(deciding(&passed), deciding(&direct), "{path} {origin}");
                }
            }
        }
    }
}

#[tokio::test]
async fn nginx_permits_no_page_to_read_its_own_answers() {
    let nginx = Nginx::start(&["127.0.0.1:1".to_owned()]).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for (method, path) in [(Method::OPTIONS, ISSUE), (Method::POST, ISSUE), (Method::GET, STREAM)] {
        let request = client.request(method, format!("{}{path}", nginx.balancer())).header("Origin", LISTED);
        let answer = request.header("Access-Control-Request-Method", "POST").send().await.unwrap();
        assert_eq!(deciding(&answer), []);
        problem(answer, 503, "no_instance").await;
    }
}

#[tokio::test]
async fn a_preflight_is_answered_while_one_instance_lives() {
    let mut cluster = Cluster::with(2, Site::default(), &ORIGINS).await;
    cluster.instances[0].kill();
    for path in [ISSUE, STREAM, "/operator/api/events"] {
        for _ in 0..4 {
            let url = format!("{}{path}", cluster.nginx.balancer());
            let request = cluster.client.request(Method::OPTIONS, url).header("Origin", LISTED);
            let method = if path == STREAM { "GET" } else { "POST" };
            let answer = request.header("Access-Control-Request-Method", method).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK, "{path}");
            assert_eq!(answer.headers()["access-control-allow-origin"], LISTED);
        }
    }
}

#[tokio::test]
async fn the_cookie_is_set_once_and_opens_streams_of_both_kinds_of_clients_on_any_instance() {
    let cluster = Cluster::of(2).await;
    let issued = cluster.post_as_principal(&format!("{ISSUE}?cookie=1")).send().await.unwrap();
    let by_issuing = cookie_of(&issued);
    let body: Value = issued.json().await.unwrap();
    let token = body["sse_token"].as_str().unwrap();
    remember_secret(token);
    let request = cluster.client.post(format!("{}{COOKIE}", cluster.nginx.balancer())).bearer_auth(token);
    let set = request.send().await.unwrap();
    assert_eq!(set.status(), StatusCode::NO_CONTENT);
    assert_eq!(cookie_of(&set), by_issuing);
    assert_eq!(by_issuing, format!("__Host-vx11-stream={token}"));
    let mut streams = Vec::new();
    for accept in ["text/event-stream", "*/*"] {
        for _ in 0..2 {
            let request = cluster.get(STREAM).header("Accept", accept).header("Cookie", &by_issuing);
            streams.push(EventStream::connected(request.send().await.unwrap()).await);
        }
        let by = |stream: &EventStream| stream.greeting.json()["instance_id"].clone();
        let [one, other] = streams.last_chunk().unwrap();
        assert_ne!(by(one), by(other), "each instance has one of them");
        let refused = cluster.get(STREAM).header("Accept", accept).header("Cookie", "__Host-vx11-stream=x");
        problem(refused.send().await.unwrap(), 403, "token_refused").await;
    }
}

/// Name and value of the one cookie that an answer sets.
fn cookie_of(answer: &Response) -> String {
    let mut cookies = answer.headers().get_all("set-cookie").iter();
    let cookie = cookies.next().unwrap().to_str().unwrap();
    assert_eq!(cookies.next(), None);
    cookie.split(';').next().unwrap().to_owned()
}
