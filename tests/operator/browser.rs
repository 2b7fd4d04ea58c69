//! The events panel in a real browser.

use reqwest::StatusCode;
use serde_json::{Value, json};
use vx11_rig::Port;

use crate::support::{Instance, Panel, random_hex, remember_secret};

const ISSUED: &str = "vx11_operator_ephemeral_tokens_issued_total";

/// A script that finds what WCAG 2.2 calls too faint.
const CONTRAST: &str = include_str!("support/contrast.js");

const BACKSPACE: &str = "\u{e003}";
const TAB: &str = "\u{e004}";
const SHIFT_TAB: &str = "\u{e008}\u{e004}\u{e008}";
const ENTER: &str = "\u{e007}";
const CONTROL: &str = "\u{e009}";
const ESCAPE: &str = "\u{e00c}";

/// An address and a principal for an instance that is to come back. The port stays ours while nothing listens on it.
fn place() -> (Port, String, String) {
    let port = Port::reserve();
    let address = format!("127.0.0.1:{}", port.number());
    (port, address, random_hex())
}

#[tokio::test]
async fn the_panel_shows_events_published_through_it_and_elsewhere() {
    let instance = Instance::with(&[("INSTANCE_ID", "7")]).await;
    let panel = Panel::open(&instance).await;
    panel.screenshot("signed-out").await;
    panel.sign_in(&instance.principal).await;
    panel.see_open().await;
    assert_eq!(panel.text("#instance").await, "7");
    panel.see_text("#backend", "memory").await;
    assert_eq!(panel.text("#reconnects").await, "0");

    panel.publish("order.paid", &json!({ "by": "the panel" })).await;
    panel.see_event(r#""the panel""#).await;
    panel.see_text("#publish-result", "Published as ").await;
    let id = instance.publish(json!({ "by": "someone else" })).await;
    panel.see_event(r#""someone else""#).await;
    panel.see(&format!("#events li[data-id='{id}'][data-type=message]")).await;
    assert_eq!(panel.events().await, json!([r#"{"by":"someone else"}"#, r#"{"by":"the panel"}"#]));
    panel.see_text("#count-streams", "1").await;
    panel.screenshot("connected").await;
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
    panel.see_text("#events-empty:not([hidden])", "No event matches").await;
    panel.press(&BACKSPACE.repeat("neither".len())).await;
    assert_eq!(panel.events().await, json!([r#""pear""#, r#""apple""#]));

    panel.click("#pause").await;
    instance.publish(json!("plum")).await;
    panel.see_text("#pause[aria-pressed=true]", "Resume · 1 new").await;
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
    instance.metric_becomes(ISSUED, 0).await;

    panel.sign_in(&instance.principal).await;
    panel.see_open().await;
    panel.close().await;
}

#[tokio::test]
async fn a_panel_outlives_the_crash_of_its_instance() {
    let (_port, address, principal) = place();
    let instance = Instance::in_place_of(&address, &principal).await;
    let mut panel = Panel::connected(&instance).await;
    instance.publish(json!("before")).await;
    panel.see_event("before").await;
    instance.kill().await;
    panel.see_history("reconnect", "Reconnecting: the connection was cut (cut)").await;
    panel.see_text("#state[data-state=waiting]", "reconnecting").await;

    let instance = Instance::in_place_of(&address, &principal).await;
    panel.see_open().await;
    // The log of events ended with the process: nobody can say what was missed.
    panel.see_history("reset", "started anew (epoch)").await;
    panel.see_text("#reconnects", "1").await;
    // However often it tried, it is one line.
    let [(what, why)] = panel.history("reconnect").await.try_into().unwrap();
    assert!(what.starts_with("Reconnected to instance 1 again in "), "{what}");
    assert_eq!(why, "the connection was cut (cut); gap: the log of events started anew (epoch)");
    instance.publish(json!("after")).await;
    panel.see_event("after").await;
    assert_eq!(panel.events().await, json!([r#""after""#, r#""before""#]));
    assert!(instance.metric(ISSUED).await >= 1, "the panel came back with a new token");
    panel.screenshot("after-the-restart").await;

    let stores =
        panel.value("[Object.entries(sessionStorage), Object.entries(localStorage), document.cookie]").await;
    let keeps = |store: &Value| store.to_string().contains(&principal);
    assert!(keeps(&stores[0]), "a reload does not ask for the principal again");
    assert!(!keeps(&stores[1]) && !keeps(&stores[2]), "kept beyond this tab: {stores}");
    let requests = panel.requests().await;
    assert!(requests.iter().any(|request| request.address.contains("/stream?last_event_id=")));
    for credential in requests.iter().filter_map(|request| request.header("X-VX11-Token")) {
        assert!(!requests.iter().any(|request| request.address.contains(credential)), "in an address");
    }
    panel.close().await;
}

#[tokio::test]
async fn a_panel_leaves_a_draining_instance_in_order_and_comes_back() {
    let (_port, address, principal) = place();
    let mut instance = Instance::with(&[
        ("VX11_OPERATOR_LISTEN", &address),
        ("VX11_PRINCIPAL_TOKEN", &principal),
        ("VX11_OPERATOR__DRAIN__WINDOW_SECONDS", "1"),
    ])
    .await;
    let panel = Panel::connected(&instance).await;
    instance.terminate();
    panel.see_history("reconnect", "Reconnecting: the instance is shutting down (drain)").await;
    assert_eq!(instance.ended().await.code(), Some(0));

    let instance = Instance::in_place_of(&address, &principal).await;
    panel.see_open().await;
    panel.see_text("#reconnects", "1").await;
    instance.publish(json!("after the drain")).await;
    panel.see_event("after the drain").await;
    panel.close().await;
}

#[tokio::test]
async fn a_panel_whose_token_is_revoked_takes_a_new_one() {
    let instance = Instance::start().await;
    let panel = Panel::connected(&instance).await;
    instance.publish(json!("before")).await;
    panel.see_event("before").await;
    let stats = instance.get_as_principal("/operator/internal/cache-stats").send().await.unwrap();
    let stats: Value = stats.json().await.unwrap();
    let [token_id] = stats["sample_tokens"].as_array().unwrap().as_slice() else {
        panic!("the panel's token is the only one: {stats}");
    };
    let revoked = instance
        .post_as_principal("/operator/api/tokens/revoke")
        .form(&[("token_id", token_id.as_str().unwrap())])
        .send()
        .await
        .unwrap();
    assert_eq!(revoked.status(), StatusCode::OK);

    panel.see_history("reconnect", "the token was revoked (revoked)").await;
    instance.publish(json!("meanwhile")).await;
    panel.see_event("meanwhile").await;
    panel.see_text("#reconnects", "1").await;
    panel.see_open().await;
    instance.metric_becomes(ISSUED, 2).await;
    instance.publish(json!("after")).await;
    panel.see_event("after").await;
    let [(_, why)] = panel.history("reconnect").await.try_into().unwrap();
    assert!(why.contains("(revoked); resumed after ") && why.ends_with(", nothing missed"), "{why}");
    assert_eq!(panel.history("reset").await, []);
    panel.close().await;
}

/// The idempotency keys of all events that the panel asked to be published.
async fn keys(panel: &mut Panel) -> Vec<String> {
    let requests = panel.requests().await.iter();
    let published = requests.filter(|request| request.address.ends_with("/operator/api/events"));
    published.map(|request| request.header("Idempotency-Key").unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_event_nobody_takes_is_tried_again_under_its_key_a_few_times() {
    let (_port, address, principal) = place();
    let instance = Instance::in_place_of(&address, &principal).await;
    let mut panel = Panel::connected(&instance).await;
    instance.kill().await;
    panel.publish("message", &json!("one")).await;
    panel.see_text("#publish-result", "Try 5 of 5 in ").await;
    panel.see_text("#publish-result", "It may have been published: publish it again unchanged").await;
    let tried = keys(&mut panel).await;
    assert_eq!(tried, vec![tried[0].clone(); 5]);

    let _instance = Instance::in_place_of(&address, &principal).await;
    panel.see_open().await;
    panel.click("#publish:enabled").await;
    panel.see_text("#publish-result", "Published as ").await;
    assert_eq!(keys(&mut panel).await, vec![tried[0].clone(); 6], "the same event again");
    panel.publish("message", &json!("two")).await;
    panel.see_event("two").await;
    assert_eq!(panel.events().await, json!([r#""two""#, r#""one""#]));
    assert_ne!(keys(&mut panel).await[6], tried[0], "another event");
    panel.close().await;
}

#[tokio::test]
async fn an_event_whose_answer_is_lost_is_published_once() {
    // Loses the first answer to publishing, as a network would: nothing else here can lose one when it should.
    const LOSE_AN_ANSWER: &str = "
        const real = window.fetch;
        window.fetch = async (address, request) => {
            const answer = await real(address, request);
            if (String(address) !== '/operator/api/events') return answer;
            window.fetch = real;
            throw new TypeError('network error');
        };";
    let instance = Instance::start().await;
    let panel = Panel::connected(&instance).await;
    panel.run(LOSE_AN_ANSWER, vec![]).await;
    panel.publish("message", &json!("once")).await;
    panel.see_text("#publish-result", ", by an earlier try").await;
    instance.publish(json!("last")).await;
    panel.see_event("last").await;
    assert_eq!(panel.events().await, json!([r#""last""#, r#""once""#]));
    panel.close().await;
}

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
        "Principal",
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
    panel.resize(400, 1500).await;
    panel.screenshot("narrow").await;
    panel.close().await;
}
