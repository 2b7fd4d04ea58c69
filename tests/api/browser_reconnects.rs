//! The panel while its stream ends, its instance is gone, or answers are lost, in a real browser.

use reqwest::StatusCode;
use serde_json::{Value, json};
use vx11_kit::Port;

use crate::support::{Instance, Panel, random_hex};

const ISSUED: &str = "vx11_operator_ephemeral_tokens_issued_total";

/// An address and a principal for an instance that is to come back. The port stays ours while
/// nothing listens on it.
fn place() -> (Port, String, String) {
    let port = Port::reserve();
    let address = format!("127.0.0.1:{}", port.number());
    (port, address, random_hex())
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
    // All attempts together are one line.
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
