//! The events panel in a real browser.

use reqwest::StatusCode;
use serde_json::{Value, json};
use vx11_kit::{EventStream, Port, remember_secret};

use crate::support::{Instance, Panel, random_hex};

const ISSUED: &str = "vx11_operator_ephemeral_tokens_issued_total";

/// A script that finds what WCAG 2.2 calls too faint.
const CONTRAST: &str = include_str!("support/contrast.js");

const BACKSPACE: &str = "\u{e003}";
const TAB: &str = "\u{e004}";
const SHIFT_TAB: &str = "\u{e008}\u{e004}\u{e008}";
const ENTER: &str = "\u{e007}";
const CONTROL: &str = "\u{e009}";
const ESCAPE: &str = "\u{e00c}";

/// An address and a principal for an instance that is to come back. The port stays ours while
/// nothing listens on it.
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
async fn planned_reconnects_share_a_line_that_does_not_look_like_an_incident() {
    let instance = Instance::with(&[("VX11_OPERATOR__STREAMS__MAX_AGE_SECONDS", "1")]).await;
    let panel = Panel::connected(&instance).await;
    let three = r"[...document.querySelectorAll('#history [data-kind=planned] .what')].some((line) =>
        /^Reconnected as planned (\d+) times since /.exec(line.textContent)?.[1] >= 3)";
    panel.until(three).await;
    panel.see_history("planned", "the stream reached its maximum age; ").await;
    assert_eq!(panel.history("reconnect").await, []);
    // At most the one that is going on, and all that are over.
    let planned = panel.history("planned").await;
    assert!(planned.len() <= 2, "{planned:?}");
    let looks = "(() => {
        const probe = (kind) => {
            const line = document.querySelector('#history').appendChild(document.createElement('li'));
            line.dataset.kind = kind;
            const { borderLeftColor } = getComputedStyle(line);
            line.remove();
            return borderLeftColor;
        };
        return probe('planned') === probe('connected') && probe('planned') !== probe('reconnect');
    })()";
    assert_eq!(panel.value(looks).await, json!(true));
    panel
        .until(r"/^\d{1,2} \w+ \d\d:\d\d:\d\d$/.test(document.querySelector('#history time').textContent)")
        .await;
    panel.close().await;
}

#[tokio::test]
async fn a_planned_reconnect_that_fails_is_an_incident() {
    let instance = Instance::with(&[("VX11_OPERATOR__STREAMS__MAX_AGE_SECONDS", "2")]).await;
    let panel = Panel::connected(&instance).await;
    // The instance goes while the browser waits to come back: it asks for no token.
    let lose = "const real = window.fetch;
        window.fetch = (address, request) =>
            String(address).endsWith('/sse-token') ? Promise.reject(new TypeError('network error')) : real(address, request);
        window.recover = () => { window.fetch = real; };";
    panel.run(lose, vec![]).await;
    panel.see_history("reconnect", "Reconnecting: the stream reached its maximum age").await;
    panel.run("window.recover()", vec![]).await;
    panel.see_history("reconnect", "Reconnected to instance 1 again in ").await;
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

#[tokio::test]
async fn a_panel_outlives_the_crash_of_its_instance() {
    let (_port, address, principal) = place();
    let instance = Instance::in_place_of(&address, &principal).await;
    let mut panel = Panel::connected(&instance).await;
    instance.publish(json!("before")).await;
    panel.see_event("before").await;
    instance.kill().await;
    panel.see_history("reconnect", "Reconnecting: the connection was cut").await;
    panel.see_text("#state[data-state=waiting]", "reconnecting").await;

    let instance = Instance::in_place_of(&address, &principal).await;
    panel.see_open().await;
    // The log of events ended with the process: nobody can say what was missed.
    panel.see_history("reset", "started again (epoch)").await;
    panel.see_text("#reconnects", "1").await;
    // However often it tried, it is one line.
    let [(what, why)] = panel.history("reconnect").await.try_into().unwrap();
    assert!(what.starts_with("Reconnected to instance 1 again in "), "{what}");
    assert_eq!(why, "the connection was cut; reset: the event log was lost and started again (epoch)");
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
    panel.see_history("reconnect", "Reconnecting: the instance is shutting down").await;
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

    panel.see_history("reconnect", "the token was revoked").await;
    instance.publish(json!("meanwhile")).await;
    panel.see_event("meanwhile").await;
    panel.see_text("#reconnects", "1").await;
    panel.see_open().await;
    instance.metric_becomes(ISSUED, 2).await;
    instance.publish(json!("after")).await;
    panel.see_event("after").await;
    let [(_, why)] = panel.history("reconnect").await.try_into().unwrap();
    assert!(why.contains("revoked; resumed after ") && why.ends_with(", nothing missed"), "{why}");
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
    panel.see_text("#publish-result", "It may have been published. Publish it again unchanged").await;
    let tried = keys(&mut panel).await;
    assert_eq!(tried, vec![tried[0].clone(); 5]);

    let _instance = Instance::in_place_of(&address, &principal).await;
    panel.see_open().await;
    panel.click("#publish[aria-disabled=false]").await;
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
    // Loses the first answer to publishing, as a network would: nothing else here can lose one when
    // it should.
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
