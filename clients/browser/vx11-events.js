// @ts-check
/**
 * Browser client for the event streams of vx11-operator: an ES module without dependencies and
 * without a build step. An instance serves it as one file, joined from the modules of this folder.
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

import { IssueError, facts, isFinalForIssuing, isFinalForStream, problem, tokenIn } from "./answers.js";
import { FrameReader, parse } from "./frames.js";
import { REPLACED, describe } from "./messages.js";
import { absolute, checkFrom, checkTopics, issueWithPrincipal } from "./options.js";

export { IssueError };

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
/** Longest wait that a server can ask for, with `retry_ms` or Retry-After. */
const LONGEST_WAIT_MS = 300_000;
/** Spread of the early attempt of a page that comes online or becomes visible. */
const WAKE_SPREAD_MS = 250;

/**
 * Final states by the status of the answer that leads to them.
 * @type {Record<number, StreamState>}
 */
const DENIED = { 400: "invalid", 401: "unauthorized", 403: "forbidden" };

/**
 * @typedef {import("./vx11-events.js").ConnectOptions} ConnectOptions
 * @typedef {import("./vx11-events.js").StreamState} StreamState
 * @typedef {import("./vx11-events.js").Cause} Cause
 * @typedef {import("./frames.js").Frame} Frame
 * @typedef {import("./frames.js").Position} Position
 * @typedef {import("./messages.js").Problem} Problem
 */

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
  #address; // of the stream
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
    const base = absolute(options.baseUrl ?? "");
    this.#address = base + STREAM_PATH;
    this.#issueToken = options.issueToken ?? issueWithPrincipal(base, options.principal ?? "", options.topics);
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
    if (isFinalForIssuing(status, this.#options.principal)) return this.#denied({ cause: "issue", status, code, error });
    this.#failed("issue", error);
  }

  /** @param {string} token @param {number} run @param {AbortSignal} signal */
  async #open(token, run, signal) {
    clearTimeout(this.#timer);
    this.#setState("connecting");
    if (run !== this.#run) return;
    this.#timer = setTimeout(() => this.#lost("silent"), this.#options.timeoutMs);
    const url = new URL(this.#address);
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
    const { principal = "", silenceMs, timeoutMs } = this.#options;
    const isOpen = this.#state === "open";
    const words = describe(problem, { address: this.#address, principal, isOpen, silenceMs, timeoutMs });
    console.warn(`vx11-events: ${words}`);
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
