//! The `OpenAPI` 3.1 document, generated from the handlers.

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::Bytes;
use serde_json::json;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{Modify, OpenApi};

use super::error::{Problem, ProblemBody};
use super::problem_docs::Proxied;
use super::{admin, authorise, cookie, events, health, oauth, panel, stream, streams, subjects, tokens};
use crate::events::EventType;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "vx11-operator",
        description = "An event server for web applications. Backends publish events; open pages receive them over Server-Sent Events. A page opens its stream with a short-lived token, which a backend issues with its long-lived credential.",
    ),
    servers((url = "/", description = "The server that sent this document: an instance, or the load balancer")),
    components(schemas(ProblemBody)),
    paths(
        tokens::issue, tokens::issue_by_get, oauth::token, tokens::revoke, tokens::introspect,
        cookie::set, stream::open, events::publish,
        streams::list, streams::end, subjects::revoke, subjects::block, subjects::unblock,
        authorise::authorise, admin::cache_stats, admin::instance_id, admin::metrics,
        health::report, health::report_by_post, health::module, health::live, health::ready,
        oauth::metadata::server, oauth::metadata::resource,
        panel::page, panel::asset, panel::client, document,
    ),
    modifiers(&Security, &Rules),
)]
struct Document;

/// Rules of the handlers that no attribute can express, in JSON Schema.
struct Rules;

impl Modify for Rules {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let schemas = &mut document.components.get_or_insert_default().schemas;
        let by = |given: &str, other: &str| {
            let types = json!({ given: { "type": "string" }, other: { "type": "null" } });
            json!({ "required": [given], "properties": types })
        };
        let in_json = json!([by("token", "token_id"), by("token_id", "token")]);
        let in_form = json!([{ "required": ["token"] }, { "required": ["token_id"] }]);
        for (name, exactly_one) in [("TokenParameter", in_json), ("TokenForm", in_form)] {
            if let Some(RefOr::T(Schema::Object(parameter))) = schemas.get_mut(name) {
                parameter.extensions.get_or_insert_default().insert("oneOf".to_owned(), exactly_one);
            }
        }
        let Some(RefOr::T(Schema::Object(event))) = schemas.get_mut("PublishBody") else { return };
        let both = json!({ "required": ["topic", "topics"] });
        event.extensions.get_or_insert_default().insert("not".to_owned(), both);
        if let Some(RefOr::T(Schema::Object(event_type))) = event.properties.get_mut("event") {
            let reserved = json!({ "enum": EventType::RESERVED });
            event_type.extensions.get_or_insert_default().insert("not".to_owned(), reserved);
        }
    }
}

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let key = |value| SecurityScheme::ApiKey(value);
        components.add_security_scheme("principal", key(ApiKey::Header(ApiKeyValue::new("X-VX11-Token"))));
        components.add_security_scheme("token", key(ApiKey::Query(ApiKeyValue::new("token"))));
        components.add_security_scheme("cookie", key(ApiKey::Cookie(ApiKeyValue::new(cookie::NAME))));
        let basic = HttpBuilder::new().scheme(HttpAuthScheme::Basic).build();
        components.add_security_scheme("basic", SecurityScheme::Http(basic));
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// The document as text, generated once, because anybody may request it often.
static TEXT: LazyLock<Result<Bytes, serde_json::Error>> =
    LazyLock::new(|| Document::openapi().to_json().map(Bytes::from));

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "documentation",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json"), Proxied)
)]
pub(super) async fn document() -> Result<HttpResponse, Problem> {
    let document = TEXT.as_ref().map_err(|error| {
        tracing::error!(%error, "the OpenAPI document cannot be written");
        Problem::Internal
    })?;
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/json")).body(document.clone()))
}

#[cfg(test)]
mod tests {
    use actix_web::body::MessageBody;
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_document_is_written_once_for_all_who_ask() {
        let [one, other] = [(); 2].map(|()| {
            let answer = document().now_or_never().unwrap().unwrap();
            answer.into_body().try_into_bytes().unwrap()
        });
        assert!(one.starts_with(b"{"));
        assert_eq!(one.as_ptr(), other.as_ptr());
    }
}
