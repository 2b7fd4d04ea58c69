//! A real browser, driven through its driver.
//!
//! Each test has a separate driver, browser and profile; they end when its [`Browser`] is dropped.

use std::str::FromStr;
use std::time::Duration;

use fantoccini::elements::Element;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use reqwest::{Method, Url};
use serde_json::{Value, json};
use tempfile::TempDir;
use vx11_kit::{PATIENCE, artefacts, remember_secret};

use super::driver::{Driver, PACKAGES};

/// Between two looks at the page.
const POLL: Duration = Duration::from_millis(25);

/// A browser with one tab.
pub struct Browser {
    client: Client,
    /// All requests its pages made, as far as they were collected.
    requests: Vec<Request>,
    _driver: Driver,
    _profile: TempDir,
}

/// Requests of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub address: String,
    headers: Value,
}

impl Request {
    /// The value of a header that the page set.
    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = self.headers.as_object()?;
        headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?.1.as_str()
    }
}

impl Browser {
    /// A browser with an empty profile and an empty tab.
    pub async fn start() -> Self {
        let profile = tempfile::tempdir().expect("a folder for the profile");
        let driver = Driver::start(profile.path()).await;
        let capabilities = capabilities(&profile);
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities.as_object().cloned().unwrap_or_default())
            .connect(&format!("http://{}", driver.address))
            .await;
        let client = client.unwrap_or_else(|error| panic!("chromium does not start ({error}); {PACKAGES}"));
        Self { client, requests: Vec::new(), _driver: driver, _profile: profile }
    }

    /// Opens an address and waits until it is loaded.
    pub async fn open(&self, address: &str) {
        self.client.goto(address).await.expect("the page opens");
    }

    /// Waits until an element can be found.
    pub async fn see(&self, css: &str) -> Element {
        let wait = self.client.wait().at_most(PATIENCE).every(POLL);
        match wait.for_element(Locator::Css(css)).await {
            Ok(element) => element,
            Err(error) => self.fail(&format!("{css}: {error}")).await,
        }
    }

    /// Waits until an element's text contains `text`.
    pub async fn see_text(&self, css: &str, text: &str) {
        self.until(&format!(
            "[...document.querySelectorAll({css:?})].some((node) => node.textContent.includes({text:?}))"
        ))
        .await;
    }

    /// Waits until a JavaScript expression is true.
    pub async fn until(&self, expression: &str) {
        let holds = async {
            while self.value(expression).await != json!(true) {
                tokio::time::sleep(POLL).await;
            }
        };
        if tokio::time::timeout(PATIENCE, holds).await.is_err() {
            self.fail(expression).await;
        }
    }

    /// The value of a JavaScript expression.
    pub async fn value(&self, expression: &str) -> Value {
        let script = format!("return ({expression});");
        let value = self.client.execute(&script, Vec::new()).await;
        value.unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// Result of an asynchronous JavaScript function body.
    pub async fn run(&self, body: &str, arguments: Vec<Value>) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1];
             (async (...args) => {{ {body} }})(...arguments)
                 .then((value) => done({{ value }}), (error) => done({{ error: `${{error}}\\n${{error.stack}}` }}));"
        );
        let outcome = self.client.execute_async(&script, arguments).await;
        let outcome = outcome.expect("the script can be run");
        assert_eq!(outcome.get("error"), None, "the script fails");
        outcome["value"].clone()
    }

    /// Clicks as a person does: where the element is, if it can be seen.
    pub async fn click(&self, css: &str) {
        let clicked = self.see(css).await.click().await;
        clicked.unwrap_or_else(|error| panic!("{css} cannot be clicked: {error}"));
    }

    /// Replaces the text of a field, key by key.
    pub async fn fill(&self, css: &str, text: &str) {
        let field = self.see(css).await;
        field.clear().await.expect("the field can be cleared");
        field.send_keys(text).await.expect("the field takes keys");
    }

    /// Presses keys, whatever has the focus.
    pub async fn press(&self, keys: &str) {
        let element = self.client.active_element().await.expect("the page has a focus");
        element.send_keys(keys).await.expect("keys can be pressed");
    }

    /// The id of the element that has the focus.
    pub async fn focus(&self) -> String {
        let id = self.value("document.activeElement.id").await;
        id.as_str().expect("a string").to_owned()
    }

    /// The accessible name of each visible element, as the browser tells assistive technology, by
    /// its markup.
    pub async fn accessible_names(&self, css: &str) -> Vec<(String, String)> {
        let found = self.client.find_all(Locator::Css(css)).await;
        let mut names = Vec::new();
        for element in found.expect("elements can be looked for") {
            if element.is_displayed().await.expect("visibility is known") {
                let path = format!("element/{}/computedlabel", element.element_id().as_ref());
                let name = self.command(Method::GET, &path, None).await;
                let markup = element.html(false).await.expect("the element has markup");
                names.push((markup, name.as_str().unwrap_or_default().to_owned()));
            }
        }
        names
    }

    /// Lets the page read the clipboard, as a person can who pastes.
    pub async fn allow_clipboard(&self) {
        let permissions = json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] });
        self.devtools("Browser.grantPermissions", permissions).await;
    }

    /// The text on the clipboard.
    pub async fn clipboard(&self) -> String {
        let text = self.run("return navigator.clipboard.readText()", vec![]).await;
        text.as_str().expect("a text").to_owned()
    }

    /// Makes the page as large as a window of this size would.
    pub async fn resize(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Makes the system prefer `"light"` or `"dark"`.
    pub async fn prefer(&self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// Saves what is visible under the artefacts.
    pub async fn screenshot(&self, name: &str) {
        let image = self.client.screenshot().await.expect("a screenshot");
        std::fs::write(artefacts().join(format!("panel-{name}.png")), image)
            .expect("the screenshot can be saved");
    }

    /// Warnings and errors on the console since the last call, those of the browser itself
    /// included. What it merely remarks upon, such as which field it gave the focus, depends on
    /// timing.
    pub async fn console(&self) -> Vec<String> {
        let entries = self.log("browser").await;
        let text = |entry: &Value| format!("{}: {}", entry["level"], entry["message"]);
        entries.iter().filter(|entry| entry["level"] != "INFO").map(text).collect()
    }

    /// All requests its pages made so far.
    pub async fn requests(&mut self) -> &[Request] {
        for entry in self.log("performance").await {
            let message = entry["message"].as_str().expect("a message");
            let message: Value = serde_json::from_str(message).expect("in JSON");
            let message = &message["message"];
            let (request, document) = (&message["params"]["request"], &message["params"]["documentURL"]);
            // The browser's own pages ask for things, too.
            let by_page = document.as_str().is_some_and(|document| document.starts_with("http"));
            if message["method"] == "Network.requestWillBeSent" && by_page {
                let address = request["url"].as_str().expect("an address").to_owned();
                self.requests.push(Request { address, headers: request["headers"].clone() });
            }
        }
        &self.requests
    }

    /// Ends the browser, having noted the tokens with which it opened streams.
    pub async fn close(mut self) {
        for request in self.requests().await {
            if let Some(token) = request.header("X-VX11-Token") {
                remember_secret(token);
            }
        }
    }

    async fn log(&self, kind: &str) -> Vec<Value> {
        let entries = self.command(Method::POST, "se/log", Some(json!({ "type": kind })));
        entries.await.as_array().cloned().expect("a log has entries")
    }

    async fn devtools(&self, command: &str, parameters: Value) {
        let body = json!({ "cmd": command, "params": parameters });
        self.command(Method::POST, "goog/cdp/execute", Some(body)).await;
    }

    async fn command(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let path = path.to_owned();
        let answer = self.client.issue_cmd(Extension { method, path, body }).await;
        answer.expect("the driver knows the command")
    }

    async fn fail(&self, awaited: &str) -> ! {
        self.screenshot("failure").await;
        let page = self.value("document.body.innerText").await;
        panic!("waited in vain for {awaited}, on a page that reads:\n{}", page.as_str().unwrap_or_default());
    }
}

/// A command outside the standard's core.
#[derive(Debug)]
struct Extension {
    method: Method,
    path: String,
    body: Option<Value>,
}

impl WebDriverCompatibleCommand for Extension {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, <Url as FromStr>::Err> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _address: &Url) -> (Method, Option<String>) {
        (self.method.clone(), self.body.as_ref().map(Value::to_string))
    }
}

fn capabilities(profile: &TempDir) -> Value {
    json!({
        "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        "goog:chromeOptions": { "args": [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--window-size=1280,900",
            "--no-proxy-server",
            // The browser ends when its driver does, even if that is killed.
            "--remote-debugging-pipe",
            format!("--user-data-dir={}", profile.path().join("profile").display()),
        ] },
    })
}
