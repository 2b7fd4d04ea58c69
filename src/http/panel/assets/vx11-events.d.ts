/** Types of the vx11-operator event stream client. */

/**
 * - `idle`: created, not started yet
 * - `issuing`: asking for a stream token
 * - `connecting`: token in hand, stream requested
 * - `open`: the server's greeting has arrived
 * - `waiting`: a further attempt is scheduled
 * - `unauthorized`: no token, status 401: nobody is logged in, or the principal is wrong; final
 * - `forbidden`: no token, status 403: this user may not have one; final
 * - `closed`: `close()` was called or the signal aborted; final
 */
export type StreamState =
  | "idle"
  | "issuing"
  | "connecting"
  | "open"
  | "waiting"
  | "unauthorized"
  | "forbidden"
  | "closed";

/**
 * Why a connection ended, or could not be made. Said by the server: `drain` (the
 * instance is shutting down), `max_age`, `slow` (this client did not keep up),
 * `revoked`, or `server` if it gave no reason. Noticed by the client:
 * - `cut`: an open stream ended without a word
 * - `silent`: nothing arrived in time: no answer, or not even a heartbeat
 * - `refused`: the answer was no stream; see `status` and `code`
 * - `unreachable`: there was no answer; `error` is what `fetch` threw. A browser does not
 *   tell a page more: no server listens, or it does not allow pages of this origin (CORS)
 * - `offline`: the browser had been offline, and what it held open may be dead
 * - `issue`: no token was to be had; see `status`, `code` and `error`
 * - `requested`: `reconnect()` was called
 */
export type Cause =
  | "drain"
  | "max_age"
  | "slow"
  | "revoked"
  | "server"
  | "cut"
  | "silent"
  | "refused"
  | "unreachable"
  | "offline"
  | "issue"
  | "requested"
  | (string & {});

export interface StreamEvent {
  /** The event's name, `message` unless the publisher chose another. */
  readonly type: string;
  /** The data exactly as received. Untrusted: do not insert it as HTML. */
  readonly data: string;
  /** Position in the stream; unique, but not meant to be taken apart. */
  readonly id: string;
  /** The data parsed as JSON. Throws a SyntaxError if it is not JSON. */
  json<T = unknown>(): T;
}

export interface ReconnectPlan {
  readonly cause: Cause;
  /** True if the server asked for it, false if the client noticed a failure. */
  readonly byServer: boolean;
  /** HTTP status of an answer that was not the one asked for, 0 if there was none. */
  readonly status: number;
  /** `code` of its problem document, or what an `IssueError` says; `""` if there is none. */
  readonly code: string;
  /** Milliseconds until the next attempt, unless the page wakes it earlier. */
  readonly delayMs: number;
  /** Failures in a row so far. */
  readonly attempt: number;
  /**
   * With cause `issue`: what `issueToken` threw; with `refused`: an error with the
   * answer's words; with `unreachable`: what `fetch` threw.
   */
  readonly error?: unknown;
}

/** The stream goes on right after the last event seen: nothing is missed. */
export interface StreamResume {
  /** The position it resumed after. */
  readonly after: string;
}

/**
 * There is a gap: events between `after` and `id` are not coming. Announced when
 * a stream opens that could not be resumed, or at any time on an open one when
 * the log of events was lost; the stream goes on either way.
 */
export interface StreamReset {
  /**
   * Why: `epoch` (the log of events was lost and started anew), `expired` (no
   * longer kept), `future` (the log ends before `after`), `unknown` (nobody can tell).
   */
  readonly reason: "epoch" | "expired" | "future" | "unknown" | (string & {});
  /** The last position before the gap. */
  readonly after: string;
  /** The position from which the stream goes on. */
  readonly id: string;
}

/**
 * The instance that serves this stream cannot reach the log of events. The
 * stream stays open and brings nothing new until `onRecovered`; what is
 * published elsewhere meanwhile is not lost and comes then. Publishing through
 * this instance answers 503.
 */
export interface StreamDegraded {
  readonly reason: "log_unavailable" | (string & {});
}

export interface StateChange extends Partial<ReconnectPlan> {
  readonly state: StreamState;
  readonly previous: StreamState;
  readonly attempt: number;
  /** Serving instance, from the greeting; `""` before the first one. */
  readonly instanceId: string;
  readonly lastEventId: string;
  readonly reconnects: number;
}

/** The answer of the token endpoint. Only `sse_token` is needed. */
export interface IssuedToken {
  sse_token: string;
  token_id?: string;
  expires_in?: number;
  expires_at?: string;
  instance_id?: string;
  backend?: "redis" | "memory" | "fallback-memory";
}

