//! The events panel in a real browser.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Instance, Panel, remember_secret};

const ISSUED: &str = "vx11_operator_ephemeral_tokens_issued_total";

#[tokio::test]
async fn the_panel_shows_events_published_through_it_and_elsewhere() {
    let instance = Instance::with(&[("INSTANCE_ID", "7")]).await;
    let panel = Panel::open(&instance).await;
    panel.screenshot("signed-out").await;
    panel.sign_in(&instance.principal).await;
    panel.see_open().await;
    assert_eq!(panel.text("#instance").await, "7");
    assert_eq!(panel.text("#backend").await, "memory");
    assert_eq!(panel.text("#reconnects").await, "0");

    panel.publish("order.paid", &json!({ "by": "the panel" })).await;
    panel.see_event(r#""the panel""#).await;
    panel.see_text("#publish-result", "Published as ").await;
    let id = instance.publish(json!({ "by": "someone else" })).await;
    panel.see_event(r#""someone else""#).await;
    panel
        .see(&format!("#events li[data-id='{id}'][data-type=message]"))
        .await;
    assert_eq!(
        panel.events().await,
        json!([r#"{"by":"someone else"}"#, r#"{"by":"the panel"}"#])
    );
    panel.close().await;
}

#[tokio::test]
async fn pause_filter_and_clear_act_on_the_list() {
    let instance = Instance::start().await;
    let panel = Panel::connected(&instance).await;
    instance.publish(json!("apple")).await;
    instance.publish(json!("pear")).await;
    panel.see_event("pear").await;

    panel.fill("#filter", "APP").await;
    assert_eq!(panel.events().await, json!([r#""apple""#]));
    panel.fill("#filter", "neither").await;
    panel
        .see_text("#events-empty:not([hidden])", "No event matches")
        .await;
    panel.press(&"\u{e003}".repeat("neither".len())).await;
    assert_eq!(panel.events().await, json!([r#""pear""#, r#""apple""#]));

    panel.click("#pause").await;
    instance.publish(json!("plum")).await;
    panel
        .see_text("#pause[aria-pressed=true]", "Resume · 1 new")
        .await;
    assert_eq!(panel.events().await, json!([r#""pear""#, r#""apple""#]));
    panel.click("#pause").await;
    panel.see_event("plum").await;

    panel.click("#clear").await;
    assert_eq!(panel.events().await, json!([]));
    panel.see_text("#events-empty:not([hidden])", "Cleared").await;
    panel.close().await;
}

#[tokio::test]
async fn a_wrong_principal_is_refused_in_place() {
    let instance = Instance::start().await;
    let panel = Panel::open(&instance).await;
    let wrong = "f".repeat(32);
    remember_secret(&wrong);
    panel.sign_in(&wrong).await;
    panel.see_text("#signin-error", "not accepted").await;
    panel.see("#principal[aria-invalid=true]:focus").await;
    panel.see("#workspace[hidden]").await;
    assert_eq!(instance.metric(ISSUED).await, 0.0);

    panel.sign_in(&instance.principal).await;
    panel.see_open().await;
    panel.close().await;
}
