//! Topics, tokens and rights in the events panel, in a real browser.

use serde_json::{Value, json};
use vx11_kit::remember_secret;

use crate::support::{Instance, Panel, limited};

/// A script that finds what WCAG 2.2 calls too faint.
const CONTRAST: &str = include_str!("support/contrast.js");
const ESCAPE: &str = "\u{e00c}";
const UUID: &str = "6f0d2b7e-91c4-8a35-b0e2-5d4c3b2a1908";

/// Chooses the topics of the stream. The stream before ends at once.
async fn subscribe(panel: &Panel, topics: &str) {
    panel.fill("#topics", topics).await;
    panel.click("#subscribe").await;
}

/// Waits until the token is removed from the page.
async fn forgotten(panel: &Panel) {
    panel.see("#tokens:not([open])").await;
    panel.until("document.querySelector('#token').value === ''").await;
}

/// Names and values of what the panel shows of a token.
async fn grant(panel: &Panel) -> Value {
    panel
        .value(
            "Object.fromEntries([...document.querySelectorAll('#grant div')].map((row) =>
                [row.querySelector('dt').textContent, row.querySelector('dd').textContent]))",
        )
        .await
}

/// The value of a field.
async fn typed(panel: &Panel, css: &str) -> String {
    let value = panel.value(&format!("document.querySelector({css:?}).value")).await;
    value.as_str().unwrap().to_owned()
}

async fn publish(instance: &Instance, topic: &str, data: &Value) {
    instance.publish_body(&json!({ "topic": topic, "data": data }).to_string()).await;
}

