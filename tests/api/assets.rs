//! Files of the panel and the browser client: types, caching, and security headers.

use reqwest::StatusCode;
use vx11_operator::http::endpoints;

use crate::support::Instance;

const ASSETS: [(&str, &str); 18] = [
    ("/", "text/html; charset=utf-8"),
    ("/panel/panel.css", "text/css; charset=utf-8"),
    ("/panel/panel.js", "text/javascript; charset=utf-8"),
    ("/panel/panel-base.js", "text/javascript; charset=utf-8"),
    ("/panel/panel-chart.js", "text/javascript; charset=utf-8"),
    ("/panel/panel-cluster.js", "text/javascript; charset=utf-8"),
    ("/panel/panel-events.js", "text/javascript; charset=utf-8"),
    ("/panel/panel-grant.js", "text/javascript; charset=utf-8"),
    ("/panel/panel-history.js", "text/javascript; charset=utf-8"),
    ("/panel/panel-publish.js", "text/javascript; charset=utf-8"),
    ("/panel/panel-stats.js", "text/javascript; charset=utf-8"),
    ("/panel/panel-streams.js", "text/javascript; charset=utf-8"),
    ("/panel/panel-text.js", "text/javascript; charset=utf-8"),
    ("/panel/panel-theme.js", "text/javascript; charset=utf-8"),
    ("/panel/panel-tokens.js", "text/javascript; charset=utf-8"),
    ("/panel/icon.svg", "image/svg+xml"),
    ("/client/vx11-events.js", "text/javascript; charset=utf-8"),
    ("/client/vx11-events.d.ts", "text/plain; charset=utf-8"),
];

#[tokio::test]
async fn each_asset_has_its_type_and_a_policy_that_allows_nothing_from_elsewhere_and_nothing_inline() {
    let instance = Instance::start().await;
    for (path, content_type) in ASSETS {
        let response = instance.get(path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), content_type, "{path}");
        assert_eq!(header("cache-control"), "no-cache", "{path}");
        let policy = header("content-security-policy");
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.contains(rule), "{path}: {policy}");
        }
        assert!(
            !policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"),
            "{path}: {policy}"
        );
        assert_eq!(header("cross-origin-opener-policy"), "same-origin", "{path}");
        assert_eq!(header("cross-origin-resource-policy"), "same-origin", "{path}");
        assert!(response.text().await.unwrap().len() > 100, "{path}");
    }
}

#[tokio::test]
async fn the_page_refers_to_nothing_that_is_not_served_and_nothing_its_policy_forbids() {
    let instance = Instance::start().await;
    let page = instance.get("/").send().await.unwrap().text().await.unwrap();
    let references = ["src=\"", "href=\""].map(|attribute| page.split(attribute).skip(1));
    for reference in references.into_iter().flatten() {
        let target = reference.split('"').next().unwrap();
        if target.starts_with('#') {
            continue;
        }
        let answer = instance.get(target).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{target}");
    }
    for inline in ["<style", " style=", " onclick=", "javascript:"] {
        assert!(!page.contains(inline), "{inline}");
    }
    for script in page.split("<script").skip(1) {
        assert!(script.split('>').next().unwrap().contains("src="), "an inline script would not run");
    }
}

#[tokio::test]
async fn a_browser_with_this_version_gets_304_and_one_with_another_version_gets_the_file() {
    let instance = Instance::start().await;
    for (path, _) in ASSETS {
        let first = instance.get(path).send().await.unwrap();
        let tag = first.headers()["etag"].clone();
        assert!(tag.to_str().unwrap().starts_with('"'), "{tag:?}");
        let again = instance.get(path).header("If-None-Match", &tag).send().await.unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{path}");
        assert_eq!(again.headers()["etag"], tag, "{path}");
        assert!(again.headers().contains_key("content-security-policy"), "{path}");
        assert_eq!(again.text().await.unwrap(), "", "{path}");
        let other = instance.get(path).header("If-None-Match", "\"0\"").send().await.unwrap();
        assert_eq!(other.status(), StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn a_weak_or_listed_tag_is_recognised_too() {
    let instance = Instance::start().await;
    let tag = instance.get("/").send().await.unwrap().headers()["etag"].to_str().unwrap().to_owned();
    for known in
        [format!("W/{tag}"), format!("\"0\", {tag}"), format!("\"0\",W/{tag}, \"1\""), "*".to_owned()]
    {
        let answer = instance.get("/").header("If-None-Match", &known).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_MODIFIED, "{known}");
    }
}

#[tokio::test]
async fn every_response_forbids_guessing_its_type_and_passing_on_its_address() {
    let instance = Instance::start().await;
    let paths = endpoints().into_iter().map(|endpoint| endpoint.path.replace("{file}", "none"));
    for path in paths.chain(["/nothing".to_owned(), "/panel/panel.js".to_owned()]) {
        // Issued tokens are not read here, so that none has to be remembered.
        for request in [instance.get(&path), instance.post(&path), instance.get_as_principal(&path)] {
            let response = request.send().await.unwrap();
            let status = response.status();
            assert_eq!(response.headers()["x-content-type-options"], "nosniff", "{status} {path}");
            assert_eq!(response.headers()["referrer-policy"], "no-referrer", "{status} {path}");
        }
    }
}

#[tokio::test]
async fn a_stream_is_neither_stored_nor_buffered_nor_kept_alive() {
    let instance = Instance::start().await;
    let response = instance.ask_for_stream(&instance.issue().await.token).await;
    let header = |name: &str| response.headers()[name].to_str().unwrap();
    assert_eq!(header("content-type"), "text/event-stream");
    assert_eq!(header("cache-control"), "no-store");
    assert_eq!(header("x-accel-buffering"), "no");
    assert_eq!(header("connection"), "close");
    assert!(!response.headers().contains_key("content-encoding"));
}
