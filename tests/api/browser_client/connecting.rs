//! Connections of the browser client: tokens, failures, waits, and the end for good.

use super::on_the_bench;

#[tokio::test]
async fn the_client_resumes_with_a_fresh_token_after_the_last_event() {
    on_the_bench(
        r#"
        const events = start();
        await turn();
        equal(streams[0].asked, { token: "t1" });
        await streams[0].greet("e-0");
        equal(seen.resumed, []); // nothing was to be resumed
        await streams[0].send("order.paid", {}, "e-1");
        await streams[0].cut();
        equal([streams[0].signal.aborted, seen.causes], [true, ["cut"]]);
        equal(streams.length, 1); // and no other before the wait is over
        await elapse();
        equal(streams[1].asked, { token: "t2", last_event_id: "e-1" });
        await streams[1].greet("e-1", "2");
        equal(seen.resumed, ["e-1"]);
        await streams[1].send("message", { type: "connected" }, "e-2"); // data, whatever it looks like
        equal(seen.events, ["order.paid e-1", "message e-2"]);
        equal([events.state, events.instanceId, events.reconnects, events.lastEventId], ["open", "2", 1, "e-2"]);
        "#,
    )
    .await;
}

#[tokio::test]
async fn no_token_stands_in_an_address() {
    on_the_bench(
        r#"
        const addresses = [];
        const inner = fetch;
        globalThis.fetch = (url, request) => (addresses.push(String(url)), inner(url, request));
        start({ lastEventId: "e 7" });
        await turn();
        equal(addresses, [`${location.origin}/operator/api/events/stream?last_event_id=e+7`]);
        "#,
    )
    .await;
}

#[tokio::test]
async fn a_401_or_403_from_issuing_is_final_and_nothing_else_is() {
    on_the_bench(
        r#"
        for (const [status, final] of [[401, "unauthorized"], [403, "forbidden"]]) {
            for (const list of [issued, streams, seen.causes, seen.changes]) list.length = 0;
            answer = () => { throw new IssueError("busy", { status: 503, code: "draining", retryAfterMs: 7000 }); };
            const events = start({ minBackoffMs: 100 });
            await turn();
            equal([events.state, seen.causes], ["waiting", ["issue 503 draining"]]);
            assert(delays()[0] >= 7000 && delays()[0] <= 7100, `waits ${delays()}`);
            // Coming back online is no reason to ask sooner than the server allowed.
            dispatchEvent(new Event("online"));
            assert(delays()[0] >= 6000, `waits ${delays()}`);

            const refusal = new IssueError("who?", { status, code: "no_session" });
            answer = () => { throw refusal; };
            await elapse();
            equal([events.state, issued.length], [final, 2]);
            const last = seen.changes.at(-1);
            equal([last.state, last.cause, last.status, last.code], [final, "issue", status, "no_session"]);
            assert(last.error === refusal, `the error is ${last.error}`);
            events.reconnect();
            dispatchEvent(new Event("online"));
            await turn();
            equal([events.state, issued.length, timers.size, streams.length], [final, 2, 0, 0]);
        }
        "#,
    )
    .await;
}

#[tokio::test]
async fn a_403_of_the_stream_leads_to_a_new_token() {
    on_the_bench(
        r#"
        const events = start();
        await turn();
        const headers = { "Content-Type": "application/problem+json" };
        for (const status of [403, 401]) {
            await streams.at(-1).refuse(status, JSON.stringify({ code: "token_refused" }), headers);
            equal([events.state, seen.causes.splice(0)], ["waiting", [`refused ${status} token_refused`]]);
            await elapse();
        }
        equal(streams.map(({ asked }) => asked.token), ["t1", "t2", "t3"]);
        "#,
    )
    .await;
}

