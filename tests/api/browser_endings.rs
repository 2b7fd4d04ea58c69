//! Streams that the service ends because of their token, and what becomes of the browser client, in
//! a real browser.

use serde_json::{Value, json};

use crate::support::{Browser, Instance};

/// Opens streams of `ada` with the client, and keeps states and causes of each in `seen`.
/// The page has the credential, so that no backend is needed.
const PAGE: &str = r#"
    const { IssueError, connect } = await import("/client/vx11-events.js");
    const [principal] = args;
    const ask = (path, body) => fetch(path, {
        method: "POST",
        headers: { "X-VX11-Token": principal, "Content-Type": "application/json" },
        body: JSON.stringify(body),
    });
    const order = async (path, body) => {
        const answer = await ask(path, body);
        if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
        return answer.json();
    };
    const until = async (condition) => {
        while (!condition()) await new Promise((resolve) => setTimeout(resolve, 10));
    };
    let fields = { subject: "ada" };
    let issued = 0;
    const issueToken = async () => {
        issued += 1;
        const answer = await ask("/operator/api/events/sse-token", fields);
        if (!answer.ok) throw new IssueError("no token", { status: answer.status });
        return answer.json();
    };
    const open = (options = {}) => {
        const seen = { states: [], causes: [], resumed: 0, resets: 0, data: [] };
        const events = connect({
            issueToken,
            onState: ({ state, cause }) => {
                seen.states.push(state);
                if (cause) seen.causes.push(cause);
            },
            onEvent: ({ data }) => seen.data.push(data),
            onResume: () => (seen.resumed += 1),
            onReset: () => (seen.resets += 1),
            ...options,
        });
        return { events, seen };
    };
"#;

async fn in_a_page(environment: &[(&str, &str)], test: &str) -> Value {
    let instance = Instance::with(environment).await;
    let browser = Browser::start().await;
    // Any page of the service will do that does not run the client itself.
    browser.open(&format!("{}/health", instance.base)).await;
    let found = browser.run(&format!("{PAGE}\n{test}"), vec![json!(instance.principal)]).await;
    browser.close().await;
    found
}

#[tokio::test]
async fn a_session_that_ends_ends_the_stream_and_the_client_for_good() {
    let found = in_a_page(
        &[],
        r#"
        fields = { subject: "ada", stream_until: new Date(Date.now() + 2_000).toISOString() };
        let lost = 0;
        const issue = async (request) => {
            if (issued > 0) throw new IssueError("logged out", { status: 401 });
            return issueToken(request);
        };
        const { events, seen } = open({ issueToken: issue, onUnauthorized: () => (lost += 1) });
        await until(() => events.state === "unauthorized");
        return [seen.states.includes("open"), seen.causes, lost, issued];
        "#,
    )
    .await;
    assert_eq!(found, json!([true, ["grant_ended", "issue"], 1, 1]));
}

#[tokio::test]
async fn a_session_that_was_prolonged_goes_on_and_misses_nothing() {
    let found = in_a_page(
        &[("VX11_OPERATOR__STREAMS__RETRY_MILLISECONDS", "1")],
        r#"
        fields = { subject: "ada", stream_until: new Date(Date.now() + 2_000).toISOString() };
        const { events, seen } = open();
        await until(() => events.state === "open");
        fields = { subject: "ada" };
        await until(() => seen.states.includes("waiting"));
        await order("/operator/api/events", { data: 1 });
        await until(() => seen.data.length === 1);
        events.close();
        return [seen.causes, seen.data, seen.resumed, seen.resets];
        "#,
    )
    .await;
    assert_eq!(found, json!([["grant_ended"], ["1"], 1, 0]));
}

#[tokio::test]
async fn a_stream_that_was_ended_is_opened_again_with_a_new_token() {
    let found = in_a_page(
        &[("VX11_OPERATOR__STREAMS__RETRY_MILLISECONDS", "1")],
        r#"
        const { events, seen } = open();
        await until(() => events.state === "open");
        const { ended, effective } = await order("/operator/api/streams/end", { subject: "ada" });
        await until(() => events.reconnects === 1);
        await order("/operator/api/subjects/revoke", { subject: "ada" });
        await until(() => events.reconnects === 2);
        events.close();
        return [ended, effective, seen.causes, issued, seen.resumed, seen.resets];
        "#,
    )
    .await;
    assert_eq!(found, json!([1, "cluster", ["ended", "revoked"], 3, 2, 0]));
}

#[tokio::test]
async fn a_blocked_subject_gets_no_token_and_the_client_stops() {
    let found = in_a_page(
        &[],
        r#"
        const { events, seen } = open();
        await until(() => events.state === "open");
        await order("/operator/api/subjects/block", { subject: "ada", seconds: 60 });
        await until(() => events.state === "forbidden");
        return [seen.causes, issued];
        "#,
    )
    .await;
    assert_eq!(found, json!([["blocked", "issue"], 2]));
}

#[tokio::test]
async fn of_two_pages_that_may_have_one_stream_the_newer_keeps_it() {
    let found = in_a_page(
        &[
            ("VX11_OPERATOR__STREAMS__PER_SUBJECT", "1"),
            ("VX11_OPERATOR__STREAMS__PER_SUBJECT_POLICY", "replace_oldest"),
        ],
        r#"
        const first = open();
        await until(() => first.events.state === "open");
        const second = open();
        await until(() => second.events.state === "open" && first.events.state === "replaced");
        first.events.reconnect();
        await order("/operator/api/events", { data: 1 });
        await until(() => second.seen.data.length === 1);
        const found = [first.events.state, first.seen.causes, first.seen.data, second.events.reconnects, issued];
        second.events.close();
        return found;
        "#,
    )
    .await;
    assert_eq!(found, json!(["replaced", ["replaced"], [], 0, 2]));
}

#[tokio::test]
async fn a_request_that_the_service_does_not_understand_ends_the_client() {
    let found = in_a_page(
        &[],
        r#"
        const { events, seen } = open({ topics: ["orders*"] });
        await until(() => events.state === "invalid");
        return [seen.causes, issued];
        "#,
    )
    .await;
    assert_eq!(found, json!([["refused"], 1]));
}
