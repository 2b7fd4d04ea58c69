//! Frames that the browser client reads, and positions and gaps that it reports.

use super::on_the_bench;

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
