//! Streams that the service ends because of what their token may open, and requests that it does
//! not understand.

use super::on_the_bench;

#[tokio::test]
async fn after_the_end_of_a_grant_the_client_asks_for_a_token_and_401_or_403_is_then_final() {
    on_the_bench(
        r#"
        for (const reason of ["grant_ended", "revoked", "blocked", "ended", "lease_lost"]) {
            for (const [status, final] of [[401, "unauthorized"], [403, "forbidden"]]) {
                for (const list of [issued, streams, seen.causes, seen.resumed]) list.length = 0;
                answer = () => `t${issued.length}`;
                const events = start();
                await turn();
                await streams[0].greet("e-0");
                await streams[0].send("reconnect", { reason, retry_ms: 1000 });
                equal([events.state, seen.causes], ["waiting", [`${reason} by server`]]);
                assert(delays()[0] >= 1000 && delays()[0] <= 1500, `waits ${delays()}`);
                await elapse();
                equal(streams[1].asked, { token: "t2", last_event_id: "e-0" });
                await streams[1].greet("e-0");
                equal(seen.resumed, ["e-0"]);

                await streams[1].send("reconnect", { reason, retry_ms: 1000 });
                answer = () => { throw new IssueError("no more", { status }); };
                await elapse();
                equal([events.state, issued.length, streams.length, timers.size], [final, 3, 2, 0]);
            }
        }
        "#,
    )
    .await;
}

#[tokio::test]
async fn streams_that_are_ended_again_and_again_are_asked_for_ever_less_often() {
    on_the_bench(
        r#"
        Math.random = () => 1;
        const now = Date.now;
        let later = 0;
        Date.now = () => now() + later;
        start({ minBackoffMs: 500, maxBackoffMs: 3000 });
        await turn();
        const ended = async (reason, openMs) => {
            await streams.at(-1).greet("e-0");
            later += openMs;
            await streams.at(-1).send("reconnect", { reason, retry_ms: 100 });
            const [delay] = delays();
            await elapse();
            return delay;
        };
        const waits = [];
        // Also if each stream was open for a while.
        for (const reason of ["grant_ended", "ended", "revoked", "lease_lost", "blocked"]) waits.push(await ended(reason, 5_000));
        equal(waits, [600, 1100, 2100, 3100, 3100]);
        // The ends that every stream meets are no part of it.
        equal(await ended("max_age", 5_000), 100);
        equal(await ended("ended", 5_000), 3100);
        equal(await ended("ended", 300_000), 600);
        "#,
    )
    .await;
}

#[tokio::test]
async fn a_page_that_wakes_up_asks_for_a_token_no_sooner_than_the_service_allows() {
    on_the_bench(
        r#"
        Math.random = () => 1;
        start({ minBackoffMs: 20_000 });
        await turn();
        await streams[0].greet("e-0");
        await streams[0].send("reconnect", { reason: "ended", retry_ms: 2000 });
        equal(delays(), [22_000]);
        dispatchEvent(new Event("online"));
        assert(delays()[0] >= 1900 && delays()[0] <= 2000, `waits ${delays()}`);
        "#,
    )
    .await;
}

#[tokio::test]
async fn a_stream_whose_place_another_one_took_is_closed_for_good() {
    on_the_bench(
        r#"
        const events = start();
        await turn();
        await streams[0].greet("e-0");
        await streams[0].send("message", 1, "e-1");
        await streams[0].send("reconnect", { reason: "replaced", retry_ms: 1 });
        const { state, previous, cause, byServer } = seen.changes.at(-1);
        equal([state, previous, cause, byServer], ["replaced", "open", "replaced", true]);
        equal([events.lastEventId, seen.causes, streams[0].signal.aborted], ["e-1", [], true]);
        events.reconnect();
        dispatchEvent(new Event("online"));
        await turn();
        equal([events.state, timers.size, issued.length, streams.length], ["replaced", 0, 1, 1]);
        events.close();
        equal(events.state, "closed");

        startSilently({ onReconnect: () => {} });
        await turn();
        await streams[1].greet("e-0");
        await streams[1].send("reconnect", { reason: "replaced", retry_ms: 1 });
        oneLine("replaced", "another stream", "closed for good");
        "#,
    )
    .await;
}

#[tokio::test]
async fn a_request_that_the_service_does_not_understand_is_not_sent_again() {
    on_the_bench(
        r#"
        const problem = JSON.stringify({ code: "bad_request", detail: "a pattern is a topic" });
        const refuse = (stream) => stream.refuse(400, problem, { "Content-Type": "application/problem+json" });
        const events = start({ topics: ["orders*"] });
        await turn();
        await refuse(streams[0]);
        const { state, cause, status, code, error } = seen.changes.at(-1);
        equal([state, cause, status, code, error.message], ["invalid", "refused", 400, "bad_request", "a pattern is a topic"]);
        events.reconnect();
        dispatchEvent(new Event("online"));
        await turn();
        equal([events.state, seen.causes, timers.size, streams.length], ["invalid", [], 0, 1]);

        startSilently({ topics: ["orders*"] });
        await turn();
        await refuse(streams[1]);
        oneLine("400", "bad_request", "a pattern is a topic", "closed for good");

        // The same answer to a request for a token, which this client has made.
        const changes = [];
        connect({ principal: "p", topics: ["orders*"], onState: (change) => changes.push(change) });
        await turn();
        await refuse(streams[2]);
        equal([changes.at(-1).state, changes.at(-1).cause, timers.size], ["invalid", "issue", 0]);

        // A backend may answer 400 for another reason.
        answer = () => { throw new IssueError("busy", { status: 400 }); };
        const asking = start();
        await turn();
        equal([asking.state, seen.causes], ["waiting", ["issue 400"]]);
        "#,
    )
    .await;
}
