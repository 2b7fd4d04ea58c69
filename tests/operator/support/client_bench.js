// A bench for the browser client: its EventSource, its timers and its issueToken are stand-ins that a test drives,
// so nothing depends on time. Prefixed to the body of each test.

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

/** Every EventSource that was opened, in order. */
const sources = [];
globalThis.EventSource = class extends EventTarget {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSED = 2;
  readyState = 0;

  constructor(url) {
    super();
    this.query = Object.fromEntries(new URL(url).searchParams);
    sources.push(this);
  }

  send(type, data, lastEventId) {
    this.readyState = 1;
    this.dispatchEvent(new MessageEvent(type, { data: JSON.stringify(data), lastEventId }));
  }

  greet(lastEventId, instance = "1") {
    this.send("message", { type: "connected", instance_id: instance }, lastEventId);
  }

  /** What a browser does when a connection ends: it would try the same address again. */
  fail(readyState = 0) {
    this.readyState = readyState;
    this.dispatchEvent(new Event("error"));
  }

  close() {
    this.readyState = 2;
  }
};

/** Tokens t1, t2, … unless the test says otherwise. */
const issued = [];
let answer = () => `t${issued.length}`;
const seen = { events: [], resets: [], reconnects: [], states: [] };
const start = (options = {}) => connect({
  issueToken: async (request) => {
    issued.push(request);
    return answer(request);
  },
  onEvent: ({ type, id }) => seen.events.push(`${type} ${id}`),
  onReset: ({ reason }) => seen.resets.push(reason),
  onReconnect: ({ reason, byServer }) => seen.reconnects.push(byServer ? `${reason} by server` : reason),
  onState: ({ state }) => seen.states.push(state),
  ...options,
});
