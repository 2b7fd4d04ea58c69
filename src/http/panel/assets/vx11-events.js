// @ts-check
/**
 * Browser client for the vx11-operator event stream. One ES module, no
 * dependencies, no build step.
 *
 *     import { connect } from "/client/vx11-events.js";
 *
 *     const events = connect({
 *       // Ask YOUR backend for a token: it holds the principal, pages must not.
 *       issueToken: async ({ signal }) => {
 *         const answer = await fetch("/my-backend/sse-token", { method: "POST", signal });
 *         if (!answer.ok) throw new IssueError("no token", { status: answer.status });
 *         return (await answer.json()).sse_token;
 *       },
 *       eventTypes: ["message", "order.paid"],
 *       onEvent: (event) => console.log(event.type, event.id, event.json()),
 *       onReset: () => reloadEverything(), // events were missed
 *     });
 *     // later
 *     events.close();
 *
 * A stream token lives for about a minute and opens one stream, so the URL of
 * an EventSource is worthless once its connection has ended. The browser's own
 * retry would ask for that same URL for ever; this client therefore closes the
 * EventSource on any error, waits, obtains a new token and resumes after the
 * last event id it has seen.
 *
 * There is no silence watchdog. The server's keep-alives are SSE comments,
 * which EventSource does not expose: a quiet stream and a dead one look the
 * same from here, and reconnecting quiet streams would be a steady load for
 * nothing. Loss is recognised by the error the browser reports, and by a
 * change from offline to online, which often leaves a half-open connection.
 */

const ISSUE_PATH = "/operator/api/events/sse-token";
const STREAM_PATH = "/operator/api/events/stream";

/** A connection that ends sooner than this counts as short-lived. */
const STABLE_MS = 2_000;
/** Short-lived connections slow us down to seconds, not to the longest backoff. */
const MOST_FLAPS = 2;
/** Neither a server's `retry_ms` nor its Retry-After may park us longer. */
const LONGEST_WAIT_MS = 300_000;
/** Spread of the quick attempt after coming online or becoming visible. */
const WAKE_SPREAD_MS = 250;

/**
 * @typedef {import("./vx11-events.js").ConnectOptions} ConnectOptions
 * @typedef {import("./vx11-events.js").StreamState} StreamState
 * @typedef {import("./vx11-events.js").ReconnectReason} ReconnectReason
 */

/** Why no token could be issued. Never carries the principal or a token. */
export class IssueError extends Error {
  /**
   * @param {string} message
   * @param {{status?: number, code?: string, requestId?: string, retryAfterMs?: number}} [facts]
   */
  constructor(message, facts = {}) {
    super(message);
    this.name = "IssueError";
    this.status = facts.status ?? 0;
    this.code = facts.code ?? "";
    this.requestId = facts.requestId ?? "";
    this.retryAfterMs = facts.retryAfterMs ?? 0;
  }
}

