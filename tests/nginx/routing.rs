//! Which paths exist outside, who answers them, and what nginx says about the rest.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::{Value, json};
use vx11_kit::{Nginx, Site, remember_secret, until};
use vx11_operator::http::{Caller, Endpoint, endpoints};

use crate::support::{Act, Backend, Cluster, exchange, problem, problem_in, status_of};

#[tokio::test]
async fn ten_calls_of_instance_id_show_every_instance_the_busiest_too() {
    let cluster = Cluster::of(3).await;
    let _stream = cluster.open_stream(&cluster.issue().await).await;
    let mut ids = BTreeSet::new();
    for _ in 0..10 {
        let answer = cluster.get_as_principal("/operator/internal/instance-id").send().await.unwrap();
        ids.insert(answer.json::<Value>().await.unwrap()["instance_id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids.len(), 3, "{ids:?}");
}

#[tokio::test]
async fn streams_are_spread_evenly() {
    let cluster = Cluster::of(3).await;
    let token = cluster.issue().await;
    let mut streams = Vec::new();
    for _ in 0..12 {
        streams.push(cluster.open_stream(&token).await);
    }
    for id in ["1", "2", "3"] {
        assert_eq!(streams.iter().filter(|(by, _)| by == id).count(), 4, "of instance {id}");
    }
}

#[tokio::test]
async fn every_public_path_is_passed_to_an_instance() {
    let cluster = Cluster::of(2).await;
    let token = cluster.issue().await;
    for (path, holds) in [
        ("/", "<!doctype html"),
        ("/client/vx11-events.js", "EventSource"),
        ("/openapi.json", "\"openapi\""),
        ("/health", r#"{"status":"ok","module":"operator"}"#),
        ("/health/live", r#"{"status":"ok"}"#),
        ("/health/ready", r#"{"status":"ok"}"#),
        ("/operator/api/health", "operator_backend"),
        ("/operator/internal/cache-stats", r#""backend":"redis""#),
        ("/operator/internal/instance-id", "instance_id"),
        ("/operator/api/events/sse-token", "sse_token"),
    ] {
        let answer = cluster.get_as_principal(path).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let body = answer.text().await.unwrap();
        if let Ok(body) = serde_json::from_str::<Value>(&body)
            && let Some(token) = body["sse_token"].as_str()
        {
            remember_secret(token);
        }
        assert!(body.to_lowercase().contains(&holds.to_lowercase()), "{path}");
    }
    let introspection =
        cluster.post_as_principal("/operator/api/tokens/introspect").form(&[("token", &token)]);
    assert_eq!(introspection.send().await.unwrap().json::<Value>().await.unwrap()["active"], json!(true));
    // On a busy machine Redis may be out of reach for a moment: for the log, and for revocations.
    until("an event to be published", async || {
        cluster.publish(1).send().await.unwrap().status() == StatusCode::ACCEPTED
    })
    .await;
    until("a revocation to take effect on all instances", async || {
        let revocation = cluster.post_as_principal("/operator/api/tokens/revoke").form(&[("token", &token)]);
        revocation.send().await.unwrap().json::<Value>().await.unwrap()["effective"] == "cluster"
    })
    .await;
}

/// Paths of the service that nginx does not pass on.
const NOT_PUBLIC: [&str; 2] = ["/metrics", "/operator/internal/authorise"];

/// Methods and callers of the public endpoints, with one file for each folder of files.
fn public_endpoints() -> impl Iterator<Item = (String, Vec<(String, Caller)>)> {
    let public = endpoints().into_iter().filter(|endpoint| !NOT_PUBLIC.contains(&endpoint.path));
    public.map(|Endpoint { path, methods, .. }| {
        let methods = methods.into_iter().map(|(method, caller)| (method.to_string(), caller));
        (path.replace("{file}", "a"), methods.collect())
    })
}

/// Backend that answers every request with 200.
async fn willing() -> Backend {
    Backend::start(|_| Act::answer("200 OK", "", "{}")).await
}

#[tokio::test]
async fn every_public_endpoint_is_passed_on_and_has_its_name_in_the_access_log() {
    let backend = willing().await;
    let nginx = Nginx::start(std::slice::from_ref(&backend.address)).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for (path, methods) in public_endpoints() {
        for (method, _) in &methods {
            for base in [nginx.balancer(), nginx.gateway()] {
                // The gateway has its own health.
                if !path.starts_with("/health") || base == nginx.balancer() {
                    let request = client.request(method.parse().unwrap(), format!("{base}{path}"));
                    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK, "{method} {path}");
                    assert!(backend.count(&format!("{method} {path} ")) > 0, "{method} {path}");
                }
            }
        }
        let name = if path.ends_with("/a") { path.replace("/a", "/***") } else { path };
        let noted = format!(r#""path":"{name}""#);
        until(&noted, async || nginx.access_log().contains(&noted)).await;
    }
}

#[tokio::test]
async fn requests_of_a_principal_have_the_limit_of_backends_wherever_instances_check_its_credential_first() {
    let backend = willing().await;
    // Nobody else may ask at all.
    let limits = "limit_req_zone $vx11_client_as_anybody zone=vx11_requests:1m rate=1r/m;\n\
                  limit_req zone=vx11_requests;\n";
    let site = Site {
        instances: vec![backend.address.clone()],
        limits: None,
        files: vec![("limits.conf".to_owned(), limits.to_owned())],
        ..Site::default()
    };
    let nginx = Nginx::with(site).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = async |method: &str, path: &str| {
        let request = client.request(method.parse().unwrap(), format!("{}{path}", nginx.balancer()));
        request.header("X-VX11-Token", "a").send().await.unwrap().status()
    };
    assert_eq!(ask("GET", "/health").await, StatusCode::OK, "the one that anybody may ask");
    for (path, methods) in public_endpoints() {
        for (method, caller) in methods {
            let is_backends = matches!(caller, Caller::Principal(_) | Caller::Client(_));
            let expected = if is_backends { StatusCode::OK } else { StatusCode::TOO_MANY_REQUESTS };
            assert_eq!(ask(&method, &path).await, expected, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn what_is_not_public_does_not_exist_outside() {
    let cluster = Cluster::of(1).await;
    for path in [
        "/metrics",
        "/operator/internal/authorise",
        "/operator/internal/",
        "/operator/api/",
        "/operator/api/tokens",
        "/operator/api/events/stream/",
        "/operator//internal/authorise",
        "/operator/internal/%61uthorise",
        "/x/../metrics",
        "/.problem",
        "/.alive",
        "/.come-back",
        "/.event-source",
        "/.authorise",
        "/nginx.conf",
    ] {
        for base in [cluster.nginx.balancer(), cluster.nginx.gateway()] {
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: x\r\nX-VX11-Token: {}\r\nConnection: close\r\n\r\n",
                cluster.principal
            );
            let answer = exchange(&base, request.as_bytes()).await;
            assert_eq!(status_of(&answer), 404, "{path}: {answer}");
            problem_in(answer.split("\r\n\r\n").nth(1).unwrap(), 404, "not_found");
        }
    }
}

#[tokio::test]
async fn the_problems_of_instances_pass_unchanged() {
    let cluster = Cluster::of(1).await;
    let token = cluster.issue().await;
    let refused = cluster.get("/operator/api/events/stream?token=nonsense").send().await.unwrap();
    problem(refused, 403, "token_refused").await;
    for accept in ["*/*", "text/event-stream"] {
        let missing =
            cluster.get("/operator/api/events/stream").header("Accept", accept).send().await.unwrap();
        assert!(missing.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
        problem(missing, 401, "credential_missing").await;
        let asking = async |query: &[(&str, &str)]| {
            let request = cluster.get("/operator/api/events/stream").query(query);
            request.header("Accept", accept).send().await.unwrap()
        };
        // nginx adds no parameter, on both paths of a stream.
        assert_eq!(asking(&[("token", &token)]).await.status(), StatusCode::OK, "{accept}");
        let unknown = asking(&[("token", &token), ("colour", "red")]).await;
        problem(unknown, 400, "unknown_parameter").await;
    }
    let wrong_method = cluster.post_as_principal("/operator/api/health").send().await.unwrap();
    assert_eq!(wrong_method.status(), StatusCode::OK);
    let wrong_method = cluster.get_as_principal("/operator/api/events").send().await.unwrap();
    assert_eq!(wrong_method.headers()["allow"], "POST");
    problem(wrong_method, 405, "method_not_allowed").await;
}

#[tokio::test]
async fn what_is_no_proper_request_gets_a_problem_too() {
    let cluster = Cluster::of(1).await;
    let long = "k".repeat(9000);
    let many = format!("X-Long: {}\r\n", "k".repeat(8000)).repeat(5);
    for (request, status, code) in [
        ("NONSENSE\r\n\r\n".to_owned(), 400, "bad_request"),
        ("G3T / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 400, "bad_request"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400, "bad_request"),
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n".to_owned(), 400, "bad_request"),
        (format!("GET /?{long} HTTP/1.1\r\nHost: x\r\n\r\n"), 414, "uri_too_long"),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {long}\r\n\r\n"), 431, "headers_too_large"),
        (format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n"), 431, "headers_too_large"),
        ("TRACE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(), 405, "method_not_allowed"),
        ("POST /operator/api/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 65537\r\n\r\n".to_owned(), 413, "body_too_large"),
    ] {
        let answer = exchange(&cluster.nginx.balancer(), request.as_bytes()).await;
        assert_eq!(status_of(&answer), status, "{answer}");
        assert!(answer.contains("Content-Type: application/problem+json"), "{answer}");
        problem_in(answer.split("\r\n\r\n").nth(1).unwrap(), status, code);
    }
}

#[tokio::test]
async fn a_body_of_just_the_size_the_service_takes_passes() {
    let cluster = Cluster::of(1).await;
    let (before, after) = (r#"{"data":""#, r#""}"#);
    let body = format!("{before}{}{after}", "x".repeat(65536 - before.len() - after.len()));
    let send = |body: String| {
        cluster
            .post_as_principal("/operator/api/events")
            .header("Content-Type", "application/json")
            .body(body)
            .send()
    };
    // On a busy machine the log may be out of reach for a moment.
    until("the body to pass", async || {
        let status = send(body.clone()).await.unwrap().status();
        assert!([StatusCode::ACCEPTED, StatusCode::SERVICE_UNAVAILABLE].contains(&status), "{status}");
        status == StatusCode::ACCEPTED
    })
    .await;
    problem(send(format!("{body} ")).await.unwrap(), 413, "body_too_large").await;
}

#[tokio::test]
async fn both_logs_know_a_request_by_the_same_name() {
    let cluster = Cluster::of(1).await;
    let refused = cluster.get("/operator/api/events/stream?token=nonsense").send().await.unwrap();
    let id = problem(refused, 403, "token_refused").await["request_id"].as_str().unwrap().to_owned();
    // Written when the answer has been sent, which a client may notice first.
    until("nginx to note the request", async || cluster.nginx.access_log().contains(&id)).await;
    until("the instance to note it", async || cluster.instances[0].log().contains(&id)).await;
}

#[tokio::test]
async fn a_client_cannot_pretend_to_be_somewhere_else() {
    let environment = [("VX11_OPERATOR__LIMITS__FAILED_AUTH_PER_MINUTE", "1")];
    let cluster = Cluster::with(1, vx11_kit::Site::default(), &environment).await;
    let mut statuses = Vec::new();
    for host in 0..4 {
        let request = cluster.get("/operator/internal/instance-id").header("X-VX11-Token", "wrong");
        let answer = request.header("X-Forwarded-For", format!("192.0.2.{host}")).send().await.unwrap();
        statuses.push(answer.status().as_u16());
    }
    assert_eq!(statuses, [401, 429, 429, 429]);
}
