// A bench for the browser client: fetch, timers and issueToken are fakes that a test drives, so nothing depends on time, and a stream sends data that no real instance sends on demand. Prefixed to the body of each test.

const { IssueError, connect } = await import("/client/vx11-events.js");

/** Lets everything happen that waits for nothing but its turn. */
const turn = () => new Promise((resolve) => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = resolve;
  port2.postMessage(null);
});

const assert = (fact, message) => {
  if (!fact) throw new Error(message);
};
const equal = (found, expected) => {
  [found, expected] = [JSON.stringify(found), JSON.stringify(expected)];
  assert(found === expected, `found ${found}, expected ${expected}`);
};

/** Timers that run when they are told to: `{ delay, run }` by number. */
const timers = new Map();
let timerCount = 0;
globalThis.setTimeout = (run, delay) => {
  timers.set(++timerCount, { run, delay });
  return timerCount;
};
globalThis.clearTimeout = (number) => timers.delete(number);
const delays = () => [...timers.values()].map(({ delay }) => delay);
/** Runs the only timer and what follows from it. */
const elapse = () => {
  equal(timers.size, 1);
  const [[number, { run }]] = timers;
  timers.delete(number);
  run();
  return turn();
};

/** Every stream that was asked for, in order. What is done to one is seen by the client when its promise resolves. */
const streams = [];
class Stream {
  #resolve;
  #reject;
  #body;

  constructor(url, { headers, signal }, resolve, reject) {
    const { searchParams } = new URL(url);
    this.asked = { token: headers["X-VX11-Token"], ...Object.fromEntries(searchParams) };
    this.signal = signal;
    this.#resolve = resolve;
    this.#reject = reject;
    signal.addEventListener("abort", () => this.cut());
  }

  /** Answers with something else than a stream; its body is read in a turn of its own. */
  refuse(status, body, headers) {
    this.#resolve(new Response(body, { status, headers }));
    return turn().then(turn);
  }

  /** Sends bytes. The first make it a stream. */
  write(bytes) {
    if (!this.#body) {
      const body = new ReadableStream({ start: (controller) => (this.#body = controller) });
      this.#resolve(new Response(body, { headers: { "Content-Type": "text/event-stream; charset=utf-8" } }));
    }
    this.#body.enqueue(typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes);
    return turn();
  }

  send(type, data, id) {
    return this.write(`${id ? `id: ${id}\n` : ""}event: ${type}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  greet(id, instance = "1") {
    return this.send("message", { type: "connected", instance_id: instance }, id);
  }

  end() {
    this.#body.close();
    return turn();
  }

  /** Breaks the connection, before an answer or after. */
  cut() {
    return this.fail(new TypeError("network error"));
  }

  /** Fails with this error, before an answer or after. */
  fail(error) {
    if (this.#body) this.#body.error(error);
    else this.#reject(error);
    return turn();
  }
}
globalThis.fetch = (url, request) =>
  new Promise((resolve, reject) => streams.push(new Stream(url, request, resolve, reject)));

/** What the client prints on the console. */
const printed = [];
console.warn = (...words) => printed.push(words.join(" "));

/** Tokens t1, t2, … unless the test says otherwise. */
const issued = [];
let answer = () => `t${issued.length}`;
const seen = { events: [], resumed: [], resets: [], degraded: [], causes: [], changes: [] };
const start = (options = {}) => connect({
  issueToken: async (request) => {
    issued.push(request);
    return answer(request);
  },
  onEvent: ({ type, id }) => seen.events.push(`${type} ${id}`),
  onResume: ({ after }) => seen.resumed.push(after),
  onReset: ({ reason, after, id }) => seen.resets.push(`${reason}: after ${after} comes ${id}`),
  onDegraded: ({ reason }) => seen.degraded.push(reason),
  onRecovered: () => seen.degraded.push("recovered"),
  onReconnect: ({ cause, byServer, status, code }) =>
    seen.causes.push([cause, byServer && "by server", status, code].filter(Boolean).join(" ")),
  onState: (change) => seen.changes.push(change),
  ...options,
});
/** As most pages do: without a callback that reports why there is no stream. */
const startSilently = (options = {}) => start({ onState: undefined, onReconnect: undefined, ...options });
/** What has been printed since the last call. */
const newLines = () => printed.splice(0);
/** Asserts that one line was printed, and that it contains each of these texts. */
const oneLine = (...texts) => {
  const lines = newLines();
  equal(lines.length, 1);
  for (const text of texts) assert(lines[0].includes(text), `${text} is not in: ${lines[0]}`);
};
