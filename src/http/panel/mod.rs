//! The panel (`assets`) and the browser client (`clients/browser`), embedded in the binary. They
//! contain no secret: a user types in the credential, which stays in the browser tab.

use std::borrow::Cow;
use std::sync::LazyLock;

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, CROSS_ORIGIN_OPENER_POLICY,
    CROSS_ORIGIN_RESOURCE_POLICY, ETag, EntityTag, Header, IF_NONE_MATCH, IfNoneMatch,
};
use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse};
use sha2::{Digest, Sha256};

use super::error::{Problem, ProblemBody};
use super::problem_docs::Proxied;

/// Content Security Policy: no foreign or inline content, no framing, no text that becomes a
/// script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'";
/// Policies against other origins: they can neither embed an asset nor keep a reference to the
/// panel's window.
const SAME_ORIGIN: &str = "same-origin";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

struct Asset {
    name: &'static str,
    content_type: &'static str,
    /// Computed once, because anybody may request an asset.
    version: LazyLock<Version>,
}

struct Version {
    content: Cow<'static, str>,
    tag: EntityTag,
}

impl Version {
    fn of(content: Cow<'static, str>) -> Self {
        let tag = EntityTag::new_strong(hex::encode(&Sha256::digest(content.as_bytes())[..8]));
        Self { content, tag }
    }
}

macro_rules! asset {
    ($name:literal, $content_type:expr) => {
        asset!($name, $content_type, Cow::Borrowed(include_str!(concat!("assets/", $name))))
    };
    ($name:literal, $content_type:expr, $content:expr) => {
        Asset { name: $name, content_type: $content_type, version: LazyLock::new(|| Version::of($content)) }
    };
}

/// A file of the browser client.
macro_rules! of_client {
    ($name:literal) => {
        include_str!(concat!("../../../clients/browser/", $name))
    };
}

static PAGE: Asset = asset!("index.html", HTML);
static PANEL: [Asset; 15] = [
    asset!("panel.css", CSS),
    asset!("panel.js", SCRIPT),
    asset!("panel-base.js", SCRIPT),
    asset!("panel-chart.js", SCRIPT),
    asset!("panel-cluster.js", SCRIPT),
    asset!("panel-events.js", SCRIPT),
    asset!("panel-grant.js", SCRIPT),
    asset!("panel-history.js", SCRIPT),
    asset!("panel-publish.js", SCRIPT),
    asset!("panel-stats.js", SCRIPT),
    asset!("panel-streams.js", SCRIPT),
    asset!("panel-text.js", SCRIPT),
    asset!("panel-theme.js", SCRIPT),
    asset!("panel-tokens.js", SCRIPT),
    asset!("icon.svg", SVG),
];
static CLIENT: [Asset; 2] = [
    asset!("vx11-events.js", SCRIPT, Cow::Owned(joined_client())),
    asset!("vx11-events.d.ts", TEXT, Cow::Borrowed(of_client!("vx11-events.d.ts"))),
];
const CLIENT_MODULE: &str = of_client!("vx11-events.js");
/// Modules that the client imports.
const CLIENT_PARTS: [&str; 4] =
    [of_client!("answers.js"), of_client!("frames.js"), of_client!("messages.js"), of_client!("options.js")];

/// The browser client as one file. Separate files might not fit together: during an update, two
/// releases may answer the requests of one page.
fn joined_client() -> String {
    let without_imports = |text: &'static str| text.lines().filter(|line| !line.starts_with("import "));
    let parts = CLIENT_PARTS.into_iter().flat_map(without_imports);
    let parts = parts.map(|line| line.strip_prefix("export ").unwrap_or(line));
    let lines = without_imports(CLIENT_MODULE).chain(parts);
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The events panel.
#[utoipa::path(
    get, path = "/", tag = "panel",
    responses(
        (status = 200, description = "The panel", body = String, content_type = "text/html"),
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
    params(("file" = String, Path, description = "Name of the file", example = "panel.js")),
    responses(
        (status = 200, description = "The file", content(
            (String = "text/javascript"), (String = "text/css"), (String = "image/svg+xml")
        )),
        (status = 304, description = "The version that If-None-Match names"),
        Proxied,
        (status = 404, description = "There is no such file", body = ProblemBody, content_type = "application/problem+json"),
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
        (status = 404, description = "There is no such file", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn client(request: HttpRequest, file: Path<String>) -> Result<HttpResponse, Problem> {
    find(&CLIENT, &file).map(|asset| answer(&request, asset))
}

fn find(assets: &'static [Asset], name: &str) -> Result<&'static Asset, Problem> {
    assets.iter().find(|asset| asset.name == name).ok_or(Problem::NotFound)
}

/// The asset, or 304 if the browser has this version.
fn answer(request: &HttpRequest, asset: &'static Asset) -> HttpResponse {
    let Version { content, tag } = &*asset.version;
    // Weak comparison (RFC 9110 §13.1.2): a proxy that compresses makes the tag weak.
    let known = match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => request.headers().contains_key(IF_NONE_MATCH),
        Ok(IfNoneMatch::Items(seen)) => seen.iter().any(|seen| seen.weak_eq(tag)),
        Err(_) => false,
    };
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((CONTENT_TYPE, asset.content_type))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((CROSS_ORIGIN_OPENER_POLICY, SAME_ORIGIN))
        .insert_header((CROSS_ORIGIN_RESOURCE_POLICY, SAME_ORIGIN))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header(ETag(tag.clone()));
    if known { response.finish() } else { response.body(&**content) }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::ETAG;
    use actix_web::test::TestRequest;

    use super::*;

    fn tag_sent(asset: &'static Asset) -> String {
        let answer = answer(&TestRequest::default().to_http_request(), asset);
        answer.headers().get(ETAG).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn the_tag_of_an_asset_is_that_of_its_content() {
        for asset in PANEL.iter().chain(&CLIENT).chain([&PAGE]) {
            let Version { content, tag } = &*asset.version;
            assert_eq!(tag_sent(asset), tag.to_string(), "{}", asset.name);
            assert_eq!(*tag, Version::of(content.clone()).tag);
        }
    }

    #[test]
    fn an_answer_sends_the_tag_that_was_computed_before() {
        static PROBE: Asset = Asset {
            name: "probe",
            content_type: TEXT,
            version: LazyLock::new(|| Version {
                content: Cow::Borrowed("content whose own tag is another"),
                tag: EntityTag::new_strong("probe".into()),
            }),
        };
        assert_eq!(tag_sent(&PROBE), "\"probe\"");
    }

    #[test]
    fn the_client_is_one_module_that_imports_nothing_and_exports_what_its_types_name() {
        let module = joined_client();
        let types = of_client!("vx11-events.d.ts");
        let exported = |text: &str, word: &str| {
            let names = text.lines().filter_map(|line| line.strip_prefix("export ")?.strip_prefix(word));
            names.map(|rest| rest.split(['(', ' ']).next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        assert!(!module.contains("\nimport ") && !module.contains("from \"./"), "{module}");
        assert_eq!(exported(&module, "function "), exported(types, "function "));
        let classes = [exported(&module, "class "), exported(&module, "{ ")].concat();
        let mut of_types = exported(types, "class ");
        of_types.sort();
        let mut classes = classes;
        classes.sort();
        assert_eq!(classes, of_types);
    }
}
