//! The code that users copy, from the README, two other pages and the head of the client. It runs
//! unchanged in a real browser, on a page that has a backend, and is checked against the client's
//! types.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::support::{Application, Backend, Browser, Instance};

const README: &str = include_str!("../../README.md");
const ONE_USER: &str = include_str!("../../docs/events-for-one-user.md");
const CLIENT_README: &str = include_str!("../../clients/browser/README.md");
const CLIENT: &str = include_str!("../../clients/browser/vx11-events.js");
/// The modules that it imports.
const PARTS: [(&str, &str); 4] = [
    ("client/answers.js", include_str!("../../clients/browser/answers.js")),
    ("client/frames.js", include_str!("../../clients/browser/frames.js")),
    ("client/messages.js", include_str!("../../clients/browser/messages.js")),
    ("client/options.js", include_str!("../../clients/browser/options.js")),
];
const TYPES: &str = include_str!("../../clients/browser/vx11-events.d.ts");
/// Code that uses everything the types offer.
const WHOLE_API: &str = include_str!("support/client_types.ts");

const STREAMS: &str = "vx11_operator_sse_streams_open";

/// The only JavaScript of a page.
fn from_page(page: &str) -> String {
    let mut blocks = page.split("```js\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let snippet = blocks.next().expect("the page has a snippet").to_owned();
    assert_eq!(blocks.next(), None, "the page has another snippet");
    snippet
}

/// The indented block of the client's first comment.
fn from_client() -> String {
    let comment = CLIENT.split("*/").next().unwrap();
    let lines = comment.lines().filter_map(|line| line.strip_prefix(" *     "));
    let snippet = lines.collect::<Vec<_>>().join("\n");
    assert!(snippet.contains("connect("), "the client's head has a snippet");
    snippet
}

/// The smallest example. It handles no failure of the backend.
fn smallest() -> (&'static str, String) {
    ("clients/browser/README.md", from_page(CLIENT_README))
}

/// The snippets that handle a lost session.
fn snippets() -> [(&'static str, String); 3] {
    [
        ("README.md", from_page(README)),
        ("docs/events-for-one-user.md", from_page(ONE_USER)),
        ("vx11-events.js", from_client()),
    ]
}

/// A browser, an instance for each snippet, and the application whose page runs the snippet.
struct Page {
    browser: Browser,
    instance: Instance,
    application: Application,
}

impl Page {
    /// Opens the page of a snippet.
    async fn open(browser: Browser, snippet: &str, backend: Backend) -> Self {
        let instance = Instance::start().await;
        let application = Application::start(&instance, snippet).await;
        let page = Self { browser, instance, application };
        page.reopen(backend).await;
        page
    }

    /// Opens it afresh, with a backend that answers in another way.
    async fn reopen(&self, backend: Backend) {
        self.application.set_backend(backend);
        self.browser.open(&format!("{}/", self.application.base)).await;
    }

    async fn streams(&self) {
        self.instance.metric_becomes(STREAMS, 1).await;
    }

    /// Waits until the page has printed a line that contains `text`.
    async fn prints(&self, text: &str) {
        self.browser.until(&format!("lines.some((line) => line.includes({text:?}))")).await;
    }

    async fn leaves_for(&self, path: &str) {
        self.browser.until(&format!("location.pathname === {path:?}")).await;
    }

    /// Revokes the token with which the page opened its stream last.
    async fn revoke(&mut self) {
        let requests = self.browser.requests().await;
        let token = requests.iter().rev().find_map(|request| request.header("X-VX11-Token"));
        let token = token.expect("the page has opened a stream");
        let revoking =
            self.instance.post_as_principal("/operator/api/tokens/revoke").form(&[("token", token)]);
        assert!(revoking.send().await.unwrap().status().is_success());
    }
}

#[tokio::test]
async fn the_snippets_print_events_and_come_back_with_a_new_token() {
    let mut browser = Browser::start().await;
    for (source, snippet) in snippets().into_iter().chain([smallest()]) {
        let mut page = Page::open(browser, &snippet, Backend::Issues).await;
        page.streams().await;
        page.instance.publish(json!("the first event")).await;
        page.prints("the first event").await;
        page.revoke().await;
        page.instance.stream_ends_are("revoked", 1).await;
        page.instance.publish(json!("the second event")).await;
        page.prints("the second event").await;
        let warnings = page.browser.value("lines.filter((line) => line.startsWith('warn'))").await;
        assert_eq!(warnings, json!([]), "{source}");
        browser = page.browser;
    }
    browser.close().await;
}

#[tokio::test]
async fn the_snippets_leave_for_the_login_when_the_session_is_lost() {
    const LOST: Backend = Backend::Answers("401 Unauthorized", "{}");
    let mut browser = Browser::start().await;
    for (source, snippet) in snippets() {
        let mut page = Page::open(browser, &snippet, LOST).await;
        page.leaves_for("/login").await;
        assert_eq!(page.application.asked(), 1, "{source}: never logged in");

        page.reopen(Backend::Issues).await;
        page.streams().await;
        page.application.set_backend(LOST);
        page.revoke().await;
        page.leaves_for("/login").await;
        assert_eq!(page.application.asked(), 3, "{source}: the session ended while the stream was open");
        browser = page.browser;
    }
    browser.close().await;
}

#[tokio::test]
async fn the_snippets_print_what_is_wrong_with_the_backend() {
    let mut browser = Browser::start().await;
    for (_, snippet) in snippets() {
        let page = Page::open(browser, &snippet, Backend::Answers("403 Forbidden", "{}")).await;
        page.prints("issueToken failed with status 403").await;
        page.reopen(Backend::Answers("500 Internal Server Error", "{}")).await;
        page.prints("issueToken failed with status 500").await;
        page.reopen(Backend::Answers("200 OK", r#"{"token":"of another shape"}"#)).await;
        page.prints("sse_token").await;
        browser = page.browser;
    }
    browser.close().await;
}

#[tokio::test]
async fn a_page_of_another_origin_learns_why_it_cannot_connect() {
    let instance = Instance::start().await;
    let application = Application::start(&instance, "").await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/", application.base)).await;
    let error = browser
        .run(
            r#"
            const [baseUrl] = args;
            const { connect } = await import("/client/vx11-events.js");
            const issueToken = async ({ signal }) => (await fetch("/sse-token", { method: "POST", signal })).json();
            globalThis.silent = connect({ baseUrl, issueToken });
            const { cause, error } = await new Promise((onReconnect) => connect({ baseUrl, issueToken, onReconnect }));
            return [cause, error instanceof TypeError, String(error)];
            "#,
            vec![json!(instance.base)],
        )
        .await;
    assert_eq!(error, json!(["unreachable", true, "TypeError: Failed to fetch"]));
    for text in ["TypeError: Failed to fetch", &instance.base, &application.base] {
        browser
            .until(&format!("lines.some((line) => line.startsWith('warn') && line.includes({text:?}))"))
            .await;
    }
    browser.close().await;
}

#[tokio::test]
async fn the_snippets_and_the_whole_api_pass_the_type_checker() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("client")).unwrap();
    write("client/vx11-events.d.ts", TYPES);
    write("client/vx11-events.js", CLIENT);
    for (name, part) in PARTS {
        write(name, part);
    }
    write("readme.ts", &from_page(README));
    write("one-user.ts", &from_page(ONE_USER));
    write("smallest.ts", &smallest().1);
    write("head.ts", &from_client());
    write("whole-api.ts", WHOLE_API);
    // The client is checked itself, and with it what it imports, as their first lines ask.
    let configuration = json!({
        "compilerOptions": {
            "strict": true,
            "noEmit": true,
            "allowJs": true,
            "target": "es2022",
            "module": "es2022",
            "moduleResolution": "node",
            "lib": ["es2022", "dom", "dom.iterable"],
            "types": [],
            "paths": { "/client/*": ["./client/*"] },
        },
        "files": [
            "readme.ts", "one-user.ts", "smallest.ts", "head.ts", "whole-api.ts", "client/vx11-events.js",
        ],
    });
    write("tsconfig.json", &configuration.to_string());
    check_types(folder.path());
}

fn check_types(folder: &Path) {
    let checked = Command::new("tsc").arg("--project").arg(folder).output();
    let checked =
        checked.unwrap_or_else(|error| panic!("tsc, of the Debian package node-typescript: {error}"));
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}
