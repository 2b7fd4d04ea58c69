//! A native `EventSource` with a single-use token, in a real browser.

use serde_json::json;
use vx11_kit::FaultProxy;

use crate::support::{Browser, Instance};

/// Opens the stream of a ticket, and keeps in the page what becomes of it.
const PAGE: &str = r#"
    const [principal] = args;
    const answer = await fetch("/operator/api/events/sse-token", {
        method: "POST",
        headers: { "X-VX11-Token": principal, "Content-Type": "application/json" },
        body: JSON.stringify({ single_use: true }),
    });
    const { stream_url } = await answer.json();
    globalThis.firstAt = 0;
    globalThis.opens = 0;
    globalThis.data = [];
    globalThis.source = new EventSource(stream_url);
    source.onopen = () => {
        firstAt ||= Date.now();
        opens += 1;
    };
    source.onmessage = (event) => {
        const data = JSON.parse(event.data);
        if (data.type !== "connected") globalThis.data.push(data);
    };
"#;

/// Resets every connection of the page; new ones pass.
fn cut(way: &FaultProxy) {
    way.refuse();
    way.pass();
}

#[tokio::test]
async fn an_event_source_with_a_ticket_comes_back_within_five_seconds_and_gives_up_later() {
    let retry = ("VX11_OPERATOR__STREAMS__RETRY_MILLISECONDS", "1000");
    let instance = Instance::with(&[retry]).await;
    let way = FaultProxy::start(instance.address().to_owned());
    let browser = Browser::start().await;
    browser.open(&format!("http://{}/health", way.address())).await;
    browser.run(PAGE, vec![json!(instance.principal)]).await;
    browser.until("opens === 1").await;
    instance.publish(json!(1)).await;
    browser.until("data.length === 1").await;
    cut(&way);
    instance.publish(json!(2)).await;
    browser.until("opens === 2 && data.length === 2").await;

    browser.until("Date.now() - firstAt > 5_000").await;
    cut(&way);
    browser.until("source.readyState === EventSource.CLOSED").await;
    assert_eq!(browser.value("[opens, data]").await, json!([2, [1, 2]]));
    instance.metric_becomes("vx11_operator_ephemeral_tokens_invalid_total{reason=\"used\"", 1).await;
    browser.close().await;
}
