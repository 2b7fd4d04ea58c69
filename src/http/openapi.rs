//! The `OpenAPI` 3.1 document, generated from the handlers.

use actix_web::HttpResponse;
use actix_web::http::header::CONTENT_TYPE;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::error::Problem;
use super::{admin, authorise, events, health, panel, stream, tokens};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "vx11-operator",
        description = "Trades a long-lived principal credential for a short-lived token that opens a Server-Sent-Events stream and nothing else.",
    ),
    paths(
        tokens::issue, tokens::issue_by_get, tokens::revoke, tokens::introspect,
        stream::open, events::publish,
        authorise::authorise, admin::cache_stats, admin::instance_id, admin::metrics,
        health::report, health::report_by_post, health::module, health::live, health::ready,
        panel::page, panel::asset, panel::client, document,
    ),
    modifiers(&Security),
)]
struct Document;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let key = |value| SecurityScheme::ApiKey(value);
        components.add_security_scheme("principal", key(ApiKey::Header(ApiKeyValue::new("X-VX11-Token"))));
        components.add_security_scheme("token", key(ApiKey::Query(ApiKeyValue::new("token"))));
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "documentation",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json"))
)]
pub(super) async fn document() -> Result<HttpResponse, Problem> {
    let document = Document::openapi().to_json().map_err(|error| {
        tracing::error!(%error, "the OpenAPI document cannot be written");
        Problem::Internal
    })?;
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/json")).body(document))
}
