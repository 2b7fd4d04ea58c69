//! A browser of either kind, for what every browser has to do in the same way.

use serde_json::Value;
use vx11_kit::until;

use super::browser::Browser;
use super::firefox::Firefox;

/// A browser with one tab.
pub enum AnyBrowser {
    Chromium(Box<Browser>),
    Firefox(Box<Firefox>),
}

impl AnyBrowser {
    /// A Chromium with an empty profile.
    pub async fn chromium() -> Self {
        Self::Chromium(Box::new(Browser::start().await))
    }

    /// A Firefox with an empty profile.
    pub async fn firefox() -> Self {
        Self::Firefox(Box::new(Firefox::start().await))
    }

    /// Opens an address and waits until it is loaded.
    pub async fn open(&self, address: &str) {
        match self {
            Self::Chromium(browser) => browser.open(address).await,
            Self::Firefox(browser) => browser.open(address).await,
        }
    }

    /// Result of an asynchronous JavaScript function body; an error of the script fails the test.
    pub async fn run(&self, body: &str, arguments: Vec<Value>) -> Value {
        let browser = match self {
            Self::Chromium(browser) => return browser.run(body, arguments).await,
            Self::Firefox(browser) => browser,
        };
        let script = format!(
            "const done = arguments[arguments.length - 1];
             (async (...args) => {{ {body} }})(...arguments)
                 .then((value) => done({{ value }}), (error) => done({{ error: String(error) }}));"
        );
        let outcome = browser.execute_async(&script, arguments).await;
        assert_eq!(outcome.get("error"), None, "the script fails");
        outcome["value"].clone()
    }

    /// Waits until a JavaScript expression has this value.
    pub async fn value_becomes(&self, expression: &str, expected: &Value) {
        let body = format!("return ({expression});");
        until(&format!("{expression} to become {expected}"), async || {
            self.run(&body, vec![]).await == *expected
        })
        .await;
    }
}
