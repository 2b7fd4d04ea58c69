//! CORS (Fetch §3.2): answers that pages of configured origins may read, and their preflights.
//!
//! A request of any other origin does not pass the middleware: it gets the answer of a client
//! without an origin, and `Vary: Origin`.

use actix_cors::{Cors, CorsError};
use actix_web::dev::RequestHead;
use actix_web::guard::fn_guard;
use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, ORIGIN, RETRY_AFTER, VARY};
use actix_web::middleware::DefaultHeaders;
use actix_web::web::ServiceConfig;

use super::error::Problem;
use super::routes::{Endpoint, endpoints};

/// Every origin, for requests without credentials.
const ANY: &str = "*";
/// Headers that a page may send, besides those that need no permission.
const ALLOWED: [HeaderName; 5] = [
    AUTHORIZATION,
    CONTENT_TYPE,
    HeaderName::from_static("x-vx11-token"),
    HeaderName::from_static("last-event-id"),
    HeaderName::from_static("idempotency-key"),
];
/// Headers that a page may read, besides those that need no permission.
const EXPOSED: [HeaderName; 2] = [RETRY_AFTER, HeaderName::from_static("x-request-id")];
/// Time for which a browser need not ask again, in seconds.
const MAX_AGE: usize = 86_400;

/// Adds the endpoints that pages of these origins may use, before those for everybody. Without
/// origins nothing changes.
pub(super) fn configure(routes: &mut ServiceConfig, origins: &[String]) {
    if origins.is_empty() {
        return;
    }
    let shared = || endpoints().into_iter().filter(|endpoint| endpoint.for_other_origins);
    // Caches must not give the answer to one origin to another.
    let vary = || DefaultHeaders::new().add((VARY, "Origin"));
    for endpoint in shared() {
        let listed = origins.to_vec();
        let is_listed = fn_guard(move |context| is_listed(&listed, context.head()));
        let cors = cors(&endpoint, origins);
        routes.service(endpoint.into_resource().guard(is_listed).wrap(cors).wrap(vary()));
    }
    for endpoint in shared() {
        routes.service(endpoint.into_resource().wrap(vary()));
    }
}

fn is_listed(origins: &[String], request: &RequestHead) -> bool {
    let origin = request.headers().get(ORIGIN);
    origin.is_some_and(|origin| {
        origins.iter().any(|listed| listed == ANY || listed.as_bytes() == origin.as_bytes())
    })
}

/// The middleware for requests of listed origins.
fn cors(endpoint: &Endpoint, origins: &[String]) -> Cors {
    let methods = endpoint.methods.iter().map(|(method, _)| method.clone());
    let cors = Cors::default()
        .allowed_methods(methods)
        .allowed_headers(ALLOWED)
        .expose_headers(EXPOSED)
        .max_age(MAX_AGE)
        .disable_vary_header();
    if origins.iter().any(|origin| origin == ANY) {
        return cors.allow_any_origin().send_wildcard();
    }
    origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin)).supports_credentials()
}

/// The problem of a preflight for a method or a header that no page of another origin may use.
pub(super) fn preflight_refused(refusal: &CorsError) -> Problem {
    Problem::bad_request(match refusal {
        CorsError::HeadersNotAllowed | CorsError::BadRequestHeaders => {
            "pages of other origins may send the headers Authorization, Content-Type, X-VX11-Token, Last-Event-ID and Idempotency-Key"
        }
        _ => "pages of other origins may use the methods of this path; /openapi.json lists them",
    })
}
