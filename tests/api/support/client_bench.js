// A bench for the browser client, prefixed to the body of each test. fetch, timers and issueToken
// are fakes that a test drives. Nothing depends on time, and a stream can send data that no real
// instance sends on demand.

const { IssueError, connect } = await import("/client/vx11-events.js");

/** Lets all pending tasks run that do not wait for a timer. */
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

/** Timers that run only when a test makes them: `{ delay, run }` by number. */
const timers = new Map();
let timerCount = 0;
globalThis.setTimeout = (run, delay) => {
  timers.set(++timerCount, { run, delay });
  return timerCount;
};
globalThis.clearTimeout = (number) => timers.delete(number);
const delays = () => [...timers.values()].map(({ delay }) => delay);
/** Runs the only timer and its consequences. */
const elapse = () => {
  equal(timers.size, 1);
  const [[number, { run }]] = timers;
  timers.delete(number);
  run();
  return turn();
};

/**
 * All requested streams, in order. The client has seen an action on a stream when the promise of
 * that action resolves.
 */
const streams = [];
class Stream {
  #resolve;
  #reject;
  #body;

  constructor(url, { headers, body, signal }, resolve, reject) {
    const { searchParams } = new URL(url);
    this.topics = searchParams.getAll("topic");
    this.sent = body;
    this.asked = { token: headers["X-VX11-Token"], ...Object.fromEntries(searchParams) };
    this.signal = signal;
    this.#resolve = resolve;
    this.#reject = reject;
    signal.addEventListener("abort", () => this.cut());
  }

  /** Answers with something else than a stream. Reading its body takes a second turn. */
  refuse(status, body, headers) {
    this.#resolve(new Response(body, { status, headers }));
    return turn().then(turn);
  }

  /** Sends bytes. The first bytes begin the answer. */
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

/** Lines that the client printed on the console. */
const printed = [];
console.warn = (...words) => printed.push(words.join(" "));

/** Calls of issueToken. It returns t1, t2, … unless a test sets `answer`. */
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
/** Starts without callbacks that report failures, as most pages do. */
const startSilently = (options = {}) => start({ onState: undefined, onReconnect: undefined, ...options });
/** Removes and returns the printed lines. */
const newLines = () => printed.splice(0);
/** Asserts that exactly one line was printed, and that it contains each of these texts. */
const oneLine = (...texts) => {
  const lines = newLines();
  equal(lines.length, 1);
  for (const text of texts) assert(lines[0].includes(text), `${text} is not in: ${lines[0]}`);
};
