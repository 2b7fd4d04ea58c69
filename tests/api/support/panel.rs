//! The events panel as its users see it.

use std::ops::{Deref, DerefMut};

use serde_json::Value;

use super::browser::Browser;
use super::instance::Instance;

/// A browser that shows the panel of an instance.
pub struct Panel(Browser);

impl Panel {
    /// Opens the panel, signed out.
    pub async fn open(instance: &Instance) -> Self {
        Self::open_at(&instance.base, Browser::start().await).await
    }

    /// Opens the panel of whatever is at `base`, signed out.
    pub async fn open_at(base: &str, browser: Browser) -> Self {
        browser.open(&format!("{base}/")).await;
        Self(browser)
    }

    /// Opens the panel, signed in and connected.
    pub async fn connected(instance: &Instance) -> Self {
        let panel = Self::open(instance).await;
        panel.sign_in(&instance.principal).await;
        panel.see_open().await;
        panel
    }

    pub async fn sign_in(&self, principal: &str) {
        self.fill("#principal", principal).await;
        self.click("#signin").await;
    }

    /// Waits until the stream is open.
    pub async fn see_open(&self) {
        self.see("#state[data-state=open]").await;
    }

    /// Waits until an event is shown whose data contains `text`.
    pub async fn see_event(&self, text: &str) {
        self.see_text("#events .event-data", text).await;
    }

    /// Waits until the history has an entry of this kind whose text contains `text`.
    pub async fn see_history(&self, kind: &str, text: &str) {
        self.see_text(&format!("#history li[data-kind={kind}]"), text).await;
    }

    /// Entries of the history of this kind, the newest first, each with event and reason.
    pub async fn history(&self, kind: &str) -> Vec<(String, String)> {
        let shown = self
            .value(&format!(
                "[...document.querySelectorAll('#history li[data-kind={kind}]')].map((line) =>
                    ['.what', '.why'].map((part) => line.querySelector(part).textContent))"
            ))
            .await;
        serde_json::from_value(shown).expect("each line has its parts")
    }

    /// Publishes with the form.
    pub async fn publish(&self, event_type: &str, data: &Value) {
        self.fill("#publish-type", event_type).await;
        self.fill("#publish-data", &data.to_string()).await;
        self.click("#publish").await;
    }

    /// The text of an element.
    pub async fn text(&self, css: &str) -> String {
        let text = self.see(css).await.text().await;
        text.expect("an element has a text")
    }

    /// The data of the events shown, newest first.
    pub async fn events(&self) -> Value {
        self.value("[...document.querySelectorAll('#events .event-data')].map((node) => node.textContent)")
            .await
    }

    /// By how much the page, or a list in it, is wider than what is visible of it.
    pub async fn sideways(&self) -> Value {
        self.value(
            "Math.max(...[...document.querySelectorAll('html, .card, .scroller')]
                .map((box) => box.scrollWidth - box.clientWidth))",
        )
        .await
    }

    pub async fn close(self) {
        self.0.close().await;
    }
}

impl Deref for Panel {
    type Target = Browser;

    fn deref(&self) -> &Browser {
        &self.0
    }
}

impl DerefMut for Panel {
    fn deref_mut(&mut self) -> &mut Browser {
        &mut self.0
    }
}