interface CommonOptions {
  /** Where vx11-operator is, with any path prefix. Default: the page's origin. */
  baseUrl?: string;
  /** Resume after this event instead of starting with what comes next. */
  lastEventId?: string;
  /** First backoff bound, doubled per failure; delays are random up to it. Default 500. */
  minBackoffMs?: number;
  /** Largest backoff bound. Default 30000. */
  maxBackoffMs?: number;
  /** Time allowed for a token, and again for the first frame. Default 15000. */
  timeoutMs?: number;
  /**
   * Longest silence of an open stream before it counts as dead. Has to be longer
   * than the service's heartbeat (`streams.heartbeat_seconds`, 15). Default 40000.
   */
  silenceMs?: number;
  /** Aborting it closes the stream. */
  signal?: AbortSignal;
  /** Every published event, of whatever type, in order. */
  onEvent?(event: StreamEvent): void;
  /**
   * The state has changed. Without this callback, whatever keeps the stream from
   * opening or cuts it is printed with `console.warn`: once for each cause, and
   * again after a stream has opened. A printed line contains no token. What
   * `onReconnect` or `onUnauthorized` reports is not printed either.
   */
  onState?(change: StateChange): void;
  /**
   * Status 401 from `issueToken`: the user's session has ended, or never began.
   * The stream is closed for good; call `connect` again after the login.
   */
  onUnauthorized?(change: StateChange): void;
  /**
   * A stream that was opened again, or with `lastEventId`, has been resumed. Each
   * such stream calls this or `onReset`: mostly at once, but where older events
   * have to be looked up, or the log is out of reach, only with what comes next.
   */
  onResume?(resume: StreamResume): void;
  /** Events were missed: load the current state of the world afresh. */
  onReset?(reset: StreamReset): void;
  /** No new events for now: the instance cannot reach the log. */
  onDegraded?(degraded: StreamDegraded): void;
  /** It can again. Not called when the stream ends first: the next one says itself how it stands. */
  onRecovered?(): void;
  /** A reconnect has been scheduled, for whatever reason. */
  onReconnect?(plan: ReconnectPlan): void;
}

export interface IssueTokenOptions extends CommonOptions {
  /**
   * Obtain a stream token, normally from your own backend, which holds the
   * principal. Called before every connection. Throw an `IssueError` (or any
   * object with `status` / `retryAfterMs`) to say more than "failed": status
   * 401 and 403 are final, `retryAfterMs` is the least time to wait.
   */
  issueToken(context: { signal: AbortSignal }): Promise<string | IssuedToken>;
  principal?: undefined;
}

export interface PrincipalOptions extends CommonOptions {
  /**
   * The principal itself, sent as `X-VX11-Token`. For operators' tools only: it
   * is long-lived, and whoever can read the page's memory can read it.
   */
  principal: string;
  issueToken?: undefined;
}

export type ConnectOptions = IssueTokenOptions | PrincipalOptions;

/**
 * Open the stream and keep it open until `close()`. Callbacks run after this
 * has returned, never before.
 * @throws TypeError if neither or both of `issueToken` and `principal` are given.
 */
export function connect(options: ConnectOptions): EventStream;

export class EventStream {
  constructor(options: ConnectOptions);
  readonly state: StreamState;
  /** Instance that serves the stream; the last that did, while reconnecting. */
  readonly instanceId: string;
  /** Where the next connection resumes. */
  readonly lastEventId: string;
  /** Failures in a row; 0 while open. */
  readonly attempt: number;
  /** How often the stream has been opened again after the first time. */
  readonly reconnects: number;
  /**
   * `""`, or why the serving instance brings no new events at present, such as
   * `log_unavailable`. An instance's word ends with its stream: `""` while there is none.
   */
  readonly degraded: string;
  /** Drop the connection or the wait, and connect now with a new token. */
  reconnect(): void;
  /** End the stream for good. */
  close(): void;
}

/** Why no token could be issued. Never carries the principal or a token. */
export class IssueError extends Error {
  constructor(
    message: string,
    facts?: { status?: number; code?: string; requestId?: string; retryAfterMs?: number; cause?: unknown },
  );
  /** HTTP status, 0 if there was no answer. */
  readonly status: number;
  /** The `code` of the problem document, or `network`, `timeout`, `no_token`. */
  readonly code: string;
  readonly requestId: string;
  readonly retryAfterMs: number;
  /** The error that led to this one, if there was one: with `network`, what `fetch` threw. */
  readonly cause?: unknown;
}
