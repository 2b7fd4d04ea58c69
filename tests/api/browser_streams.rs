//! The dialog about open streams in the events panel, in a real browser: the list, and orders about
//! streams and subjects.

use serde_json::{Value, json};
use vx11_kit::EventStream;

use crate::support::{Instance, Panel, ask_for_token, issue_with, limited};

/// A script that finds what WCAG 2.2 calls too faint.
const CONTRAST: &str = include_str!("support/contrast.js");
const ESCAPE: &str = "\u{e00c}";
const OPEN: &str = "vx11_operator_sse_streams_open";

/// A token for a subject.
async fn token_of(instance: &Instance, subject: &str) -> String {
    let issued = issue_with(instance, &json!({ "subject": subject, "topics": ["orders/*"] })).await;
    issued["sse_token"].as_str().unwrap().to_owned()
}

async fn open_stream_of(instance: &Instance, subject: &str) -> EventStream {
    instance.open_stream(&token_of(instance, subject).await).await
}

/// Waits until the list has this many streams.
async fn see_listed(panel: &Panel, count: usize) {
    panel.until(&format!("document.querySelectorAll('#open-streams li').length === {count}")).await;
    panel.see_text("#streams-result.muted", &format!("{count} stream")).await;
}

/// Lists the streams of a subject.
async fn list_streams_of(panel: &Panel, subject: &str, count: usize) {
    panel.fill("#streams-subject", subject).await;
    panel.click("#streams-list").await;
    see_listed(panel, count).await;
}

/// Clicks a button, reads the question and confirms it.
async fn order(panel: &Panel, button: &str, question: &str) {
    panel.click(button).await;
    panel.see("#confirm[open]").await;
    assert_eq!(panel.text("#confirm-question").await, question);
    assert_eq!(panel.focus().await, "confirm-no");
    panel.click("#confirm-yes").await;
}

#[tokio::test]
async fn the_panel_lists_the_streams_of_a_subject_and_ends_one_or_all_of_them() {
    let instance = Instance::start().await;
    let panel = Panel::connected(&instance).await;
    let _of_ada = [open_stream_of(&instance, "ada").await, open_stream_of(&instance, "ada").await];
    let _of_bob = open_stream_of(&instance, "bob").await;
    panel.click("#streams-open").await;
    assert_eq!(panel.focus().await, "streams-subject");
    // Those of the panel itself and of both users.
    see_listed(&panel, 4).await;
    panel.see("#subject-orders:disabled").await;

    list_streams_of(&panel, "ada", 2).await;
    panel.see("#subject-orders:enabled").await;
    let listed = panel.text("#open-streams li").await;
    for text in ["orders/*", "subject ada", "instance 1", "principal operator"] {
        assert!(listed.contains(text), "{listed}");
    }
    // Without a confirmation nothing happens.
    panel.click("#open-streams li .end").await;
    panel.see("#confirm[open]").await;
    panel.press(ESCAPE).await;
    panel.see("#confirm:not([open])").await;
    panel.see("#streams[open]").await;
    assert_eq!(instance.metric(OPEN).await, 4);
    order(&panel, "#open-streams li .end", "End this stream of ada?").await;
    panel.see_text("#order-result.good", "1 stream ended on all instances.").await;
    see_listed(&panel, 1).await;
    instance.metric_becomes(OPEN, 3).await;

    order(&panel, "#end-subject", "End all streams of ada?").await;
    panel.see_text("#order-result.good", "1 stream ended on all instances.").await;
    see_listed(&panel, 0).await;
    instance.metric_becomes(OPEN, 2).await;
    list_streams_of(&panel, "bob", 1).await;
    panel.fill("#streams-topic", "users/7").await;
    list_streams_of(&panel, "bob", 0).await;
    panel.close().await;
}

#[tokio::test]
async fn a_subject_is_revoked_blocked_and_unblocked_after_a_confirmation() {
    let instance = Instance::start().await;
    let panel = Panel::connected(&instance).await;
    let token = token_of(&instance, "ada").await;
    let _stream = instance.open_stream(&token).await;
    panel.click("#streams-open").await;
    list_streams_of(&panel, "ada", 1).await;
    order(&panel, "#revoke-subject", "Revoke all tokens of ada?").await;
    panel.see_text("#order-result.good", "The tokens of ada are revoked on all instances.").await;
    see_listed(&panel, 0).await;
    instance.refuses(&token).await;

    panel.fill("#block-seconds", "86401").await;
    panel.click("#block-subject").await;
    panel.see_text("#order-result.problem", "1 to 86400 seconds").await;
    panel.see("#block-seconds[aria-invalid=true]").await;
    panel.fill("#block-seconds", "600").await;
    order(&panel, "#block-subject", "Block ada for 600 s?").await;
    panel.see_text("#order-result.good", "ada is blocked until ").await;
    let ask = async || ask_for_token(&instance, &instance.principal, &json!({ "subject": "ada" })).await;
    let refused: Value = ask().await.json().await.unwrap();
    assert_eq!(refused["code"], "subject_blocked");
    order(&panel, "#unblock-subject", "Unblock ada?").await;
    panel.see_text("#order-result.good", "ada is not blocked any more on all instances.").await;
    drop(open_stream_of(&instance, "ada").await);
    panel.close().await;
}

