//! The table of all URLs.

use actix_web::http::Method;
use actix_web::{FromRequest, Handler, Resource, Responder, Route, web};

use super::error::Problem;
use super::{admin, authorise, events, health, openapi, panel, stream, tokens};

/// A path with its methods.
pub struct Endpoint {
    /// The path.
    pub path: &'static str,
    /// The methods, in the order of the `Allow` header.
    pub methods: Vec<Method>,
    resource: Resource,
}

/// All paths of the service. A new endpoint needs a line here, a handler in the file of its
/// subject, and its path in `openapi.rs`; a test compares the two.
#[must_use]
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        at("/operator/api/events/sse-token").post(tokens::issue).get(tokens::issue_by_get),
        at("/operator/api/events/stream").get(stream::open),
        at("/operator/api/events").post(events::publish),
        at("/operator/api/tokens/revoke").post(tokens::revoke),
        at("/operator/api/tokens/introspect").post(tokens::introspect),
        at("/operator/api/health").get(health::report).post(health::report_by_post).head(health::report),
        at("/operator/internal/authorise").get(authorise::authorise),
        at("/operator/internal/cache-stats").get(admin::cache_stats).head(admin::cache_stats),
        at("/operator/internal/instance-id").get(admin::instance_id).head(admin::instance_id),
        at("/health").get(health::module).head(health::module),
        at("/health/live").get(health::live).head(health::live),
        at("/health/ready").get(health::ready).head(health::ready),
        at("/metrics").get(admin::metrics).head(admin::metrics),
        at("/openapi.json").get(openapi::document).head(openapi::document),
        at("/").get(panel::page).head(panel::page),
        at("/panel/{file}").get(panel::asset).head(panel::asset),
        at("/client/{file}").get(panel::client).head(panel::client),
    ]
}

fn at(path: &'static str) -> Endpoint {
    Endpoint { path, methods: Vec::new(), resource: web::resource(path) }
}

impl Endpoint {
    fn get<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.route(Method::GET, web::get().to(handler))
    }

    fn head<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.route(Method::HEAD, web::head().to(handler))
    }

    fn post<F, Args>(self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.route(Method::POST, web::post().to(handler))
    }

    fn route(mut self, method: Method, route: Route) -> Self {
        self.methods.push(method);
        self.resource = self.resource.route(route);
        self
    }

    /// The actix resource, which answers 405 with `Allow` to every other method.
    pub(super) fn into_resource(self) -> Resource {
        let allowed = self.methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        self.resource.default_service(web::to(move || {
            let allowed = allowed.clone();
            async { Err::<&str, _>(Problem::MethodNotAllowed(allowed)) }
        }))
    }
}
