//! Lines that the browser client prints, and secrets that it never prints.

use super::on_the_bench;

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
        oneLine("403", "only for members", "closed for good");
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
        for (const reason of ["drain", "max_age", "slow", "revoked", "grant_ended", "ended", "blocked"]) {
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
