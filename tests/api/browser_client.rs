//! The rules by which the browser client reads a stream and reconnects, in a real browser, on a
//! bench without time.

use crate::support::{Browser, Instance};

/// Runs a JavaScript function body on the bench, in a separate page.
async fn on_the_bench(test: &str) {
    let instance = Instance::start().await;
    let browser = Browser::start().await;
    // Any page of the service will do that does not run the client itself.
    browser.open(&format!("{}/health", instance.base)).await;
    let bench = include_str!("support/client_bench.js");
    browser.run(&format!("{bench}\n{test}"), Vec::new()).await;
    browser.close().await;
}

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
async fn without_a_callback_each_cause_is_printed_once_until_a_stream_opens() {
    on_the_bench(
        r#"
        const events = startSilently({ baseUrl: "http://elsewhere.test:8001/sse" });
        await turn();
        await streams.at(-1).cut();
        const unreachable = ["http://elsewhere.test:8001/sse/operator/api/events/stream", "TypeError: network error",
            `pages of ${location.origin}`];
        oneLine(...unreachable);
        const again = async (what) => {
            await elapse();
            await what();
        };
        await again(() => streams.at(-1).cut());
        equal(newLines(), []);

        const problem = { "Content-Type": "application/problem+json" };
        const full = JSON.stringify({ code: "streams_full", detail: "no room for a stream" });
        await again(() => streams.at(-1).refuse(503, full, problem));
        oneLine("503", "streams_full", "no room for a stream");
        const many = JSON.stringify({ code: "too_many_streams", detail: "this token has too many" });
        await again(() => streams.at(-1).refuse(429, many, problem));
        oneLine("429", "too_many_streams", "this token has too many");
        await again(() => streams.at(-1).refuse(404, "Not Found"));
        oneLine("404");
        await again(() => streams.at(-1).refuse(200, "<p>Sign in", { "Content-Type": "text/html" }));
        oneLine("200", "text/html");
        await again(() => streams.at(-1).refuse(404, "Not Found"));
        await again(() => streams.at(-1).refuse(503, full, problem));
        await again(() => streams.at(-1).refuse(200, "<p>Sign in", { "Content-Type": "text/html" }));
        await again(() => streams.at(-1).cut());
        equal(newLines(), []);

        await again(elapse); // no answer
        oneLine("no answer", "15000 ms");
        answer = () => { throw new ReferenceError("IssueError is not defined"); };
        await again(turn);
        oneLine("issueToken", "ReferenceError: IssueError is not defined");
        answer = () => { throw Object.assign(new Error("the database is away"), { status: 500 }); };
        await again(turn);
        oneLine("issueToken", "500", "the database is away");
        answer = () => ({ token: "x" });
        await again(turn);
        oneLine("sse_token", "token");
        answer = () => new Promise(() => {});
        await again(elapse);
        oneLine("issueToken", "no token within the time allowed");
        await elapse();
        await elapse();
        equal(newLines(), []);

        // Once a stream has opened, the same cause is news.
        answer = () => `t${issued.length}`;
        await elapse();
        await streams.at(-1).greet("e-0");
        await streams.at(-1).cut();
        oneLine("cut");
        await again(() => streams.at(-1).cut());
        oneLine(...unreachable);
        events.close();
        equal(newLines(), []);
        "#,
    )
    .await;
}

#[tokio::test]
async fn without_a_callback_a_final_refusal_is_printed() {
    on_the_bench(
        r#"
        answer = () => { throw new IssueError("log in first", { status: 401 }); };
        startSilently();
        await turn();
        oneLine("401", "log in first", "onUnauthorized");
        startSilently({ onUnauthorized: () => {} });
        await turn();
        equal(newLines(), []);
        answer = () => { throw new IssueError("only for members", { status: 403 }); };
        startSilently({ onUnauthorized: () => {} });
        await turn();
        oneLine("403", "only for members");
        "#,
    )
    .await;
}

