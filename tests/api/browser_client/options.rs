//! Options of the browser client about topics and the beginning of a stream.

use super::on_the_bench;

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
            { topics: Array(17).fill("a") }, { from: "end" }, { from: "-0" }, { from: "" }, { from: "-1001" },
            { from: "-5000" }, { from: "-10.5" }, { from: -10 }, { from: null }];
        for (const options of wrong) assert(refused(options), `accepted: ${JSON.stringify(options)}`);
        for (const options of [{ topics: ["*"] }, { from: "start" }, { from: "-1000" }, {}]) {
            assert(!refused(options), `refused: ${JSON.stringify(options)}`);
        }
        "#,
    )
    .await;
}