/**
 * Start a stream.
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
  /** @type {Set<string>} types the caller wants */ #types;
  /** @type {Set<string>} types registered on the current EventSource */ #registered = new Set();
  /** @type {EventSource | null} */ #source = null;
  /** @type {AbortController | null} */ #issuing = null;
  #teardown = new AbortController();
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;
  /** @type {StreamState} */ #state = "idle";
  #run = 0; // numbers the attempts, so that answers to abandoned ones are dropped
  #failures = 0;
  #flaps = 0; // short-lived connections in a row
  #opens = 0;
  #openedAt = 0;
  #dueAt = 0;
  #notBefore = 0;
  #wasOffline = false;
  #instanceId = "";
  #lastEventId;

  /** @param {ConnectOptions} options */
  constructor(options) {
    if (!options.issueToken === !options.principal) {
      throw new TypeError("connect() needs either issueToken or principal");
    }
    // Checked here because a browser's own complaint could quote the header.
    if (options.principal && !/^[\x21-\x7e]+$/.test(options.principal)) {
      throw new TypeError("the principal contains characters that a header cannot carry");
    }
    this.#options = { minBackoffMs: 500, maxBackoffMs: 30_000, timeoutMs: 15_000, ...options };
    this.#base = absolute(options.baseUrl ?? "");
    this.#issueToken = options.issueToken ?? issueWithPrincipal(this.#base, options.principal ?? "");
    this.#types = new Set(options.eventTypes ?? ["message"]);
    this.#lastEventId = options.lastEventId ?? "";
    this.#watchPage();
    if (options.signal?.aborted) this.close();
    options.signal?.addEventListener("abort", () => this.close(), { signal: this.#teardown.signal });
    // Not at once: `const events = connect(…)` must be assigned before a callback uses it.
    queueMicrotask(() => {
      if (this.#state === "idle") this.#attempt();
    });
  }

  get state() {
    return this.#state;
  }

  /** Instance that serves the stream (the last one that did, while reconnecting). */
  get instanceId() {
    return this.#instanceId;
  }

  /** Where the next connection resumes. */
  get lastEventId() {
    return this.#lastEventId;
  }

  /** Failures in a row; 0 while open. */
  get attempt() {
    return this.#state === "open" ? 0 : this.#failures;
  }

  /** How often the stream has been opened again after the first time. */
  get reconnects() {
    return Math.max(0, this.#opens - 1);
  }

  get eventTypes() {
    return [...this.#types];
  }

  /**
   * Receive further event types, from now on and after each reconnect.
   * @param {...string} types
   */
  listen(...types) {
    for (const type of types) {
      this.#types.add(type);
      if (this.#source) this.#register(this.#source, type);
    }
  }

  /**
   * Stop receiving these event types.
   * @param {...string} types
   */
  unlisten(...types) {
    for (const type of types) this.#types.delete(type);
  }

  /** Drop the connection or the wait, and connect now with a new token. */
  reconnect() {
    if (this.#isFinal()) return;
    this.#drop();
    this.#attempt();
  }

  /** End the stream for good. */
  close() {
    this.#finish("closed");
  }

  // --- one attempt: issue a token, open the stream --------------------------

  async #attempt() {
    clearTimeout(this.#timer);
    const run = ++this.#run;
    this.#setState("issuing");
    if (run !== this.#run) return; // the callback closed or restarted us
    let token;
    try {
      token = await this.#issue();
    } catch (error) {
      if (run === this.#run) this.#issueFailed(error);
      return;
    }
    if (run === this.#run) this.#open(token, run);
  }

  /** @returns {Promise<string>} */
  async #issue() {
    const abort = (this.#issuing = new AbortController());
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    // Raced as well as aborted: a caller's issueToken may ignore the signal.
    const timeout = new Promise((_, reject) => {
      timer = setTimeout(() => {
        reject(new IssueError("no token within the time allowed", { code: "timeout" }));
        abort.abort();
      }, this.#options.timeoutMs);
      // Dropped: neither the answer nor the time matters any more.
      abort.signal.addEventListener("abort", () => reject(new IssueError("no token wanted any more")));
    });
    try {
      const issued = await Promise.race([this.#issueToken({ signal: abort.signal }), timeout]);
      const token = typeof issued === "string" ? issued : issued?.sse_token;
      if (typeof token !== "string" || !token) {
        throw new IssueError("the answer holds no token", { code: "no_token" });
      }
      return token;
    } finally {
      clearTimeout(timer);
    }
  }

  /** @param {any} error */
  #issueFailed(error) {
    // A wrong principal stays wrong: asking again would only look like guessing.
    if (error?.status === 401) return this.#finish("unauthorized", error);
    const floor = Math.min(Number(error?.retryAfterMs) || 0, LONGEST_WAIT_MS);
    // Jitter on top of Retry-After: all clients were told the same number.
    this.#wait("issue", { delayMs: floor + this.#backoff(), floorMs: floor, error });
  }

  /** @param {string} token @param {number} run */
  #open(token, run) {
    this.#setState("connecting");
    if (run !== this.#run) return;
    const url = new URL(this.#base + STREAM_PATH);
    url.searchParams.set("token", token);
    if (this.#lastEventId) url.searchParams.set("last_event_id", this.#lastEventId);
    const source = (this.#source = new EventSource(url));
    this.#registered = new Set();

    source.addEventListener("error", (event) => {
      // A published event named "error" arrives here too; it is not a failure.
      if (event instanceof MessageEvent || this.#source !== source) return;
      if (this.#state === "open") return this.#lost("lost");
      // readyState tells an answer other than 200 from no answer at all.
      this.#lost(source.readyState === EventSource.CLOSED ? "refused" : "unreachable");
    });
    this.#control(source, "reset", (event) => {
      const { reason } = parse(event.data) ?? {};
      this.#call(this.#options.onReset, { reason: String(reason ?? "unknown"), id: this.#lastEventId });
    });
    this.#control(source, "reconnect", (event) => {
      const { reason, retry_ms: retryMs } = parse(event.data) ?? {};
      const given = typeof retryMs === "number" && retryMs >= 0;
      const delayMs = given ? Math.min(retryMs, LONGEST_WAIT_MS) : this.#backoff();
      this.#settle();
      this.#drop();
      this.#wait(typeof reason === "string" ? reason : "server", { delayMs, floorMs: delayMs, byServer: true });
    });
    // "message" always: it brings the greeting, wanted or not.
    for (const type of new Set(["message", ...this.#types])) this.#register(source, type);
    this.#timer = setTimeout(() => this.#lost("timeout"), this.#options.timeoutMs);
  }

  /** @param {EventSource} source @param {string} type @param {(event: MessageEvent) => void} handle */
  #control(source, type, handle) {
    this.#registered.add(type);
    source.addEventListener(type, (event) => {
      if (this.#source !== source) return;
      this.#arrived(event);
      handle(event);
    });
  }

  /** @param {EventSource} source @param {string} type */
  #register(source, type) {
    if (this.#registered.has(type)) return;
    this.#registered.add(type);
    source.addEventListener(type, (event) => {
      // "open" and "error" are names the browser uses for events of its own.
      if (!(event instanceof MessageEvent) || this.#source !== source) return;
      // Only the first frame can be the greeting: later ones of that shape are
      // application data, whatever they claim.
      if (type === "message" && this.#state === "connecting") {
        const greeting = parse(event.data);
        if (greeting?.type === "connected") return this.#arrived(event, String(greeting.instance_id ?? ""));
      }
      this.#arrived(event);
      if (this.#source !== source || !this.#types.has(type)) return;
      const { data, lastEventId: id } = event;
      this.#call(this.#options.onEvent, { type, data, id, json: () => JSON.parse(data) });
    });
  }

  /**
   * Any frame: remember the position; the first also means "open". A type
   * nobody listens to is not seen here, so the id may lag behind; resuming
   * then replays only events that were never delivered.
   * @param {MessageEvent} event @param {string} [instanceId]
   */
  #arrived(event, instanceId) {
    if (event.lastEventId) this.#lastEventId = event.lastEventId;
    if (this.#state !== "connecting") return;
    clearTimeout(this.#timer);
    if (instanceId) this.#instanceId = instanceId;
    this.#openedAt = Date.now();
    this.#opens += 1;
    this.#setState("open");
  }

  // --- losing it and waiting ------------------------------------------------

  /** @param {ReconnectReason} reason */
  #lost(reason) {
    this.#settle();
    this.#drop();
    this.#wait(reason, { delayMs: this.#backoff() });
  }

  /**
   * The backoff starts over once a connection has opened. Connections that open
   * and end at once are counted, though, or a server that accepts and drops
   * would be asked several times a second.
   */
  #settle() {
    if (this.#state !== "open") return;
    if (Date.now() - this.#openedAt >= STABLE_MS) this.#flaps = 0;
    this.#failures = this.#flaps;
    this.#flaps = Math.min(this.#flaps + 1, MOST_FLAPS);
  }

  /** Full jitter: anywhere up to the exponential bound. */
  #backoff() {
    const { minBackoffMs, maxBackoffMs } = this.#options;
    const bound = Math.min(maxBackoffMs, minBackoffMs * 2 ** this.#failures);
    this.#failures += 1;
    return Math.random() * bound;
  }

  /**
   * @param {ReconnectReason} reason
   * @param {{delayMs: number, floorMs?: number, byServer?: boolean, error?: any}} how
   */
  #wait(reason, { delayMs, floorMs = 0, byServer = false, error }) {
    const run = this.#run;
    const now = Date.now();
    this.#dueAt = now + delayMs;
    this.#notBefore = now + floorMs;
    this.#timer = setTimeout(() => this.#attempt(), delayMs);
    const plan = { reason, byServer, delayMs: Math.round(delayMs), attempt: this.#failures, error };
    this.#setState("waiting", plan);
    if (run === this.#run) this.#call(this.#options.onReconnect, plan);
  }

  /** Try soon, though never earlier than the server allowed. */
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
      // The stream may have survived only on paper; resuming loses nothing.
      if (this.#wasOffline && this.#state === "open") this.#lost("network");
      this.#wasOffline = false;
      this.#wake();
    }, { signal });
    // Background tabs have their timers slowed: catch up when looked at.
    globalThis.document?.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.#wake();
    }, { signal });
  }

  #drop() {
    this.#run += 1;
    clearTimeout(this.#timer);
    this.#issuing?.abort();
    this.#issuing = null;
    this.#source?.close();
    this.#source = null;
  }

  #isFinal() {
    return this.#state === "closed" || this.#state === "unauthorized";
  }

  /** @param {"closed" | "unauthorized"} state @param {any} [error] */
  #finish(state, error) {
    if (this.#state === "closed") return;
    this.#drop();
    this.#teardown.abort();
    this.#setState(state, { error });
  }

  /** @param {StreamState} state @param {object} [facts] */
  #setState(state, facts = {}) {
    const previous = this.#state;
    this.#state = state;
    const { attempt, instanceId, lastEventId, reconnects } = this;
    this.#call(this.#options.onState, { ...facts, state, previous, attempt, instanceId, lastEventId, reconnects });
  }

  /** A mistake in a callback is the page's to see, and must not end the stream. */
  #call(/** @type {Function | undefined} */ callback, /** @type {object} */ argument) {
    try {
      callback?.(argument);
    } catch (error) {
      if (typeof reportError === "function") reportError(error);
      else console.error(error);
    }
  }
}

// --- helpers ------------------------------------------------------------------

/** @param {string} base @param {string} principal */
function issueWithPrincipal(base, principal) {
  return async (/** @type {{signal: AbortSignal}} */ { signal }) => {
    let answer;
    try {
      answer = await fetch(base + ISSUE_PATH, {
        method: "POST",
        headers: { "X-VX11-Token": principal, Accept: "application/json" },
        cache: "no-store",
        redirect: "error", // a redirect would hand the principal to another address
        signal,
      });
    } catch {
      throw new IssueError("the server could not be reached", { code: "network" });
    }
    const body = await answer.json().catch(() => null);
    if (answer.ok) return body;
    throw new IssueError(body?.detail ?? body?.title ?? `the server answered ${answer.status}`, {
      status: answer.status,
      code: body?.code,
      requestId: body?.request_id,
      retryAfterMs: retryAfter(answer.headers.get("Retry-After")),
    });
  };
}

/**
 * Seconds or an HTTP date, as milliseconds from now.
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
  // "" means this page's origin, not the folder the page happens to be in.
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