#[tokio::test]
async fn what_a_callback_reports_is_not_printed() {
    on_the_bench(
        r#"
        const everything = async (options) => {
            answer = () => `t${issued.length}`;
            startSilently(options);
            await turn();
            await streams.at(-1).cut();
            await elapse();
            await streams.at(-1).refuse(404, "Not Found");
            await elapse();
            await streams.at(-1).greet("e-0");
            await streams.at(-1).cut();
            answer = () => ({});
            await elapse();
            answer = () => { throw new IssueError("who?", { status: 401 }); };
            await elapse();
            answer = () => { throw new IssueError("not you", { status: 403 }); };
            startSilently(options);
            await turn();
            return newLines().length;
        };
        equal(await everything({}), 6);
        equal(await everything({ onState: () => {} }), 0);
        equal(await everything({ onReconnect: () => {} }), 2); // it reports no final state
        equal(await everything({ onReconnect: () => {}, onUnauthorized: () => {} }), 1);
        "#,
    )
    .await;
}

#[tokio::test]
async fn nothing_is_printed_where_nothing_is_wrong() {
    on_the_bench(
        r#"
        const events = startSilently();
        await turn();
        await streams[0].greet("e-0");
        for (const reason of ["drain", "max_age", "slow", "revoked"]) {
            await streams.at(-1).send("reconnect", { reason, retry_ms: 1 });
            await elapse();
            await streams.at(-1).greet("e-0");
        }
        events.reconnect();
        await turn();
        await streams.at(-1).greet("e-0");
        events.close();
        equal(newLines(), []);
        "#,
    )
    .await;
}

