// @ts-check
/**
 * Browser client for the event streams of vx11-operator: one ES module without dependencies and
 * without a build step.
 *
 *     import { connect, IssueError } from "/client/vx11-events.js";
 *
 *     const events = connect({
 *       // Ask YOUR backend for a token. It has the credential; pages must not have it.
 *       issueToken: async ({ signal }) => {
 *         const answer = await fetch("/my-backend/sse-token", { method: "POST", signal });
 *         if (!answer.ok) throw new IssueError("no token", { status: answer.status });
 *         return (await answer.json()).sse_token;
 *       },
 *       onEvent: (event) => console.log(event.type, event.id, event.json()),
 *       onReset: () => location.reload(), // events were missed
 *       onUnauthorized: () => location.assign("/login"), // 401: the user's session has ended
 *     });
 *
 * `events.close()` ends the stream. Failures that no callback reports are printed on the console,
 * once for each cause.
 *
 * A stream token lives for about a minute and opens at most eight streams. After the end of a
 * stream, this client waits, gets a new token and resumes after the last event that it has seen.
 *
 * The client reads the stream with fetch. An EventSource has these disadvantages:
 * - It reconnects to the same address, with the same expired token.
 * - It gives up for good after the first answer that is not a stream, and hides its status.
 * - It hides heartbeats, so that a page cannot distinguish a quiet stream from a dead one.
 * - It cannot send the token in a header. Addresses with a token end up in logs.
 * - It ignores the topic of an event.
 */

const ISSUE_PATH = "/operator/api/events/sse-token";
const STREAM_PATH = "/operator/api/events/stream";

/** A shorter connection counts as short-lived. */
const STABLE_MS = 2_000;
/** Most failures that short-lived connections count for: they wait for seconds, not for longer. */
const MOST_FLAPS = 2;
/**
 * Reasons of a `reconnect` frame that are about what the token may open. The stream of the next
 * token may end in the same way, so the client backs off.
 */
const ACCESS_ENDS = new Set(["grant_ended", "revoked", "blocked", "ended", "lease_lost"]);
/** Age (ms) from which a stream that ends resets the back-off. */
const LASTING_MS = 60_000;
/** Reason of a `reconnect` frame: another stream took the place of this one. */
const REPLACED = "replaced";
/** Longest wait that a server can ask for, with `retry_ms` or Retry-After. */
const LONGEST_WAIT_MS = 300_000;
/** Spread of the early attempt of a page that comes online or becomes visible. */
const WAKE_SPREAD_MS = 250;

/** End of each printed line about a failure that is not final. */
const AGAIN = "Trying again; onState and onReconnect report each attempt.";
/** End of each printed line about a refusal that is final, if no other callback reports it. */
const FINAL = "The stream is closed for good. onState reports this to the page.";
/** Code of the refusal of topics that the token does not grant. */
const NOT_PERMITTED = "not_permitted";
/** Most topics of a request. */
const MOST_TOPICS = 16;
/**
 * Final states by the status of the answer that leads to them.
 * @type {Record<number, StreamState>}
 */
const DENIED = { 400: "invalid", 401: "unauthorized", 403: "forbidden" };

/**
 * @typedef {import("./vx11-events.js").ConnectOptions} ConnectOptions
 * @typedef {import("./vx11-events.js").StreamState} StreamState
 * @typedef {import("./vx11-events.js").Cause} Cause
 * @typedef {{type: string, topic: string, data: string, id: string | null}} Frame
 *   A frame of a stream; `id` is null if it has none.
 * @typedef {{id: string}} Position
 *   An id without data, in a heartbeat.
 * @typedef {{cause: Cause, status: number, code: string, error?: unknown}} Problem
 *   A failure to get or keep a stream.
 */

/** Reason why no token could be issued. It never contains a credential or a token. */
export class IssueError extends Error {
  /**
   * @param {string} message
   * @param {{
   *   status?: number, code?: string, requestId?: string, retryAfterMs?: number, cause?: unknown,
   * }} [facts]
   */
  constructor(message, facts = {}) {
    super(message, facts);
    this.name = "IssueError";
    this.status = facts.status ?? 0;
    this.code = facts.code ?? "";
    this.requestId = facts.requestId ?? "";
    this.retryAfterMs = facts.retryAfterMs ?? 0;
  }
}

