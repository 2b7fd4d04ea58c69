//! Reference for issuing and introspection: routes behind the same middleware that answer the same
//! number of bytes with the same headers, and do nothing else.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::{self, Payload, ServiceConfig};

use crate::http::Client;

/// Beside the route that issues.
pub(crate) const BESIDE_ISSUE: &str = "/bench/constant";
/// Beside the route that introspects: reads a body first.
pub(crate) const BESIDE_INTROSPECT: &str = "/bench/constant-after-body";

const INTROSPECTED: &str = r#"{"active":true,"sub":"operator","exp":1767470400,"iat":1767470340,"jti":"0000000000000000","token_type":"sse"}"#;
/// As in the service itself.
const MAX_BODY: usize = 64 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Adds the routes; `issued` is what the one beside issuing answers.
pub(crate) fn routes(config: &mut ServiceConfig, issued: &'static str) {
    config
        .route(BESIDE_ISSUE, web::post().to(move || async move { answer(issued) }))
        .route(BESIDE_INTROSPECT, web::post().to(after_body));
}

async fn after_body(payload: Payload) -> HttpResponse {
    match tokio::time::timeout(BODY_TIMEOUT, payload.to_bytes_limited(MAX_BODY)).await {
        Ok(Ok(Ok(_body))) => answer(INTROSPECTED),
        _ => HttpResponse::BadRequest().finish(),
    }
}

/// An answer as the service gives it, whatever it holds.
pub(crate) fn answer(body: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/json"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(body)
}

/// Sees to it that the comparison is fair: the constant answer and the real one have the same
/// headers, the date apart, and bodies of the same length.
pub(crate) fn assert_alike(client: &mut Client, real: &str, constant: &str, content_type: &str, body: &str) {
    let mut ask = |path: &str| {
        client.send(&format!("POST {path}"), content_type, body);
        let (head, _) = client.receive();
        shape(&head)
    };
    assert_eq!(ask(constant), ask(real), "the answer of {real} has changed; its constant must follow");
}

/// The head without values that change every second, in a fixed order.
fn shape(head: &str) -> Vec<String> {
    let headers = head.lines().filter(|line| !line.starts_with("date: "));
    let mut shape: Vec<_> = headers.map(str::to_lowercase).collect();
    shape.sort_unstable();
    shape
}