#[tokio::test]
async fn a_server_that_accepts_and_cuts_again_and_again_does_not_flood_the_console() {
    on_the_bench(
        r#"
        startSilently();
        await turn();
        for (let n = 0; n < 10; n += 1) {
            await streams.at(-1).greet("e-0");
            await streams.at(-1).cut();
            await elapse();
        }
        assert(newLines().length <= 2, "a line for each of ten cuts");
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
async fn no_token_and_no_principal_is_in_a_line_on_the_console() {
    on_the_bench(
        r#"
        const uuid = "018f3a5c-77aa-7b21-8c44-5d2f00aa91ce";
        const hex = "0123456789abcdef0123456789abcdef";
        const errors = [
            new Error(`the answer was {"sse_token":"${uuid}"}`),
            Object.assign(new Error("refused"), { status: 500, code: uuid }),
            new TypeError(`${uuid}\u00e9 is an invalid header value.`),
            new Error(`no answer to X-VX11-Token: ${hex}`),
            // As a browser quotes what is no JSON.
            (() => { try { JSON.parse("018f3a5c-short"); } catch (error) { return error; } })(),
            uuid,
        ];
        startSilently();
        await turn();
        await streams[0].cut();
        for (const error of errors) {
            answer = () => { throw error; };
            await elapse();
        }
        for (const shape of [`${uuid}\n`, { [uuid]: 1 }]) {
            answer = () => shape;
            await elapse();
        }
        answer = () => uuid;
        await elapse();
        await streams.at(-1).refuse(403, JSON.stringify({ detail: `${uuid} has expired` }));

        const principal = "correct-horse-battery-staple";
        connect({ principal });
        const before = streams.length;
        await turn();
        await streams[before].refuse(401, JSON.stringify({ detail: `${principal} is unknown` }));
        const lines = newLines();
        assert(lines.length >= 8, `${lines.length} lines`);
        for (const secret of [uuid, "018f3a5c", hex, principal]) {
            const quoted = lines.filter((line) => line.includes(secret));
            equal(quoted, []);
        }
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
async fn the_client_tells_of_a_gap_and_goes_on_behind_it() {
    on_the_bench(
        r#"
        const events = start({ lastEventId: "old-7" });
        await turn();
        equal(streams[0].asked, { token: "t1", last_event_id: "old-7" });
        await streams[0].greet("");
        equal([seen.resumed, events.lastEventId], [[], "old-7"]);
        await streams[0].send("reset", { reason: "epoch" }, "new-0");
        equal([seen.resets, seen.events, events.lastEventId], [["epoch: after old-7 comes new-0"], [], "new-0"]);
        // In the middle of a stream, which stays open.
        await streams[0].send("message", 1, "new-1");
        await streams[0].send("reset", { reason: "epoch" }, "newer-0");
        await streams[0].send("message", 2, "newer-1");
        equal(seen.resets.at(-1), "epoch: after new-1 comes newer-0");
        equal([seen.events, seen.causes], [["message new-1", "message newer-1"], []]);
        await streams[0].cut();
        await elapse();
        equal(streams[1].asked.last_event_id, "newer-1");
        equal(seen.resumed, []);
        "#,
    )
    .await;
}

#[tokio::test]
async fn a_stream_that_cannot_say_at_once_whether_it_resumes_says_so_with_what_comes_next() {
    on_the_bench(
        r#"
        const events = start({ lastEventId: "e-7" });
        await turn();
        await streams[0].greet("");
        await streams[0].send("degraded", { reason: "log_unavailable" });
        await streams[0].send("recovered", {});
        equal([seen.resumed, events.state], [[], "open"]);
        await streams[0].send("message", 8, "e-8");
        await streams[0].send("message", 9, "e-9");
        equal([seen.resumed, seen.events], [["e-7"], ["message e-8", "message e-9"]]);
        // Cut before it could say: the next one is asked the same.
        await streams[0].cut();
        await elapse();
        await streams[1].greet("");
        await streams[1].cut();
        await elapse();
        equal(streams[2].asked.last_event_id, "e-9");
        await streams[2].greet("e-9");
        equal([seen.resumed, seen.resets], [["e-7", "e-9"], []]);
        "#,
    )
    .await;
}

#[tokio::test]
async fn a_stream_without_its_log_stays_open_and_says_so() {
    on_the_bench(
        r#"
        const events = start();
        await turn();
        await streams[0].greet("e-0");
        equal(events.degraded, "");
        await streams[0].send("degraded", { reason: "log_unavailable" });
        equal([events.degraded, events.state, events.lastEventId], ["log_unavailable", "open", "e-0"]);
        await streams[0].send("recovered", {});
        equal([events.degraded, seen.degraded.splice(0)], ["", ["log_unavailable", "recovered"]]);

        // The state of the log ends with the stream.
        await streams[0].send("degraded", { reason: "log_unavailable" });
        await streams[0].cut();
        equal([events.degraded, seen.degraded.splice(0)], ["", ["log_unavailable"]]);
        await elapse();
        await streams[1].greet("e-0", "2");
        await streams[1].send("degraded", { reason: "log_unavailable" });
        equal([events.degraded, seen.degraded, seen.events], ["log_unavailable", ["log_unavailable"], []]);
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

#[tokio::test]
async fn events_of_every_type_arrive_and_the_services_own_are_none() {
    on_the_bench(
        r#"
        const events = start();
        await turn();
        await streams[0].greet("e-0");
        for (const type of ["message", "order.paid", "error", "open"]) await streams[0].send(type, {}, type);
        for (const type of ["degraded", "recovered", "reset", "reconnect"]) await streams[0].send(type, {});
        equal(seen.events, ["message message", "order.paid order.paid", "error error", "open open"]);
        "#,
    )
    .await;
}

#[tokio::test]
async fn frames_are_read_alike_however_they_are_cut() {
    on_the_bench(
        r#"
        const text = "\uFEFF: a comment\nretry: 5\nid: e-1\ndata: one\ndata:two\r\ndata\rdata:  \u{1F600}\n\n"
            + "id: e-2\nid: ignored\0\n\nevent: x\n\nevent: order.paid\rdata: 3\r\rdata:4\n\r\nid\ndata:5\n\n"
            + "data: unfinished";
        const bytes = new TextEncoder().encode(text);
        const whole = [
            ["message", "one\ntwo\n\n \u{1F600}", "e-1"],
            ["order.paid", "3", "e-2"],
            ["message", "4", "e-2"],
            ["message", "5", ""],
        ];
        for (const size of [bytes.length, 1, 2, 3, 7]) {
            const read = [];
            const events = start({ onEvent: ({ type, data, id }) => read.push([type, data, id]) });
            await turn();
            for (let at = 0; at < bytes.length; at += size) await streams.at(-1).write(bytes.slice(at, at + size));
            equal(read, whole);
            events.close();
            await turn();
        }
        "#,
    )
    .await;
}

#[tokio::test]
async fn an_event_has_the_topic_of_its_frame_and_default_without_one() {
    on_the_bench(
        r#"
        const read = [];
        const events = start({ onEvent: ({ topic, id, data }) => read.push([topic, id, data]) });
        await turn();
        await streams[0].greet("e-0");
        await streams[0].write("id: e-1\ntopic: orders/17\ndata: 1\n\nid: e-2\ndata: 2\ntopic: a\n\n");
        await streams[0].write("id: e-3\ntopic: b\n\nid: e-4\ndata: 4\n\ntopic\ndata: 5\n\n");
        equal(read, [["orders/17", "e-1", "1"], ["a", "e-2", "2"], ["default", "e-4", "4"], ["default", "e-4", "5"]]);
        "#,
    )
    .await;
}

#[tokio::test]
async fn the_id_of_a_heartbeat_is_the_position_and_dispatches_nothing() {
    on_the_bench(
        r#"
        const events = start();
        await turn();
        await streams[0].greet("e-0");
        await streams[0].send("message", 1, "e-1");
        await streams[0].write(": heartbeat\nid: e-7\n\n");
        equal([events.lastEventId, events.state, seen.events], ["e-7", "open", ["message e-1"]]);
        await streams[0].write(": heartbeat\n\n");
        await streams[0].cut();
        await elapse();
        equal(streams[1].asked, { token: "t2", last_event_id: "e-7" });
        await streams[1].greet("e-7");
        equal([seen.resumed, seen.resets], [["e-7"], []]);

        // An empty id takes the last one back.
        await streams[1].write(": heartbeat\nid:\n\n");
        equal([events.lastEventId, seen.events], ["", ["message e-1"]]);
        await streams[1].cut();
        await elapse();
        equal(streams[2].asked, { token: "t3" });
        "#,
    )
    .await;
}

#[tokio::test]
async fn a_quiet_stream_shows_with_its_heartbeat_that_it_resumed() {
    on_the_bench(
        r#"
        const events = start({ lastEventId: "e-7" });
        await turn();
        await streams[0].greet("");
        await streams[0].write(": heartbeat\n\n");
        equal(seen.resumed, []);
        await streams[0].write(": heartbeat\nid: e-9\n\n");
        await streams[0].write(": heartbeat\nid: e-10\n\n");
        equal([seen.resumed, seen.resets, events.lastEventId], [["e-7"], [], "e-10"]);
        "#,
    )
    .await;
}

#[tokio::test]
async fn topics_narrow_the_stream_and_are_part_of_its_address() {
    on_the_bench(
        r#"
        const events = start({ topics: ["orders/*", "a%2Fb"] });
        await turn();
        equal([streams[0].topics, streams[0].asked.token], [["orders/*", "a%2Fb"], "t1"]);
        await streams[0].greet("e-0");
        await streams[0].cut();
        await elapse();
        equal([streams[1].topics, streams[1].asked.last_event_id], [["orders/*", "a%2Fb"], "e-0"]);
        "#,
    )
    .await;
}

#[tokio::test]
async fn with_a_principal_tokens_are_issued_for_the_topics_and_without_topics_the_request_is_as_before() {
    on_the_bench(
        r#"
        for (const [options, sent] of [[{ topics: ["orders/*"] }, '{"topics":["orders/*"]}'], [{}, undefined]]) {
            const before = streams.length;
            const events = connect({ principal: "p", ...options });
            await turn();
            equal(streams[before].sent, sent);
            await streams[before].refuse(200, JSON.stringify({ sse_token: "t.grant" }));
            equal([streams[before + 1].asked.token, streams[before + 1].topics], ["t.grant", options.topics ?? []]);
            events.close();
            await turn();
        }
        "#,
    )
    .await;
}

#[tokio::test]
async fn a_stream_begins_with_what_the_log_has_until_there_is_a_position() {
    on_the_bench(
        r#"
        start({ from: "-10" });
        await turn();
        equal(streams[0].asked, { token: "t1", from: "-10" });
        await streams[0].greet("");
        await streams[0].cut();
        await elapse();
        equal(streams[1].asked, { token: "t2", from: "-10" });
        await streams[1].send("message", 1, "e-1");
        await streams[1].cut();
        await elapse();
        equal(streams[2].asked, { token: "t3", last_event_id: "e-1" });
        start({ from: "start", lastEventId: "e-7" });
        await turn();
        equal(streams[3].asked, { token: "t4", last_event_id: "e-7" });
        "#,
    )
    .await;
}

#[tokio::test]
async fn topics_that_the_token_does_not_grant_close_the_stream_for_good_and_the_reason_is_shown() {
    on_the_bench(
        r#"
        const problem = JSON.stringify({ code: "not_permitted", detail: "the token does not grant users/7" });
        const refuse = (stream) => stream.refuse(403, problem, { "Content-Type": "application/problem+json" });
        const events = start({ topics: ["users/7"] });
        await turn();
        await refuse(streams[0]);
        const { state, cause, status, code, error } = seen.changes.at(-1);
        equal([state, cause, status, code], ["forbidden", "refused", 403, "not_permitted"]);
        equal([error.message, seen.causes], ["the token does not grant users/7", []]);
        events.reconnect();
        dispatchEvent(new Event("online"));
        await turn();
        equal([events.state, timers.size, streams.length], ["forbidden", 0, 1]);

        startSilently({ topics: ["users/7"] });
        await turn();
        await refuse(streams[1]);
        oneLine("403", "not_permitted", "the token does not grant users/7", "closed for good");
        "#,
    )
    .await;
}

#[tokio::test]
async fn topics_and_a_beginning_of_a_wrong_form_are_refused_at_once() {
    on_the_bench(
        r#"
        const refused = (options) => {
            try {
                start(options).close();
                return false;
            } catch (error) {
                return error instanceof TypeError && Object.keys(options).every((name) => error.message.includes(name));
            }
        };
        const wrong = [{ topics: "orders/*" }, { topics: [] }, { topics: [7] }, { topics: null },
            { from: "end" }, { from: "-0" }, { from: "" }];
        for (const options of wrong) assert(refused(options), `accepted: ${JSON.stringify(options)}`);
        for (const options of [{ topics: ["*"] }, { from: "start" }, { from: "-1000" }, {}]) {
            assert(!refused(options), `refused: ${JSON.stringify(options)}`);
        }
        "#,
    )
    .await;
}

#[tokio::test]
async fn a_token_with_a_grant_is_used_as_it_is_and_never_printed() {
    on_the_bench(
        r#"
        const token = "018f3a5c-77aa-7b21-8c44-5d2f00aa91ce.AbcdEfghIjklMnopQrstUvwx-_Yz";
        answer = () => ({ sse_token: token });
        startSilently();
        await turn();
        equal(streams[0].asked, { token });
        await streams[0].refuse(403, JSON.stringify({ detail: `${token} has expired` }));
        const [line] = newLines();
        for (const part of token.split(/[.-]/)) assert(!line.includes(part), line);
        "#,
    )
    .await;
}