/**
 * Opens a stream and keeps it open.
 * @param {ConnectOptions} options
 * @returns {EventStream}
 */
export function connect(options) {
  return new EventStream(options);
}

export class EventStream {
  #options;
  #issueToken;
  #base;
  /** @type {AbortController | null} of the current attempt or connection */ #abort = null;
  #teardown = new AbortController();
  // There is one timer: for an answer, a heartbeat, or the next attempt.
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;
  /** @type {StreamState} */ #state = "idle";
  #run = 0; // number of the attempt: answers to abandoned attempts are ignored
  #failures = 0;
  #flaps = 0; // short-lived connections in a row
  #accessEnds = 0; // streams in a row that ended for a reason about their token
  #opens = 0;
  #openedAt = 0;
  #dueAt = 0;
  #notBefore = 0;
  #wasOffline = false;
  #instanceId = "";
  #degraded = "";
  #lastEventId;
  #asked = ""; // position to resume after, until the stream shows whether it resumed
  /** @type {Set<string>} causes printed since a stream opened */ #printed = new Set();

  /** @param {ConnectOptions} options */
  constructor(options) {
    if (!options.issueToken === !options.principal) {
      throw new TypeError("connect() needs either issueToken or principal");
    }
    // Checked here, because the browser's error message could quote the header.
    if (options.principal && !/^[\x21-\x7e]+$/.test(options.principal)) {
      throw new TypeError("the credential in principal contains characters that a header cannot carry");
    }
    checkTopics(options.topics);
    checkFrom(options.from);
    this.#options = {
      minBackoffMs: 500, maxBackoffMs: 30_000, timeoutMs: 15_000, silenceMs: 40_000, ...options,
    };
    this.#base = absolute(options.baseUrl ?? "");
    this.#issueToken =
      options.issueToken ?? issueWithPrincipal(this.#base, options.principal ?? "", options.topics);
    this.#lastEventId = options.lastEventId ?? "";
    this.#watchPage();
    if (options.signal?.aborted) this.close();
    options.signal?.addEventListener("abort", () => this.close(), { signal: this.#teardown.signal });
    // Later, so that `const events = connect(…)` is assigned before a callback uses it.
    queueMicrotask(() => {
      if (this.#state === "idle") this.#attempt();
    });
  }

  get state() {
    return this.#state;
  }

  /** Instance that serves the stream, or served it last. */
  get instanceId() {
    return this.#instanceId;
  }

  /** Position after which the next connection resumes. */
  get lastEventId() {
    return this.#lastEventId;
  }

  /** Failures in a row; 0 while open. */
  get attempt() {
    return this.#state === "open" ? 0 : this.#failures;
  }

  /** Number of times that the stream was opened again. */
  get reconnects() {
    return Math.max(0, this.#opens - 1);
  }

  /**
   * Reason why the open stream delivers no events at present; `""` if it delivers them, and while
   * there is no stream.
   */
  get degraded() {
    return this.#degraded;
  }

  /** Ends the connection or the wait, and connects now with a new token. */
  reconnect() {
    if (this.#isFinal()) return;
    this.#drop();
    this.#attempt({ cause: "requested" });
  }

  /** Ends the stream for good. */
  close() {
    this.#finish("closed");
  }

  // --- one attempt: issue a token, open the stream --------------------------

  /** @param {{cause?: Cause}} [why] */
  async #attempt(why) {
    clearTimeout(this.#timer);
    const run = ++this.#run;
    const abort = (this.#abort = new AbortController());
    this.#setState("issuing", why);
    if (run !== this.#run) return; // the callback closed the stream or reconnected
    let token;
    try {
      token = await this.#issue(abort);
    } catch (error) {
      if (run === this.#run) this.#issueFailed(error);
      return;
    }
    if (run === this.#run) await this.#open(token, run, abort.signal);
  }

  /** @param {AbortController} abort @returns {Promise<string>} */
  async #issue(abort) {
    // The timeout is also raced, because a caller's issueToken may ignore the signal.
    const timeout = new Promise((_, reject) => {
      this.#timer = setTimeout(() => {
        reject(new IssueError("no token within the time allowed", { code: "timeout" }));
        abort.abort();
      }, this.#options.timeoutMs);
      // Ends the race of an abandoned attempt, whose timer is cleared.
      abort.signal.addEventListener("abort", () => reject(new IssueError("no token wanted any more")));
    });
    const issued = await Promise.race([this.#issueToken({ signal: abort.signal }), timeout]);
    return tokenIn(issued);
  }

  /** @param {any} error */
  #issueFailed(error) {
    const { status, code } = facts(error);
    if (this.#isFinalForIssuing(status)) return this.#denied({ cause: "issue", status, code, error });
    this.#failed("issue", error);
  }

  /**
   * Whether an answer means that there will be no token: repeating the request does not change it,
   * and would look like guessing credentials. A backend may answer 400 for other reasons.
   * @param {number} status
   */
  #isFinalForIssuing(status) {
    return status === 401 || status === 403 || (status === 400 && Boolean(this.#options.principal));
  }

  /** @param {string} token @param {number} run @param {AbortSignal} signal */
  async #open(token, run, signal) {
    clearTimeout(this.#timer);
    this.#setState("connecting");
    if (run !== this.#run) return;
    this.#timer = setTimeout(() => this.#lost("silent"), this.#options.timeoutMs);
    const url = new URL(this.#base + STREAM_PATH);
    const { topics = [], from } = this.#options;
    for (const topic of topics) url.searchParams.append("topic", topic);
    if (this.#lastEventId) url.searchParams.set("last_event_id", this.#lastEventId);
    else if (from) url.searchParams.set("from", from);
    let answer;
    try {
      answer = await fetch(url, {
        // No Accept: if it names text/event-stream, proxies answer errors with status 200, as an
        // EventSource needs it. This client needs the true status.
        headers: { "X-VX11-Token": token },
        cache: "no-store",
        redirect: "error", // a redirect would send the token to another address
        signal,
      });
    } catch (error) {
      if (run === this.#run) this.#lost("unreachable", error);
      return;
    }
    const isStream = answer.status === 200 && /^text\/event-stream\b/i.test(answer.headers.get("Content-Type") ?? "");
    if (isStream && answer.body) return this.#read(answer.body.getReader(), run);
    const error = await problem(answer);
    if (run !== this.#run) return;
    const { status, code } = error;
    if (isFinalForStream(error)) return this.#denied({ cause: "refused", status, code, error });
    this.#failed("refused", error);
  }

  /** @param {ReadableStreamDefaultReader<Uint8Array>} reader @param {number} run */
  async #read(reader, run) {
    const frames = new FrameReader();
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done || run !== this.#run) break;
        if (this.#state === "open") this.#watchSilence();
        for (const frame of frames.push(value)) {
          this.#arrived(frame);
          if (run !== this.#run) return;
        }
      }
    } catch (error) {
      if (run === this.#run) this.#lost("cut", error);
      return;
    }
    if (run === this.#run) this.#lost("cut");
  }

  /** Starts the wait for the next bytes. Any bytes, also a heartbeat, show a live connection. */
  #watchSilence() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#lost("silent"), this.#options.silenceMs);
  }

  /** @param {Frame | Position} frame */
  #arrived(frame) {
    const before = this.#lastEventId;
    if (frame.id !== null) this.#lastEventId = frame.id;
    if (!("data" in frame)) {
      // A later position and no reset: nothing was missed.
      if (this.#state === "open" && !this.#degraded) this.#resumed();
      return;
    }
    const run = this.#run;
    // Only the first frame can be the greeting. Later frames of that shape are application data.
    const isGreeting = this.#state === "connecting" && this.#opened(frame, before);
    if (!isGreeting && run === this.#run) this.#deliver(frame, before);
  }

  /**
   * Opens the stream with its first frame. If the greeting has no id, it is not known yet whether
   * the stream resumes.
   * @param {Frame} frame @param {string} before @returns {boolean} whether it is a greeting
   */
  #opened({ type, data, id }, before) {
    const run = this.#run;
    const greeting = type === "message" ? parse(data) : null;
    const isGreeting = greeting?.type === "connected";
    if (isGreeting) this.#instanceId = String(greeting.instance_id ?? "");
    this.#asked = before;
    this.#openedAt = Date.now();
    this.#opens += 1;
    // Kept while connections end at once, because each of them would print its end.
    if (this.#flaps < MOST_FLAPS) this.#printed.clear();
    this.#watchSilence();
    this.#setState("open");
    if (isGreeting && id !== null && run === this.#run) this.#resumed();
    return isGreeting;
  }

  #resumed() {
    const after = this.#asked;
    this.#asked = "";
    if (after) this.#call(this.#options.onResume, { after });
  }

  /** @param {Frame} frame @param {string} before position before this frame */
  #deliver({ type, topic, data }, before) {
    const run = this.#run;
    switch (type) {
      case "reset":
        this.#asked = "";
        return this.#call(this.#options.onReset, {
          reason: String(parse(data)?.reason ?? "unknown"), after: before, id: this.#lastEventId,
        });
      case "reconnect":
        return this.#sentAway(parse(data) ?? {});
      case "degraded":
        this.#degraded = String(parse(data)?.reason ?? "unknown");
        return this.#call(this.#options.onDegraded, { reason: this.#degraded });
      case "recovered":
        this.#degraded = "";
        return this.#call(this.#options.onRecovered);
      default:
        this.#resumed(); // an event and no reset
        if (run !== this.#run) return;
        return this.#call(this.#options.onEvent, {
          type, topic, data, id: this.#lastEventId, json: () => JSON.parse(data),
        });
    }
  }

  // --- end of a connection, and waiting ------------------------------------------------

  /** @param {{reason?: unknown, retry_ms?: unknown}} asked */
  #sentAway({ reason, retry_ms: retryMs }) {
    const cause = typeof reason === "string" ? reason : "server";
    this.#settle();
    this.#drop();
    // To come back would end the other stream, whose client would come back in turn.
    if (cause === REPLACED) return this.#replaced();
    const givenMs = typeof retryMs === "number" && retryMs >= 0 ? Math.min(retryMs, LONGEST_WAIT_MS) : null;
    if (ACCESS_ENDS.has(cause)) {
      this.#failures = Math.max(this.#failures, this.#accessEnds);
      this.#accessEnds += 1;
      const floorMs = givenMs ?? 0;
      return this.#wait({ cause, delayMs: floorMs + this.#backoff(), floorMs, byServer: true });
    }
    const delayMs = givenMs ?? this.#backoff();
    this.#wait({ cause, delayMs, floorMs: delayMs, byServer: true });
  }

  #replaced() {
    const cause = REPLACED;
    this.#print({ cause, status: 0, code: "" }, undefined);
    this.#finish("replaced", { cause, byServer: true });
  }

  /** @param {Cause} cause @param {unknown} [error] */
  #lost(cause, error) {
    this.#settle();
    this.#drop();
    this.#wait({ cause, error, delayMs: this.#backoff() });
  }

  /** @param {Cause} cause @param {any} error */
  #failed(cause, error) {
    this.#drop();
    const { status, code, retryAfterMs } = facts(error);
    const floorMs = Math.min(retryAfterMs, LONGEST_WAIT_MS);
    // Jitter on top of Retry-After, because the server sends all clients the same number.
    this.#wait({ cause, status, code, error, delayMs: floorMs + this.#backoff(), floorMs });
  }

  /**
   * Restarts the backoff after a connection that opened. Short-lived connections in a row count as
   * failures; otherwise a server that accepts and drops connections would get several attempts a
   * second.
   */
  #settle() {
    if (this.#state !== "open") return;
    const openMs = Date.now() - this.#openedAt;
    if (openMs >= STABLE_MS) this.#flaps = 0;
    if (openMs >= LASTING_MS) this.#accessEnds = 0;
    this.#failures = this.#flaps;
    this.#flaps = Math.min(this.#flaps + 1, MOST_FLAPS);
  }

  /** Exponential backoff with full jitter: a random wait up to the bound. */
  #backoff() {
    const { minBackoffMs, maxBackoffMs } = this.#options;
    const bound = Math.min(maxBackoffMs, minBackoffMs * 2 ** this.#failures);
    this.#failures += 1;
    return Math.random() * bound;
  }

  /**
   * @param {{cause: Cause, delayMs: number, floorMs?: number, byServer?: boolean,
   *          status?: number, code?: string, error?: unknown}} how
   */
  #wait({ cause, delayMs, floorMs = 0, byServer = false, status = 0, code = "", error }) {
    const run = this.#run;
    const now = Date.now();
    this.#dueAt = now + delayMs;
    this.#notBefore = now + floorMs;
    this.#timer = setTimeout(() => this.#attempt(), delayMs);
    const plan = { cause, byServer, status, code, delayMs: Math.round(delayMs), attempt: this.#failures, error };
    if (!byServer) this.#print(plan, this.#options.onReconnect);
    this.#setState("waiting", plan);
    if (run === this.#run) this.#call(this.#options.onReconnect, plan);
  }

  /** Brings the next attempt forward, but not before the time that the server gave. */
  #wake() {
    if (this.#state !== "waiting") return;
    const now = Date.now();
    const at = Math.max(this.#notBefore, now + Math.random() * WAKE_SPREAD_MS);
    if (at >= this.#dueAt) return;
    clearTimeout(this.#timer);
    this.#dueAt = at;
    this.#timer = setTimeout(() => this.#attempt(), at - now);
  }

  #watchPage() {
    const signal = this.#teardown.signal;
    globalThis.addEventListener?.("offline", () => (this.#wasOffline = true), { signal });
    globalThis.addEventListener?.("online", () => {
      // The connection may be dead without an error. Resuming loses nothing.
      if (this.#wasOffline && this.#state === "open") this.#lost("offline");
      this.#wasOffline = false;
      this.#wake();
    }, { signal });
    // Browsers slow down the timers of hidden tabs.
    globalThis.document?.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.#wake();
    }, { signal });
  }

  #drop() {
    this.#run += 1;
    clearTimeout(this.#timer);
    this.#abort?.abort();
    this.#abort = null;
    this.#degraded = this.#asked = ""; // both are known for an open stream only
  }

  #isFinal() {
    return this.#teardown.signal.aborted;
  }

  /**
   * Ends for good after an answer of which DENIED has the status.
   * @param {Problem} problem why this user gets no token, or no stream of these topics
   */
  #denied(problem) {
    const onUnauthorized = problem.status === 401 ? this.#options.onUnauthorized : undefined;
    this.#print(problem, onUnauthorized);
    const change = this.#finish(DENIED[problem.status], problem);
    this.#call(onUnauthorized, change);
  }

  /** @param {StreamState} state a final one @param {object} [facts] */
  #finish(state, facts) {
    if (this.#state === "closed") return;
    this.#drop();
    this.#teardown.abort();
    return this.#setState(state, facts);
  }

  /** @param {StreamState} state @param {object} [facts] */
  #setState(state, facts = {}) {
    const previous = this.#state;
    this.#state = state;
    const { attempt, instanceId, lastEventId, reconnects } = this;
    const change = { ...facts, state, previous, attempt, instanceId, lastEventId, reconnects };
    this.#call(this.#options.onState, change);
    return change;
  }

  /**
   * Prints a failure that no callback reports: each cause once, until a stream opens.
   * @param {Problem} problem @param {Function | undefined} callback would report it
   */
  #print(problem, callback) {
    const { cause, status, code, error } = problem;
    const key = [cause, status, code, error instanceof Error && error.name].join(" ");
    if (this.#options.onState || callback || this.#printed.has(key)) return;
    this.#printed.add(key);
    console.warn(`vx11-events: ${this.#describe(problem)}`);
  }

  /** @param {Problem} problem */
  #describe({ cause, status, code, error }) {
    const address = this.#base + STREAM_PATH;
    const why = this.#words(error);
    const answer = [status && `status ${status}`, this.#hide(code)].filter(Boolean).join(", ");
    switch (cause) {
      case "issue": {
        const issuing = this.#options.principal ? "issuing a token" : "issueToken";
        const failed = `${issuing} failed${answer && ` with ${answer}`}: ${why}.`;
        if (status === 401) return `${failed} The stream is closed for good. onUnauthorized reports this to the page.`;
        return `${failed} ${this.#isFinalForIssuing(status) ? FINAL : AGAIN}`;
      }
      case "refused":
        return `${address} answered with ${answer} instead of a stream: ${why}. ${isFinalForStream({ status, code }) ? FINAL : AGAIN}`;
      case REPLACED:
        return `the stream was replaced by another stream of the same user or token. ${FINAL}`;
      case "unreachable":
        return `${address} cannot be reached: ${why}.${this.#reasons()} ${AGAIN}`;
      case "silent":
        if (this.#state === "open") return `${address} sent no heartbeat for ${this.#options.silenceMs} ms. ${AGAIN}`;
        return `${address} gave no answer within ${this.#options.timeoutMs} ms. Does a proxy buffer the stream? ${AGAIN}`;
      case "offline":
        return `the browser was offline. ${AGAIN}`;
      default:
        return `the connection to ${address} was cut. ${AGAIN}`;
    }
  }

  /** Possible reasons, because a browser hides them from pages of another origin. */
  #reasons() {
    const page = globalThis.location?.origin;
    if (!page || new URL(this.#base).origin === page) return "";
    return ` Either no server listens there, or it does not allow pages of ${page} (CORS).`;
  }

  /**
   * The message of an error, without secrets.
   * @param {any} error
   */
  #words(error) {
    // A SyntaxError quotes the text that is not JSON, which may be a token.
    if (error instanceof SyntaxError) return "SyntaxError: the answer is not JSON";
    const text = this.#hide(String(error?.message ?? error));
    return error instanceof Error && !(error instanceof IssueError) ? `${error.name}: ${text}` : text;
  }

  /** @param {string} text */
  #hide(text) {
    const { principal } = this.#options;
    return masked(principal ? text.replaceAll(principal, "…") : text);
  }

  /** Calls a callback. An error in it is reported to the page and does not end the stream. */
  #call(/** @type {Function | undefined} */ callback, /** @type {object | undefined} */ argument = undefined) {
    try {
      callback?.(argument);
    } catch (error) {
      if (typeof reportError === "function") reportError(error);
      else console.error(error);
    }
  }
}

// --- the wire -------------------------------------------------------------------

/**
 * Parses a text/event-stream (WHATWG HTML §9.2.6) from chunks of any size. The field `topic` is the
 * service's own.
 */
class FrameReader {
  #decoder = new TextDecoder();
  #rest = "";
  /** @type {string[]} */ #data = [];
  #type = "";
  #topic = "";
  /** @type {string | null} */ #id = null;

  /**
   * @param {Uint8Array} chunk
   * @returns {Generator<Frame | Position>} the frames that it completes
   */
  *push(chunk) {
    this.#rest += this.#decoder.decode(chunk, { stream: true });
    // A CR at the end of a chunk may be the first half of a CR LF.
    const lines = this.#rest.split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line) this.#field(line);
      else yield* this.#frame();
    }
  }

  *#frame() {
    const data = this.#data;
    const id = this.#id;
    const frame = { type: this.#type || "message", topic: this.#topic || "default", data: data.join("\n"), id };
    this.#data = [];
    this.#type = this.#topic = "";
    this.#id = null;
    if (data.length > 0) yield frame;
    else if (id !== null) yield { id };
  }

  /** @param {string} line */
  #field(line) {
    const [, name, value] = /^([^:]*):? ?([^]*)$/.exec(line) ?? [];
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#type = value;
    else if (name === "topic") this.#topic = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
  }
}

/** @param {readonly string[] | undefined} topics */
function checkTopics(topics) {
  if (topics === undefined) return;
  const isList = Array.isArray(topics) && topics.every((topic) => typeof topic === "string");
  // No pattern at all would open a stream of everything that is granted.
  if (!isList || topics.length < 1 || topics.length > MOST_TOPICS) {
    throw new TypeError(`topics has to be a list of 1 to ${MOST_TOPICS} patterns`);
  }
}

/** @param {string | undefined} from */
function checkFrom(from) {
  if (from === undefined || (typeof from === "string" && /^(start|-([1-9]\d{0,2}|1000))$/.test(from))) return;
  throw new TypeError('from has to be "start", or "-N" for the last N events, with N from 1 to 1000');
}

/**
 * Whether a refusal of the stream is final, because the same request would get it again: the
 * service does not understand the request, or the token grants other topics.
 * @param {{status: number, code: string}} refusal
 */
function isFinalForStream({ status, code }) {
  return status === 400 || (status === 403 && code === NOT_PERMITTED);
}

/** @param {string} base @param {string} principal @param {readonly string[] | undefined} topics */
function issueWithPrincipal(base, principal, topics) {
  /** @type {Record<string, string>} */
  const headers = { "X-VX11-Token": principal, Accept: "application/json" };
  if (topics) headers["Content-Type"] = "application/json";
  const body = topics && JSON.stringify({ topics });
  return async (/** @type {{signal: AbortSignal}} */ { signal }) => {
    let answer;
    try {
      answer = await fetch(base + ISSUE_PATH, {
        method: "POST",
        headers,
        body,
        cache: "no-store",
        redirect: "error", // a redirect would send the credential to another address
        signal,
      });
    } catch (cause) {
      const words = cause instanceof Error ? cause.message : cause;
      throw new IssueError(`the server could not be reached: ${words}`, { code: "network", cause });
    }
    if (!answer.ok) throw await problem(answer);
    return answer.json();
  };
}

/**
 * Finds the token in a result of issueToken.
 * @param {any} issued @returns {string}
 */
function tokenIn(issued) {
  const token = typeof issued === "string" ? issued : issued?.sse_token;
  // Checked here, because the browser's error message could quote the header.
  if (typeof token === "string" && /^[\x21-\x7e]+$/.test(token)) return token;
  let found = `sse_token is of type ${typeof token}`;
  if (token === "") found = "found an empty string";
  else if (typeof token === "string") found = "found characters that a header cannot carry";
  else if (issued === null || typeof issued !== "object") found = `found ${issued === null ? null : typeof issued}`;
  else if (!("sse_token" in issued)) found = `found ${masked(Object.keys(issued).join(", ")) || "an empty object"}`;
  throw new IssueError(`expected a token, or an object that holds it as sse_token; ${found}`, { code: "no_token" });
}

/**
 * Error with the problem document of an answer (RFC 9457), or with its status and type.
 * @param {Response} answer
 */
async function problem(answer) {
  const body = answer.ok ? null : await answer.json().catch(() => null);
  const type = answer.headers.get("Content-Type") ?? "no content type";
  return new IssueError(body?.detail ?? body?.title ?? `the server answered ${answer.status} with ${type}`, {
    status: answer.status,
    code: body?.code,
    requestId: body?.request_id,
    retryAfterMs: retryAfter(answer.headers.get("Retry-After")),
  });
}

/**
 * Usable facts of an error, which may be any value that a caller's issueToken threw.
 * @param {any} error
 */
function facts(error) {
  return {
    status: Number(error?.status) || 0,
    code: String(error?.code ?? ""),
    retryAfterMs: Math.max(0, Number(error?.retryAfterMs) || 0),
  };
}

/**
 * Masks text that may be a token, with its grant, or a credential: long runs of letters and digits.
 * @param {string} text
 */
function masked(text) {
  return text.replace(/[\w-]{20,}(?:\.[\w-]+)*/g, (run) => (/\d/.test(run) ? "…" : run));
}

/**
 * Milliseconds from now until a Retry-After: seconds, or an HTTP date.
 * @param {string | null} value
 */
function retryAfter(value) {
  if (!value) return 0;
  const ms = /^\d+$/.test(value.trim()) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : 0;
}

/** @param {string} base */
function absolute(base) {
  const here = globalThis.document?.baseURI ?? globalThis.location?.href;
  // "" means the page's origin, not the folder of the page.
  return new URL(base || "/", here).href.replace(/[?#].*$/, "").replace(/\/+$/, "");
}

/** @param {string} text @returns {any} */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