#[tokio::test]
async fn a_lost_session_is_reported_once_to_onunauthorized() {
    on_the_bench(
        r#"
        const lost = [];
        const onUnauthorized = ({ state, status, error }) => lost.push([state, status, error.message]);
        const events = startSilently({ onUnauthorized });
        await turn();
        await streams[0].greet("e-0");
        await streams[0].send("reconnect", { reason: "revoked", retry_ms: 1 });
        equal(lost, []);
        answer = () => { throw new IssueError("logged out", { status: 401 }); };
        await elapse();
        events.close();
        equal(lost, [["unauthorized", 401, "logged out"]]);

        answer = () => { throw new IssueError("not you", { status: 403 }); };
        startSilently({ onUnauthorized });
        await turn();
        equal(lost.length, 1); // to log in again would not help

        // A page that closes the stream as soon as it sees the state still learns of it.
        answer = () => { throw new IssueError("logged out", { status: 401 }); };
        const closing = start({ onUnauthorized, onState: ({ state }) => state === "unauthorized" && closing.close() });
        await turn();
        equal([closing.state, lost.length], ["closed", 2]);
        "#,
    )
    .await;
}

#[tokio::test]
async fn a_network_error_says_what_it_was() {
    on_the_bench(
        r#"
        const plans = [];
        start({ onReconnect: (plan) => plans.push(plan) });
        await turn();
        const failure = new TypeError("Failed to fetch");
        await streams[0].fail(failure);
        const waiting = seen.changes.at(-1);
        equal([plans[0].cause, waiting.state, waiting.cause], ["unreachable", "waiting", "unreachable"]);
        assert(plans[0].error === failure && waiting.error === failure, `the error is ${plans[0].error}`);

        const issuing = [];
        connect({ principal: "p", onReconnect: (plan) => issuing.push(plan) });
        const before = streams.length;
        await turn();
        await streams[before].fail(failure);
        const { cause, code, error } = issuing[0];
        equal([cause, code], ["issue", "network"]);
        assert(error instanceof IssueError && error.cause === failure, `the cause is ${error.cause}`);
        assert(error.message.includes("Failed to fetch"), error.message);
        "#,
    )
    .await;
}

#[tokio::test]
async fn an_answer_without_a_token_says_what_it_holds_instead() {
    on_the_bench(
        r#"
        const plans = [];
        start({ onReconnect: (plan) => plans.push(plan) });
        await turn();
        const shapes = [
            [{ token: "x", expires_in: 60 }, "token, expires_in"], [{ sse_token: 7 }, "number"], [{}, "an empty object"],
            [null, "null"], [undefined, "undefined"], ["", "an empty string"], ["a\nb", "a header cannot carry"],
        ];
        await streams[0].cut();
        for (const [shape, words] of shapes) {
            answer = () => shape;
            await elapse();
            const { cause, code, error } = plans.at(-1);
            equal([cause, code], ["issue", "no_token"]);
            assert(error.message.includes("sse_token"), error.message);
            assert(error.message.includes(words), `${words} is not in: ${error.message}`);
            equal(seen.changes.at(-1).error.message, error.message);
        }
        equal(streams.length, 1);
        "#,
    )
    .await;
}

#[tokio::test]
async fn the_client_stops_for_good_when_closed_in_any_state() {
    on_the_bench(
        r#"
        const stopped = async (events) => {
            const before = [issued.length, streams.length];
            events.close();
            events.reconnect();
            dispatchEvent(new Event("online"));
            await turn();
            equal([events.state, timers.size, ...before], ["closed", 0, issued.length, streams.length]);
            assert(streams.every(({ signal }) => signal.aborted), "a stream is left open");
        };
        await stopped(start());
        equal(issued.length, 0);

        let release;
        answer = () => new Promise((resolve) => (release = resolve));
        const issuing = start();
        await turn();
        await stopped(issuing);
        assert(issued[0].signal.aborted, "the request is not aborted");
        release("late");
        await turn();
        equal(streams.length, 0);

        answer = () => "t";
        const connecting = start();
        await turn();
        await stopped(connecting);

        const open = start();
        await turn();
        await streams.at(-1).greet("e-0");
        await stopped(open);

        const waiting = start();
        await turn();
        await streams.at(-1).greet("e-0");
        await streams.at(-1).cut();
        equal(waiting.state, "waiting");
        await stopped(waiting);

        const abort = new AbortController();
        const byOwner = start({ signal: abort.signal });
        await turn();
        abort.abort();
        await stopped(byOwner);
        "#,
    )
    .await;
}

