//! The list of events in the panel, publishing, and signing in, in a real browser.

use reqwest::StatusCode;
use serde_json::{Value, json};
use vx11_kit::{EventStream, remember_secret};

use crate::support::{Instance, Panel};

const ISSUED: &str = "vx11_operator_ephemeral_tokens_issued_total";

const BACKSPACE: &str = "\u{e003}";
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";

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

/// Publishes data as it is written here, to the digit and to the blank.
async fn publish_text(instance: &Instance, data: &str) -> String {
    let request = instance.post_as_principal("/operator/api/events");
    let request = request.header("Content-Type", "application/json").body(format!(r#"{{"data":{data}}}"#));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    answer.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
}

/// The data of the next event of a stream.
async fn next_data(stream: &mut EventStream) -> String {
    stream.next().await.expect("the stream is open").data
}

/// Numbers that a parser would write differently, a duplicate key, escapes for other characters.
const EXACT: &str = r#"{"id": 12345678901234567890, "n": [1.10, 1e2, -0], "a": 1, "a": 2, "s": "\u0041\/"}"#;

#[tokio::test]
async fn what_is_typed_is_published_and_what_arrived_is_shown_character_by_character() {
    let instance = Instance::start().await;
    let panel = Panel::connected(&instance).await;
    let mut stream = instance.open_stream(&instance.issue().await.token).await;
    panel.fill("#publish-data", EXACT).await;
    panel.click("#publish").await;
    assert_eq!(next_data(&mut stream).await, EXACT);
    panel.see_event("12345678901234567890").await;
    assert_eq!(panel.events().await, json!([EXACT]));

    let on_two_lines = EXACT.replacen(' ', "\n", 1);
    panel.fill("#publish-data", &on_two_lines).await;
    panel.see_text("#publish-result", "Published as ").await;
    panel.click("#publish").await;
    assert_eq!(next_data(&mut stream).await, on_two_lines);
    panel.close().await;
}

#[tokio::test]
async fn long_data_is_indented_without_a_change_to_any_of_its_parts() {
    let instance = Instance::start().await;
    let panel = Panel::connected(&instance).await;
    let note = "a {note}, [with] \\\" signs: ".repeat(4);
    publish_text(&instance, &format!(r#"{{"exact":{EXACT},"none":[ ],"empty":{{}},"note":"{note}"}}"#)).await;
    panel.see_event("exact").await;
    let shown = format!(
        r#"{{
  "exact": {{
    "id": 12345678901234567890,
    "n": [
      1.10,
      1e2,
      -0
    ],
    "a": 1,
    "a": 2,
    "s": "\u0041\/"
  }},
  "none": [],
  "empty": {{}},
  "note": "{note}"
}}"#
    );
    assert_eq!(panel.events().await, json!([shown]));
    panel.close().await;
}

#[tokio::test]
async fn show_all_shows_all_and_data_and_id_can_be_copied() {
    let instance = Instance::start().await;
    let panel = Panel::connected(&instance).await;
    let data = format!(r#"{{"n":1.10,"text":"{}the end"}}"#, "0123456789".repeat(6_000));
    let id = publish_text(&instance, &data).await;
    panel.click("#events .event-more").await;
    panel.see_event("the end\"\n}").await;
    let [shown] = serde_json::from_value::<[String; 1]>(panel.events().await).unwrap();
    assert_eq!(
        shown,
        data.replace("{\"", "{\n  \"").replace("\":", "\": ").replace(",\"", ",\n  \"").replace('}', "\n}")
    );

    panel.allow_clipboard().await;
    let listen = "window.copied = 0;
        const announced = document.querySelector('#announce');
        new MutationObserver(() => { window.copied += announced.textContent === 'Copied'; })
            .observe(announced, { childList: true });";
    panel.run(listen, vec![]).await;
    panel.click("#events .event-copy").await;
    panel.until("copied === 1").await;
    assert_eq!(panel.clipboard().await, data);
    panel.click("#events .event-id").await;
    panel.until("copied === 2").await;
    assert_eq!(panel.clipboard().await, id);
    // As it is where a page comes neither over TLS nor from the same machine.
    let without = "Object.defineProperty(navigator, 'clipboard', { value: undefined, configurable: true })";
    panel.run(without, vec![]).await;
    panel.click("#events .event-copy").await;
    panel.until("copied === 3").await;
    panel.run("delete navigator.clipboard", vec![]).await;
    assert_eq!(panel.clipboard().await, data);
    panel.close().await;
}

#[tokio::test]
async fn characters_that_hide_or_reorder_others_are_shown_escaped_and_marked() {
    let instance = Instance::start().await;
    let panel = Panel::connected(&instance).await;
    let hidden = "\u{202e}\u{2066}\u{61c}\u{200f}\u{2028}\u{7f}\u{9b}";
    let escaped = r"\u202e\u2066\u061c\u200f\u2028\u007f\u009b";
    let id = publish_text(&instance, &format!(r#"{{"t":"{hidden} evil"}}"#)).await;
    panel.see_event("evil").await;
    assert_eq!(panel.events().await, json!([format!(r#"{{"t":"{escaped} evil"}}"#)]));
    let marks = "document.querySelectorAll('#events .escaped').length";
    assert_eq!(panel.value(marks).await, json!(7));
    panel.fill("#filter", r"\U202E\u2066").await;
    panel.see(&format!("#events li[data-id='{id}']")).await;
    panel.press(&BACKSPACE.repeat(r"\u202e\u2066".len())).await;
    // The same escape in the data itself has no mark.
    publish_text(&instance, r#""\u202e live""#).await;
    panel.see_event("live").await;
    assert_eq!(panel.value(marks).await, json!(7));

    // No service sends such a type or id.
    let list = "const { EventList } = await import('/panel/panel-events.js');
        new EventList().add({ type: `t${args[0]}`, id: `i${args[0]}`, data: `no JSON:\\n${args[0]}` });";
    panel.run(list, vec![json!(hidden)]).await;
    panel.see_text("#events .event-type", &format!("t{escaped}")).await;
    panel.see_text("#events .event-id", &format!("i{escaped}")).await;
    panel.see_event(&format!("no JSON:\n{escaped}")).await;
    panel.close().await;
}

#[tokio::test]
async fn the_filter_finds_data_as_it_came_and_as_it_is_shown_and_says_how_many_match() {
    let instance = Instance::start().await;
    let panel = Panel::connected(&instance).await;
    publish_text(&instance, &format!(r#"{{"amount":1.10,"note":"{}"}}"#, "x".repeat(100))).await;
    panel.see_event("amount").await;
    for needle in [r#""amount": 1.10"#, r#""amount":1.10"#] {
        panel.fill("#filter", needle).await;
        panel.see_text("#events-count", "1 match · 1 shown · 1 kept").await;
    }
    panel.fill("#filter", "many").await;
    let many = "const { EventList } = await import('/panel/panel-events.js');
        const list = new EventList();
        document.getElementById('filter').dispatchEvent(new Event('input'));
        for (let n = 0; n < 403; n += 1) list.add({ type: n % 2 ? 'many' : 'other', id: String(n), data: String(n) });";
    panel.run(many, vec![]).await;
    panel.see_text("#events-count", "201 match · 200 shown · 403 kept").await;
    panel.close().await;
}

#[tokio::test]
async fn the_focus_stays_where_an_event_was_published_from() {
    let instance = Instance::start().await;
    let panel = Panel::connected(&instance).await;
    panel.see("#publish").await.send_keys(ENTER).await.unwrap();
    panel.see_text("#publish-result", "Published as ").await;
    assert_eq!(panel.focus().await, "publish");
    panel.see("#publish[aria-disabled=false]").await;
    panel.press(ENTER).await;
    panel.until("document.querySelectorAll('#events li').length === 2").await;
    panel.close().await;
}

#[tokio::test]
async fn a_cleared_list_can_be_brought_back() {
    let instance = Instance::start().await;
    let panel = Panel::connected(&instance).await;
    instance.publish(json!("one")).await;
    panel.see_event("one").await;
    panel.click("#pause").await;
    instance.publish(json!("two")).await;
    panel.see_text("#pause", "1 new").await;
    panel.press("cc").await;
    assert_eq!(panel.events().await, json!([]));
    panel.click("#pause").await;
    instance.publish(json!("three")).await;
    panel.see_event("three").await;

    panel.click("#undo-clear:not([hidden])").await;
    assert_eq!(panel.events().await, json!([r#""three""#, r#""two""#, r#""one""#]));
    panel.see("#undo-clear[hidden]").await;
    assert_eq!(panel.focus().await, "clear");
    panel.close().await;
}

#[tokio::test]
async fn the_arrow_keys_go_from_event_to_event_and_the_tab_key_to_the_buttons_of_one() {
    const DOWN: &str = "\u{e015}";
    const UP: &str = "\u{e013}";
    let instance = Instance::start().await;
    let panel = Panel::connected(&instance).await;
    for data in ["one", "two", "three"] {
        instance.publish(json!(data)).await;
        panel.see_event(data).await;
    }
    panel.see(".events .scroller").await.send_keys(DOWN).await.unwrap();
    panel.press(&format!("{DOWN}{DOWN}{UP}")).await;
    let focused = "document.activeElement.closest('.event')?.querySelector('.event-data').textContent";
    assert_eq!(panel.value(focused).await, json!(r#""two""#));
    let name = "document.activeElement.className";
    for expected in ["event-id", "event-copy small"] {
        panel.press(TAB).await;
        assert_eq!(panel.value(focused).await, json!(r#""two""#));
        assert_eq!(panel.value(name).await, json!(expected));
    }
    panel.press(TAB).await;
    assert_eq!(panel.focus().await, "publish-type");
    panel.close().await;
}

#[tokio::test]
async fn what_the_service_refuses_is_said_in_whole_sentences() {
    let instance = Instance::start().await;
    let panel = Panel::connected(&instance).await;
    panel.publish("reset", &json!(1)).await;
    panel.see_text("#publish-result", "Not published. The event types reset, ").await;
    panel.see_text("#publish-result", " are reserved. (").await;
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
async fn a_principal_that_may_no_longer_issue_is_signed_out() {
    // Answers to issuing as a proxy does that refuses a user: no instance answers 403 there.
    const FORBID_ISSUING: &str = "
        const real = window.fetch;
        window.fetch = async (address, request) =>
            String(address).endsWith('/sse-token') ? new Response('', { status: 403 }) : real(address, request);";
    let instance = Instance::with(&[("VX11_OPERATOR__DRAIN__WINDOW_SECONDS", "1")]).await;
    let panel = Panel::connected(&instance).await;
    panel.run(FORBID_ISSUING, vec![]).await;
    instance.terminate();
    panel.see_text("#signin-error", "no longer accepts this credential").await;
    panel.close().await;
}
