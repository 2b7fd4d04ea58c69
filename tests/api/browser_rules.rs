//! The rules that hold in the whole panel, in a real browser: its policy, the keyboard, names,
//! contrast, and narrow screens.

use serde_json::json;

use crate::support::{Instance, Panel};

/// A script that finds what WCAG 2.2 calls too faint.
const CONTRAST: &str = include_str!("support/contrast.js");

const BACKSPACE: &str = "\u{e003}";
const TAB: &str = "\u{e004}";
const SHIFT_TAB: &str = "\u{e008}\u{e004}\u{e008}";
const ENTER: &str = "\u{e007}";
const CONTROL: &str = "\u{e009}";
const ESCAPE: &str = "\u{e00c}";

#[tokio::test]
async fn a_session_breaks_no_policy_logs_no_error_and_asks_nobody_else() {
    let instance = Instance::start().await;
    let mut panel = Panel::connected(&instance).await;
    panel.publish("message", &json!({ "html": "<img src=//example.org/x onerror=alert(1)>" })).await;
    panel.see_event("<img").await;
    panel.click("#help-open").await;
    panel.click("#help-close").await;
    panel.click("#theme").await;
    panel.see_text("#tokens-summary", "now 1").await;
    panel.click("#signout").await;
    panel.see("#signin-card:not([hidden])").await;

    assert_eq!(panel.console().await, Vec::<String>::new());
    let base = format!("{}/", instance.base);
    let elsewhere: Vec<_> =
        panel.requests().await.iter().filter(|request| !request.address.starts_with(&base)).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    panel.close().await;
}

#[tokio::test]
async fn the_keyboard_is_enough() {
    let instance = Instance::start().await;
    let panel = Panel::open(&instance).await;
    assert_eq!(panel.focus().await, "principal", "where typing starts");
    panel.press(TAB).await;
    assert_eq!(panel.focus().await, "signin");
    for expected in ["principal", "theme", "help-open", "skip"] {
        panel.press(SHIFT_TAB).await;
        assert_eq!(panel.focus().await, expected);
    }
    panel.press(ENTER).await;
    panel.press(TAB).await;
    assert_eq!(panel.focus().await, "principal", "the link skips the header");
    // The single-key shortcuts are letters like any other in a field.
    panel.press("p/c?").await;
    assert_eq!(panel.value("document.querySelector('#principal').value").await, json!("p/c?"));
    panel.press(&BACKSPACE.repeat(4)).await;
    panel.press(&format!("{}{ENTER}", instance.principal)).await;
    panel.see_open().await;

    panel.press("p").await;
    panel.see("#pause[aria-pressed=true]").await;
    panel.press("p").await;
    panel.see("#pause[aria-pressed=false]").await;
    panel.press("/").await;
    assert_eq!(panel.focus().await, "filter");
    panel.press(ESCAPE).await;
    assert_ne!(panel.focus().await, "filter");
    instance.publish(json!("one")).await;
    panel.see_event("one").await;
    panel.press("c").await;
    assert_eq!(panel.events().await, json!([]));

    panel.press("?").await;
    panel.see("#help[open]").await;
    panel.press(ESCAPE).await;
    panel.see("#help:not([open])").await;
    panel.see("#publish-data").await.send_keys(&format!("{CONTROL}{ENTER}")).await.unwrap();
    panel.see_event("hello").await;
    panel.close().await;
}

#[tokio::test]
async fn every_control_has_a_name() {
    const CONTROLS: &str = "a, button, input, textarea, summary, dialog, [role]:not([role=alert], [role=status]), section, [tabindex='0']";
    let instance = Instance::start().await;
    let panel = Panel::open(&instance).await;
    let mut names = panel.accessible_names(CONTROLS).await;
    panel.sign_in(&instance.principal).await;
    panel.see_open().await;
    panel.publish("order.paid", &json!((0..100).collect::<Vec<_>>())).await;
    panel.see("#events .event-more").await;
    names.extend(panel.accessible_names(CONTROLS).await);
    panel.click("#help-open").await;
    names.extend(panel.accessible_names("#help, #help button, #help input").await);

    for (markup, name) in &names {
        assert!(!name.trim().is_empty(), "no name: {markup}");
    }
    for expected in [
        "Credential",
        "Sign in",
        "Filter events by type or data",
        "Instances",
        "What happened",
        "Single-key shortcuts",
    ] {
        assert!(names.iter().any(|(_, name)| name == expected), "nothing is named {expected}: {names:#?}");
    }
    panel.close().await;
}

#[tokio::test]
async fn texts_and_controls_stand_out_in_both_themes() {
    let instance = Instance::start().await;
    let panel = Panel::open(&instance).await;
    let mut faint = Vec::new();
    for theme in ["dark", "light"] {
        panel.prefer(theme).await;
        panel.open(&format!("{}/", instance.base)).await;
        faint.push((theme, "signed out", panel.run(CONTRAST, vec![]).await));
        panel.sign_in(&instance.principal).await;
        panel.see_open().await;
        panel
            .publish(
                "order.paid",
                &json!({ "order": 17, "items": ["tea", "cup"], "gift": true, "note": null }),
            )
            .await;
        panel.see_event("tea").await;
        panel.click("#pause").await;
        panel.click("#help-open").await;
        faint.push((theme, "help", panel.run(CONTRAST, vec![]).await));
        panel.click("#help-close").await;
        let degraded = format!(
            "for (const id of ['degraded', 'log-problem']) document.getElementById(id).hidden = false;
             document.querySelector('#cluster-rows tr').classList.add('gone');
             {CONTRAST}"
        );
        faint.push((theme, "degraded", panel.run(&degraded, vec![]).await));
        for state in ["idle", "issuing", "connecting", "open", "waiting", "unauthorized"] {
            panel.value(&format!("document.querySelector('#state').dataset.state = '{state}'")).await;
            faint.push((theme, state, panel.run(CONTRAST, vec![]).await));
        }
        panel.value("document.querySelector('#state').dataset.state = 'open'").await;
        panel.screenshot(theme).await;
        panel.click("#signout").await;
    }
    faint.retain(|(_, _, found)| *found != json!([]));
    assert!(faint.is_empty(), "{faint:#?}");
    panel.close().await;
}

#[tokio::test]
async fn nothing_is_cut_off_on_a_narrow_screen() {
    let instance = Instance::start().await;
    let panel = Panel::open(&instance).await;
    panel.resize(400, 900).await;
    assert_eq!(panel.sideways().await, json!(0));
    panel.sign_in(&instance.principal).await;
    panel.see_open().await;
    panel.publish("a.rather.long.event.type", &json!({ "unbroken": "x".repeat(200) })).await;
    panel.see_event("unbroken").await;
    assert_eq!(panel.sideways().await, json!(0));
    panel.click("#pause").await;
    panel.click("#clear").await;
    panel.see("#undo-clear:not([hidden])").await;
    panel.resize(320, 900).await;
    assert_eq!(panel.sideways().await, json!(0));
    panel.click("#undo-clear").await;
    panel.resize(400, 1500).await;
    panel.screenshot("narrow").await;
    panel.close().await;
}