#[tokio::test]
async fn the_panel_receives_the_topics_that_are_chosen_and_shows_the_topic_of_each_event() {
    let instance = Instance::start().await;
    let mut panel = Panel::connected(&instance).await;
    publish(&instance, "orders/1", &json!("too early")).await;
    instance.publish(json!("of no topic")).await;
    panel.see_event("of no topic").await;
    assert_eq!(panel.value("document.querySelectorAll('#events .event-topic').length").await, json!(0));

    subscribe(&panel, "orders/*  users/7").await;
    panel.see_open().await;
    publish(&instance, "users/8", &json!("of another user")).await;
    instance.publish(json!("of no topic again")).await;
    publish(&instance, "orders/17/lines", &json!("of an order")).await;
    panel.see_event("of an order").await;
    assert_eq!(panel.events().await, json!([r#""of an order""#, r#""of no topic""#]));
    panel.see_text("#events li[data-topic='orders/17/lines'] .event-topic", "orders/17/lines").await;
    panel.see("#events li[data-topic=default]").await;
    panel.fill("#filter", "ORDERS/17").await;
    panel.see_text("#events-count", "1 match · 1 shown").await;

    // A choice lasts as long as the credential of the tab.
    panel.open(&format!("{}/", instance.base)).await;
    panel.see_open().await;
    assert_eq!(typed(&panel, "#topics").await, "orders/*  users/7");
    panel.click("#signout").await;
    panel.sign_in(&instance.principal).await;
    panel.see_open().await;
    assert_eq!(typed(&panel, "#topics").await, "");
    let addresses: Vec<_> = panel.requests().await.iter().map(|request| request.address.clone()).collect();
    assert!(
        addresses.iter().any(|address| address.contains("?topic=orders%2F*&topic=users%2F7")),
        "{addresses:?}"
    );
    panel.close().await;
}

#[tokio::test]
async fn an_event_is_published_to_the_topics_that_are_typed() {
    let instance = Instance::start().await;
    let panel = Panel::connected(&instance).await;
    subscribe(&panel, "*").await;
    panel.see_open().await;
    for (topics, shown) in [("orders/17", "orders/17"), ("users/7  orders/18", "users/7"), (" ", "default")] {
        panel.fill("#publish-topic", topics).await;
        panel.publish("order.paid", &json!(shown)).await;
        panel.see_event(&format!("\"{shown}\"")).await;
        panel.see(&format!("#events li[data-topic='{shown}'][data-type='order.paid']")).await;
        panel.see("#publish[aria-disabled=false]").await;
    }
    panel.fill("#publish-topic", "orders/*").await;
    panel.click("#publish").await;
    panel.see_text("#publish-result.problem", "Not published. ").await;
    assert_eq!(panel.value("document.querySelectorAll('#events li').length").await, json!(3));
    panel.close().await;
}

#[tokio::test]
async fn topics_beyond_those_of_the_credential_are_refused_in_place_and_not_tried_again() {
    const ISSUING_REQUESTS: &str = "performance.getEntriesByType('resource')
        .filter(({ name }) => name.endsWith('/sse-token')).length";
    let (instance, secret) =
        limited("rights = ['issue', 'publish', 'observe']\ntopics = ['default', 'orders/*']").await;
    let panel = Panel::open(&instance).await;
    panel.sign_in(&secret).await;
    panel.see_open().await;
    let before = panel.value(ISSUING_REQUESTS).await.as_u64().unwrap();
    subscribe(&panel, "users/7").await;
    panel.see_text("#topics-problem", "users/7").await;
    panel.see("#state[data-state=forbidden]").await;
    panel.see("#topics[aria-invalid=true]").await;
    panel.see_history("denied", "not permitted").await;
    panel.see("#connect-now[hidden]").await;
    panel.screenshot("not-permitted").await;
    assert_eq!(panel.run(CONTRAST, vec![]).await, json!([]));
    // A retry would come before the figures that count the closed stream no more.
    panel.see_text("#count-streams", "0").await;
    assert_eq!(panel.value(ISSUING_REQUESTS).await, json!(before + 1));

    subscribe(&panel, "orders/1").await;
    panel.see_open().await;
    assert_eq!(panel.value("document.querySelector('#topics-problem').textContent").await, json!(""));
    panel.fill("#publish-topic", "users/7").await;
    panel.click("#publish").await;
    panel.see_text("#publish-result.problem", "Not published. ").await;
    panel.see_text("#publish-result.problem", "users/7").await;
    panel.close().await;
}

#[tokio::test]
async fn a_credential_that_may_not_see_figures_can_use_the_rest() {
    let (instance, secret) = limited("rights = ['issue', 'publish']").await;
    let panel = Panel::open(&instance).await;
    panel.sign_in(&secret).await;
    panel.see_open().await;
    panel.see_text("#stats-problem:not([hidden])", "observe").await;
    panel.publish("message", &json!("by a backend")).await;
    panel.see_event("by a backend").await;
    panel.close().await;
}

#[tokio::test]
async fn a_token_is_issued_for_an_end_user_and_shown_with_what_it_grants() {
    let instance = Instance::start().await;
    let panel = Panel::connected(&instance).await;
    panel.click("#tokens-open").await;
    panel.see("#tokens[open]").await;
    assert_eq!(panel.focus().await, "issue-topics");
    panel.fill("#issue-topics", "orders/* users/7").await;
    panel.fill("#issue-subject", "ada").await;
    panel.fill("#issue-life", "120").await;
    panel.click("#issue").await;
    panel.see_text("#issue-result.good", "Issued, valid until ").await;
    let token = typed(&panel, "#token").await;
    remember_secret(&token);
    let shown = grant(&panel).await;
    for (name, value) in [("Topics", "orders/* users/7"), ("Subject", "ada"), ("Principal", "operator")] {
        assert_eq!(shown[name], value, "{shown}");
    }
    assert_eq!(shown["Token id"].as_str().map(str::len), Some(16), "{shown}");
    assert!(shown["Expires"].is_string() && shown["Issued"].is_string(), "{shown}");
    panel.allow_clipboard().await;
    panel.click("#copy-token").await;
    panel.see_text("#issue-result", "The token was copied.").await;
    assert_eq!(panel.clipboard().await, token);
    panel.click("#copy-stream-url").await;
    panel.see_text("#issue-result", "The stream URL was copied.").await;
    let url = panel.clipboard().await;
    assert_eq!(url, format!("{}/operator/api/events/stream?token={token}", instance.base));

    let mut stream = instance.open_stream(&token).await;
    instance.publish(json!("of no topic")).await;
    publish(&instance, "users/7", &json!("of ada")).await;
    assert_eq!(stream.next().await.unwrap().data, r#""of ada""#);

    // Nothing of the token stays in the page.
    panel.click("#tokens-close").await;
    forgotten(&panel).await;
    let page = panel.value("document.documentElement.outerHTML").await;
    assert!(!page.as_str().unwrap().contains(&token));
    panel.close().await;
}

#[tokio::test]
async fn a_request_for_a_token_that_is_refused_says_why() {
    let (instance, secret) = limited("rights = ['issue', 'observe']\ntopics = ['default', 'orders/*']").await;
    let panel = Panel::open(&instance).await;
    panel.sign_in(&secret).await;
    panel.see_open().await;
    panel.click("#tokens-open").await;
    for (field, text, words) in [
        ("#issue-life", "901", "Not issued. "),
        ("#issue-life", "soon", "xpires_in has to be a whole number"),
        ("#issue-topics", "users/7", "users/7"),
    ] {
        panel.fill(field, text).await;
        panel.click("#issue").await;
        panel.see_text("#issue-result.problem", words).await;
        panel.see(field).await.clear().await.unwrap();
    }
    assert_eq!(typed(&panel, "#token").await, "");
    panel.click("#issue").await;
    panel.see_text("#issue-result.good", "Issued, ").await;
    remember_secret(&typed(&panel, "#token").await);
    assert_eq!(grant(&panel).await["Grant"], "none: a plain token");
    panel.close().await;
}

#[tokio::test]
async fn a_pasted_token_is_read_in_the_page_and_sent_to_nobody() {
    let instance = Instance::start().await;
    let mut panel = Panel::connected(&instance).await;
    panel.click("#tokens-open").await;
    let with = |grant: &str| format!("{UUID}.{grant}");
    let all =
        "AQEADHNob3AtYmFja2VuZAIABgGbhXICewMAB3VzZXItNDIEABkKdXNlcnMvNDIvKghvcmRlcnMvKgRuZXdzBQAGAZuFqPCA";
    panel.fill("#token", &with(all)).await;
    let shown = grant(&panel).await;
    for (name, value) in
        [("Principal", "shop-backend"), ("Subject", "user-42"), ("Topics", "users/42/* orders/* news")]
    {
        assert_eq!(shown[name], value, "{shown}");
    }
    assert!(shown["Streams end"].is_string() && shown["Issued"].is_string(), "{shown}");
    let once = "AQEAAWECAAYBm4VyBecEAA0BKgokc3RyZWFtcy8qBgAABwAYL3JlcG9ydHMvNz9mdWxsPTEmcGFnZT0y";
    panel.fill("#token", &with(once)).await;
    let shown = grant(&panel).await;
    for (name, value) in
        [("Topics", "* $streams/*"), ("Single use", "yes"), ("Resource", "/reports/7?full=1&page=2")]
    {
        assert_eq!(shown[name], value, "{shown}");
    }
    panel.fill("#token", UUID).await;
    assert_eq!(grant(&panel).await, json!({ "Topics": "default", "Grant": "none: a plain token" }));
    for (token, problem) in [
        ("hello".to_owned(), "This is no token."),
        (with("AQEAAWECAAYBm4VyAgAEAAIB"), "damaged"),
        (with("AQEAAWECAAYBm4VyAgAEAAIBYggAAXg"), "damaged"),
        (with("AgEAAWE"), "a version that this panel does not know"),
    ] {
        panel.fill("#token", &token).await;
        panel.see_text("#token-problem", problem).await;
        panel.see("#token[aria-invalid=true]").await;
        assert_eq!(grant(&panel).await, json!({}), "{token}");
        panel.see("#copy-token[hidden]").await;
    }
    let requests = panel.requests().await;
    assert!(!requests.is_empty() && requests.iter().all(|request| !request.address.contains(UUID)));
    panel.close().await;
}

#[tokio::test]
async fn the_dialog_about_tokens_follows_the_rules_of_the_panel() {
    let instance = Instance::start().await;
    let panel = Panel::open(&instance).await;
    for theme in ["dark", "light"] {
        panel.prefer(theme).await;
        panel.open(&format!("{}/", instance.base)).await;
        panel.sign_in(&instance.principal).await;
        panel.see_open().await;
        // Single-key shortcuts do not reach the page under the dialog.
        panel.click("#tokens-open").await;
        panel.see("#tokens-close").await.send_keys("p").await.unwrap();
        panel.see("#pause[aria-pressed=false]").await;
        panel.click("#issue").await;
        panel.see_text("#issue-result.good", "Issued, ").await;
        remember_secret(&typed(&panel, "#token").await);
        assert_eq!(panel.run(CONTRAST, vec![]).await, json!([]), "{theme}");
        for (markup, name) in panel.accessible_names("#tokens, #tokens input, #tokens button").await {
            assert!(!name.trim().is_empty(), "no name: {markup}");
        }
        panel.screenshot(&format!("tokens-{theme}")).await;
        panel.resize(320, 900).await;
        assert_eq!(panel.sideways().await, json!(0));
        let width = "document.querySelector('#tokens').getBoundingClientRect().right <= innerWidth";
        assert_eq!(panel.value(width).await, json!(true));
        panel.resize(1280, 900).await;
        panel.press(ESCAPE).await;
        forgotten(&panel).await;
        panel.click("#signout").await;
    }
    assert_eq!(panel.console().await, Vec::<String>::new());
    panel.close().await;
}