#[tokio::test]
async fn a_client_closed_by_its_own_callback_delivers_nothing_more() {
    on_the_bench(
        r#"
        const events = start({ onEvent: ({ id }) => (seen.events.push(id), events.close()) });
        await turn();
        await streams[0].greet("e-0");
        await streams[0].write("id: e-1\ndata: 1\n\nid: e-2\ndata: 2\n\n");
        equal([seen.events, events.lastEventId, events.state], [["e-1"], "e-1", "closed"]);
        "#,
    )
    .await;
}

#[tokio::test]
async fn the_client_waits_as_long_as_the_server_asks() {
    on_the_bench(
        r#"
        start();
        await turn();
        await streams[0].greet("e-0");
        await streams[0].send("reconnect", { reason: "drain", retry_ms: 1234 });
        equal([seen.causes, delays(), streams[0].signal.aborted], [["drain by server"], [1234], true]);
        await elapse();
        equal(streams[1].asked, { token: "t2", last_event_id: "e-0" });
        "#,
    )
    .await;
}

#[tokio::test]
async fn whatever_ends_a_connection_has_a_cause() {
    on_the_bench(
        r#"
        const events = start();
        const happens = async (what, ...causes) => {
            if (events.state === "waiting") await elapse();
            await turn();
            await what(streams.at(-1));
            await turn();
            equal(seen.causes.splice(0), causes);
        };
        const opened = (then) => async (stream) => {
            await stream.greet("e-0");
            await then(stream);
        };
        await happens(opened((stream) => stream.cut()), "cut");
        await happens(opened((stream) => stream.end()), "cut");
        await happens((stream) => stream.cut(), "unreachable");
        await happens(opened(elapse), "silent");
        await happens(elapse, "silent"); // no answer
        await happens((stream) => stream.write(": no greeting\n\n").then(elapse), "silent");
        const headers = { "Content-Type": "application/problem+json", "Retry-After": "60" };
        await happens((stream) => stream.refuse(503, JSON.stringify({ code: "streams_full" }), headers),
            "refused 503 streams_full");
        assert(delays()[0] >= 60_000, `waits ${delays()}`);
        await happens((stream) => stream.refuse(429, JSON.stringify({ code: "too_many_streams" }), headers),
            "refused 429 too_many_streams");
        assert(delays()[0] >= 60_000, `waits ${delays()}`);
        await happens((stream) => stream.refuse(502, "<p>Bad Gateway"), "refused 502");
        await happens((stream) => stream.refuse(200, "<p>Sign in to this network"), "refused 200");
        await happens(opened(() => {
            dispatchEvent(new Event("offline"));
            dispatchEvent(new Event("online"));
        }), "offline");
        await happens(opened((stream) => stream.send("reconnect", {})), "server by server");

        seen.changes.length = 0;
        await happens(opened(() => events.reconnect()));
        equal(seen.changes.filter(({ cause }) => cause).map(({ state, cause }) => [state, cause]),
            [["issuing", "requested"]]);
        "#,
    )
    .await;
}

#[tokio::test]
async fn a_heartbeat_is_enough_to_keep_a_stream() {
    on_the_bench(
        r#"
        const events = start({ silenceMs: 123 });
        await turn();
        await streams[0].greet("e-0");
        const [first] = timers.keys();
        equal(delays(), [123]);
        await streams[0].write(": heartbeat\n\n");
        assert(!timers.has(first), "the wait goes on as if nothing had come");
        equal([delays(), events.state, seen.events], [[123], "open", []]);
        "#,
    )
    .await;
}

#[tokio::test]
async fn the_client_backs_off_ever_longer_and_starts_over_once_connected() {
    on_the_bench(
        r#"
        Math.random = () => 1;
        const events = start({ minBackoffMs: 500, maxBackoffMs: 3000 });
        await turn();
        const waits = [];
        for (let n = 0; n < 5; n += 1) {
            await streams.at(-1).cut();
            waits.push(...delays());
            await elapse();
        }
        equal(waits, [500, 1000, 2000, 3000, 3000]);
        equal(new Set(streams.map(({ asked }) => asked.token)).size, 6); // never a token twice
        await streams.at(-1).greet("e-0");
        equal(events.attempt, 0);
        await streams.at(-1).cut();
        equal(delays(), [500]);
        "#,
    )
    .await;
}