#[tokio::test]
async fn a_credential_without_the_right_sees_why_and_loses_the_buttons() {
    let (instance, secret) = limited("rights = ['issue', 'observe']").await;
    let panel = Panel::open(&instance).await;
    panel.sign_in(&secret).await;
    panel.see_open().await;
    let _stream = open_stream_of(&instance, "ada").await;
    panel.click("#streams-open").await;
    list_streams_of(&panel, "ada", 1).await;
    order(&panel, "#end-subject", "End all streams of ada?").await;
    panel.see_text("#order-result.problem", "control").await;
    panel.see("#no-control:not([hidden])").await;
    panel.see("#subject-orders[hidden]").await;
    panel.until("getComputedStyle(document.querySelector('#open-streams .end')).display === 'none'").await;
    assert_eq!(instance.metric(OPEN).await, 2);
    panel.screenshot("streams-no-control").await;

    // Another credential begins with the buttons again.
    panel.click("#streams-close").await;
    panel.click("#signout").await;
    panel.sign_in(&instance.principal).await;
    panel.see_open().await;
    panel.click("#streams-open").await;
    panel.see("#subject-orders:not([hidden])").await;
    assert_eq!(panel.value("document.querySelector('#streams-subject').value").await, json!(""));
    panel.close().await;
}

#[tokio::test]
async fn a_credential_that_may_not_observe_sees_why_there_is_no_list() {
    let (instance, secret) = limited("rights = ['issue', 'control']").await;
    let panel = Panel::open(&instance).await;
    panel.sign_in(&secret).await;
    panel.see_open().await;
    let _stream = open_stream_of(&instance, "ada").await;
    panel.click("#streams-open").await;
    panel.see_text("#streams-result.problem", "No list. ").await;
    panel.see_text("#streams-result.problem", "observe").await;
    panel.fill("#streams-subject", "ada").await;
    order(&panel, "#end-subject", "End all streams of ada?").await;
    panel.see_text("#order-result.good", "1 stream ended on all instances.").await;
    panel.close().await;
}

#[tokio::test]
async fn topics_of_a_wrong_form_are_refused_in_place_and_not_tried_again() {
    const ISSUING_REQUESTS: &str = "performance.getEntriesByType('resource')
        .filter(({ name }) => name.endsWith('/sse-token')).length";
    let instance = Instance::start().await;
    let panel = Panel::connected(&instance).await;
    let before = panel.value(ISSUING_REQUESTS).await.as_u64().unwrap();
    panel.fill("#topics", "orders*").await;
    panel.click("#subscribe").await;
    panel.see("#state[data-state=invalid]").await;
    panel.see("#topics[aria-invalid=true]").await;
    panel.see_text("#topics-problem", "pattern").await;
    panel.see_history("denied", "not understood").await;
    panel.see("#connect-now[hidden]").await;
    assert_eq!(panel.run(CONTRAST, vec![]).await, json!([]));
    // A retry would come before the figures that count the closed stream no more.
    panel.see_text("#count-streams", "0").await;
    assert_eq!(panel.value(ISSUING_REQUESTS).await, json!(before + 1));
    panel.fill("#topics", "orders/*").await;
    panel.click("#subscribe").await;
    panel.see_open().await;
    panel.close().await;
}

#[tokio::test]
async fn the_dialog_about_streams_follows_the_rules_of_the_panel() {
    let instance = Instance::start().await;
    let panel = Panel::open(&instance).await;
    let subject = "a".repeat(128);
    let _stream = open_stream_of(&instance, &subject).await;
    for theme in ["dark", "light"] {
        panel.prefer(theme).await;
        panel.open(&format!("{}/", instance.base)).await;
        panel.sign_in(&instance.principal).await;
        panel.see_open().await;
        panel.click("#streams-open").await;
        list_streams_of(&panel, &subject, 1).await;
        // Single-key shortcuts do not reach the page under the dialog.
        panel.see("#streams-close").await.send_keys("p").await.unwrap();
        panel.see("#pause[aria-pressed=false]").await;
        assert_eq!(panel.run(CONTRAST, vec![]).await, json!([]), "{theme}");
        for (markup, name) in panel.accessible_names("#streams, #streams input, #streams button").await {
            assert!(!name.trim().is_empty(), "no name: {markup}");
        }
        panel.screenshot(&format!("streams-{theme}")).await;
        panel.click("#block-subject").await;
        panel.see("#confirm[open]").await;
        assert_eq!(panel.run(CONTRAST, vec![]).await, json!([]), "{theme}");
        for width in [390, 320] {
            panel.resize(width, 800).await;
            assert_eq!(panel.sideways().await, json!(0), "{width}");
            let fits = "['#streams', '#confirm'].every((dialog) => {
                const { left, right } = document.querySelector(dialog).getBoundingClientRect();
                return left >= 0 && right <= innerWidth;
            }) && ['#streams', '#open-streams'].every((box) => {
                const { scrollWidth, clientWidth } = document.querySelector(box);
                return scrollWidth <= clientWidth;
            })";
            assert_eq!(panel.value(fits).await, json!(true), "{width}");
        }
        panel.resize(1280, 900).await;
        panel.press(ESCAPE).await;
        panel.see("#confirm:not([open])").await;
        panel.press(ESCAPE).await;
        panel.see("#streams:not([open])").await;
        panel.until("document.querySelector('#open-streams').childElementCount === 0").await;
        panel.click("#signout").await;
    }
    assert_eq!(panel.console().await, Vec::<String>::new());
    panel.close().await;
}
