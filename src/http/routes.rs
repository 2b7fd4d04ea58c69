//! The table of all URLs, and who may call them.

use actix_web::http::Method;
use actix_web::{FromRequest, Handler, HttpRequest, Resource, Responder, Route, web};

use self::Caller::{Anyone, Client, Principal, Token, TokenOr};
use super::error::Problem;
use super::oauth::metadata;
use super::{
    admin, authorise, cookie, events, health, oauth, openapi, panel, stream, streams, subjects, tokens,
};
use crate::principal::Right;

/// Who may call a method of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Anyone, without a credential.
    Anyone,
    /// A principal with this right.
    Principal(Right),
    /// A principal with this right, which may also authenticate as an OAuth client: by HTTP Basic,
    /// and at the token endpoint by the form or by the JWT that it exchanges.
    Client(Right),
    /// The holder of a token, or a principal with this right.
    TokenOr(Right),
    /// The holder of a token.
    Token,
}

/// A path with its methods.
pub struct Endpoint {
    /// The path.
    pub path: &'static str,
    /// The methods with their callers, in the order of the `Allow` header.
    pub methods: Vec<(Method, Caller)>,
    /// Whether pages of configured origins may read its answers.
    pub for_other_origins: bool,
    resource: Resource,
}

/// Callers of the methods of a path, for extraction, which authenticates them.
pub(super) struct Callers(Vec<(Method, Caller)>);

impl Callers {
    /// The caller whom the table allows to make a request. `None` for a path outside of the table.
    pub(super) fn of(request: &HttpRequest) -> Option<Caller> {
        let Self(callers) = request.app_data::<Self>()?;
        callers.iter().find(|(method, _)| method == request.method()).map(|(_, caller)| *caller)
    }
}

/// All paths of the service. A new endpoint needs a line here, a handler in the file of its
/// subject, and its path in `openapi.rs`; tests compare the two, and call each line with each
/// right.
#[must_use]
pub fn endpoints() -> Vec<Endpoint> {
    const ISSUE: Caller = Principal(Right::Issue);
    const OBSERVE: Caller = Principal(Right::Observe);
    const CONTROL: Caller = Principal(Right::Control);
    vec![
        at("/operator/api/events/sse-token")
            .for_other_origins()
            .post(ISSUE, tokens::issue)
            .get(ISSUE, tokens::issue_by_get),
        at("/oauth/token").post(Client(Right::Issue), oauth::token),
        at("/operator/api/events/cookie").for_other_origins().post(Token, cookie::set),
        at("/operator/api/events/stream").for_other_origins().get(TokenOr(Right::Subscribe), stream::open),
        at("/operator/api/events").for_other_origins().post(Principal(Right::Publish), events::publish),
        at("/operator/api/tokens/revoke").for_other_origins().post(Client(Right::Control), tokens::revoke),
        at("/operator/api/tokens/introspect")
            .for_other_origins()
            .post(Client(Right::Introspect), tokens::introspect),
        at("/operator/api/streams").get(OBSERVE, streams::list),
        at("/operator/api/streams/end").post(CONTROL, streams::end),
        at("/operator/api/subjects/revoke").post(CONTROL, subjects::revoke),
        at("/operator/api/subjects/block").post(CONTROL, subjects::block),
        at("/operator/api/subjects/unblock").post(CONTROL, subjects::unblock),
        at("/operator/api/health")
            .get(Anyone, health::report)
            .post(Anyone, health::report_by_post)
            .head(Anyone, health::report),
        at("/operator/internal/authorise").get(TokenOr(Right::Subscribe), authorise::authorise),
        at("/operator/internal/cache-stats")
            .get(OBSERVE, admin::cache_stats)
            .head(OBSERVE, admin::cache_stats),
        at("/operator/internal/instance-id")
            .get(OBSERVE, admin::instance_id)
            .head(OBSERVE, admin::instance_id),
        at("/health").get(Anyone, health::module).head(Anyone, health::module),
        at("/health/live").get(Anyone, health::live).head(Anyone, health::live),
        at("/health/ready").get(Anyone, health::ready).head(Anyone, health::ready),
        at("/metrics").get(Anyone, admin::metrics).head(Anyone, admin::metrics),
        at(metadata::SERVER).get(Anyone, metadata::server).head(Anyone, metadata::server),
        at(metadata::RESOURCE).get(Anyone, metadata::resource).head(Anyone, metadata::resource),
        at("/openapi.json").get(Anyone, openapi::document).head(Anyone, openapi::document),
        at("/").get(Anyone, panel::page).head(Anyone, panel::page),
        at("/panel/{file}").get(Anyone, panel::asset).head(Anyone, panel::asset),
        at("/client/{file}").for_other_origins().get(Anyone, panel::client).head(Anyone, panel::client),
    ]
}

fn at(path: &'static str) -> Endpoint {
    Endpoint { path, methods: Vec::new(), for_other_origins: false, resource: web::resource(path) }
}

impl Endpoint {
    const fn for_other_origins(mut self) -> Self {
        self.for_other_origins = true;
        self
    }

    fn get<F, Args>(self, caller: Caller, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.route(Method::GET, caller, web::get().to(handler))
    }

    fn head<F, Args>(self, caller: Caller, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.route(Method::HEAD, caller, web::head().to(handler))
    }

    fn post<F, Args>(self, caller: Caller, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.route(Method::POST, caller, web::post().to(handler))
    }

    fn route(mut self, method: Method, caller: Caller, route: Route) -> Self {
        self.methods.push((method, caller));
        self.resource = self.resource.route(route);
        self
    }

    /// The actix resource, which answers 405 with `Allow` to every other method.
    pub(super) fn into_resource(self) -> Resource {
        let Self { methods, resource, .. } = self;
        let allowed = methods.iter().map(|(method, _)| method.as_str()).collect::<Vec<_>>().join(", ");
        resource.app_data(Callers(methods)).default_service(web::to(move || {
            let allowed = allowed.clone();
            async { Err::<&str, _>(Problem::MethodNotAllowed(allowed)) }
        }))
    }
}
