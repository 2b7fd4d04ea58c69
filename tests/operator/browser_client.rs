//! The rules by which the browser client reconnects, in a real browser, on a bench without time.

use crate::support::{Browser, Instance};

/// Runs a JavaScript function body on the bench, in a page of its own.
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
        const events = start({ eventTypes: ["message", "order.paid"] });
        await turn();
        equal(sources[0].query, { token: "t1" });
        sources[0].greet("e-0");
        sources[0].send("order.paid", {}, "e-1");
        sources[0].fail();
        equal([sources[0].readyState, seen.reconnects], [EventSource.CLOSED, ["lost"]]);
        equal(sources.length, 1); // and no other before the wait is over
        await elapse();
        equal(sources[1].query, { token: "t2", last_event_id: "e-1" });
        sources[0].send("order.paid", {}, "e-9"); // too late
        sources[1].greet("e-1", "2");
        sources[1].send("message", { type: "connected" }, "e-2"); // data, whatever it looks like
        equal(seen.events, ["order.paid e-1", "message e-2"]);
        equal([events.state, events.instanceId, events.reconnects, events.lastEventId], ["open", "2", 1, "e-2"]);
        "#,
    )
    .await;
}

#[tokio::test]
async fn the_client_takes_a_401_as_final_and_nothing_else() {
    on_the_bench(
        r#"
        answer = () => { throw new IssueError("busy", { status: 503, retryAfterMs: 7000 }); };
        const events = start({ minBackoffMs: 100 });
        await turn();
        equal([events.state, seen.reconnects], ["waiting", ["issue"]]);
        assert(delays()[0] >= 7000 && delays()[0] <= 7100, `waits ${delays()}`);
        // Coming back online is no reason to ask sooner than the server allowed.
        dispatchEvent(new Event("online"));
        assert(delays()[0] >= 6000, `waits ${delays()}`);

        answer = () => { throw new IssueError("who?", { status: 401 }); };
        await elapse();
        equal([events.state, issued.length], ["unauthorized", 2]);
        events.reconnect();
        dispatchEvent(new Event("online"));
        await turn();
        equal([events.state, issued.length, timers.size, sources.length], ["unauthorized", 2, 0, 0]);
        "#,
    )
    .await;
}

#[tokio::test]
async fn the_client_stops_for_good_when_closed_in_any_state() {
    on_the_bench(
        r#"
        const stopped = async (events) => {
            const before = [issued.length, sources.length];
            events.close();
            events.reconnect();
            dispatchEvent(new Event("online"));
            await turn();
            equal([events.state, timers.size, ...before], ["closed", 0, issued.length, sources.length]);
            assert(sources.every((source) => source.readyState === EventSource.CLOSED), "a source is left open");
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
        equal(sources.length, 0);

        answer = () => "t";
        const connecting = start();
        await turn();
        await stopped(connecting);

        const open = start();
        await turn();
        sources.at(-1).greet("e-0");
        await stopped(open);

        const waiting = start();
        await turn();
        sources.at(-1).greet("e-0");
        sources.at(-1).fail();
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
async fn the_client_waits_as_long_as_the_server_asks() {
    on_the_bench(
        r#"
        start();
        await turn();
        sources[0].greet("e-0");
        sources[0].send("reconnect", { reason: "drain", retry_ms: 1234 }, "");
        equal([seen.reconnects, delays(), sources[0].readyState], [["drain by server"], [1234], EventSource.CLOSED]);
        await elapse();
        equal(sources[1].query, { token: "t2", last_event_id: "e-0" });
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
        equal(sources[0].query, { token: "t1", last_event_id: "old-7" });
        sources[0].greet("new-0");
        sources[0].send("reset", { reason: "epoch" }, "new-0");
        equal([seen.resets, seen.events, events.lastEventId], [["epoch"], [], "new-0"]);
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
            sources.at(-1).fail();
            waits.push(...delays());
            await elapse();
        }
        equal(waits, [500, 1000, 2000, 3000, 3000]);
        equal(new Set(sources.map(({ query }) => query.token)).size, 6); // never a token twice
        sources.at(-1).greet("e-0");
        equal(events.attempt, 0);
        sources.at(-1).fail();
        equal(delays(), [500]);
        "#,
    )
    .await;
}

#[tokio::test]
async fn a_published_event_named_error_is_data() {
    on_the_bench(
        r#"
        const events = start({ eventTypes: ["error"] });
        await turn();
        sources[0].greet("e-0");
        sources[0].send("error", {}, "e-1");
        equal([events.state, seen.events, seen.reconnects], ["open", ["error e-1"], []]);
        "#,
    )
    .await;
}
