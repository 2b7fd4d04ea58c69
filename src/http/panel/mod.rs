//! The events panel and the browser client, embedded in the binary. Holds no secret: the principal is typed in
//! by its user and stays in that browser tab.

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETag, EntityTag, Header, IF_NONE_MATCH, IfNoneMatch,
};
use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse};
use sha2::{Digest, Sha256};

use super::error::{Problem, ProblemBody};
use super::problem_docs::Proxied;

/// Nothing from elsewhere, nothing inline, no framing.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

struct Asset {
    name: &'static str,
    content_type: &'static str,
    content: &'static str,
}

macro_rules! asset {
    ($name:literal, $content_type:expr) => {
        Asset { name: $name, content_type: $content_type, content: include_str!(concat!("assets/", $name)) }
    };
}

const PAGE: Asset = asset!("index.html", HTML);
const PANEL: [Asset; 12] = [
    asset!("panel.css", CSS),
    asset!("panel.js", SCRIPT),
    asset!("panel-base.js", SCRIPT),
    asset!("panel-chart.js", SCRIPT),
    asset!("panel-cluster.js", SCRIPT),
    asset!("panel-events.js", SCRIPT),
    asset!("panel-history.js", SCRIPT),
    asset!("panel-publish.js", SCRIPT),
    asset!("panel-stats.js", SCRIPT),
    asset!("panel-text.js", SCRIPT),
    asset!("panel-theme.js", SCRIPT),
    asset!("icon.svg", SVG),
];
const CLIENT: [Asset; 2] = [asset!("vx11-events.js", SCRIPT), asset!("vx11-events.d.ts", TEXT)];

/// The events panel.
#[utoipa::path(
    get, path = "/", tag = "panel",
    responses(
        (status = 200, description = "A page", body = String, content_type = "text/html"),
        (status = 304, description = "The version that If-None-Match names"),
        Proxied,
    )
)]
pub(super) async fn page(request: HttpRequest) -> HttpResponse {
    answer(&request, &PAGE)
}

/// A part of the events panel.
#[utoipa::path(
    get, path = "/panel/{file}", tag = "panel",
    params(("file" = String, Path, description = "Its name", example = "panel.js")),
    responses(
        (status = 200, description = "The file", content(
            (String = "text/javascript"), (String = "text/css"), (String = "image/svg+xml")
        )),
        (status = 304, description = "The version that If-None-Match names"),
        Proxied,
        (status = 404, description = "No such part", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn asset(request: HttpRequest, file: Path<String>) -> Result<HttpResponse, Problem> {
    find(&PANEL, &file).map(|asset| answer(&request, asset))
}

/// The browser client, an ES module, and its types.
#[utoipa::path(
    get, path = "/client/{file}", tag = "panel",
    params(("file" = String, Path, description = "vx11-events.js or vx11-events.d.ts", example = "vx11-events.js")),
    responses(
        (status = 200, description = "The file", content((String = "text/javascript"), (String = "text/plain"))),
        (status = 304, description = "The version that If-None-Match names"),
        Proxied,
        (status = 404, description = "No such file", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn client(request: HttpRequest, file: Path<String>) -> Result<HttpResponse, Problem> {
    find(&CLIENT, &file).map(|asset| answer(&request, asset))
}

fn find<'a>(assets: &'a [Asset], name: &str) -> Result<&'a Asset, Problem> {
    assets.iter().find(|asset| asset.name == name).ok_or(Problem::NotFound)
}

/// The asset, or 304 when the browser has this very version.
fn answer(request: &HttpRequest, asset: &Asset) -> HttpResponse {
    let tag = EntityTag::new_strong(hex::encode(&Sha256::digest(asset.content)[..8]));
    // Compared weakly (RFC 9110 §13.1.2): a proxy that compresses makes the tag a weak one.
    let known = match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => request.headers().contains_key(IF_NONE_MATCH),
        Ok(IfNoneMatch::Items(seen)) => seen.iter().any(|seen| seen.weak_eq(&tag)),
        Err(_) => false,
    };
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((CONTENT_TYPE, asset.content_type))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header(ETag(tag));
    if known { response.finish() } else { response.body(asset.content) }
}
