/** Types of the vx11-operator event stream client. */

/**
 * - `idle`: created, not started yet
 * - `issuing`: asking for a stream token
 * - `connecting`: token in hand, stream requested
 * - `open`: the server's greeting has arrived
 * - `waiting`: a further attempt is scheduled
 * - `unauthorized`: the principal was refused (401); final
 * - `closed`: `close()` was called or the signal aborted; final
 */
export type StreamState =
  | "idle"
  | "issuing"
  | "connecting"
  | "open"
  | "waiting"
  | "unauthorized"
  | "closed";

/**
 * Asked for by the server: `drain` (the instance is shutting down), `max_age`,
 * `slow` (this client did not keep up), `revoked`, or `server` if it gave none.
 * Noticed by the client: `lost` (an open stream ended), `refused` (answered with
 * an error), `unreachable` (no answer), `timeout` (no first frame in time),
 * `network` (came back online), `issue` (no token; see `error`).
 */
export type ReconnectReason =
  | "drain"
  | "max_age"
  | "slow"
  | "revoked"
  | "server"
  | "lost"
  | "refused"
  | "unreachable"
  | "timeout"
  | "network"
  | "issue"
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
  readonly reason: ReconnectReason;
  /** True if the server asked for it, false if the client noticed a failure. */
  readonly byServer: boolean;
  /** Milliseconds until the next attempt, unless the page wakes it earlier. */
  readonly delayMs: number;
  /** Failures in a row so far. */
  readonly attempt: number;
  /** With reason `issue`: what `issueToken` threw. */
  readonly error?: unknown;
}

/** There is a gap: events between the last one seen and `id` are not coming. */
export interface StreamReset {
  /**
   * Why the position could not be resumed: `epoch` (another history, e.g. after
   * a restart without storage), `expired` (no longer kept), `future`, `unknown`.
   */
  readonly reason: "epoch" | "expired" | "future" | "unknown" | (string & {});
  /** The position from which the stream goes on. */
  readonly id: string;
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
  /**
   * Event types to receive, default `["message"]`. The browser delivers only
   * types named beforehand; add more at any time with `listen()`.
   * `reset` and `reconnect` belong to the protocol and have their own callbacks.
   */
  eventTypes?: Iterable<string>;
  /** Resume after this event instead of starting with what comes next. */
  lastEventId?: string;
  /** First backoff bound, doubled per failure; delays are random up to it. Default 500. */
  minBackoffMs?: number;
  /** Largest backoff bound. Default 30000. */
  maxBackoffMs?: number;
  /** Time allowed for a token, and again for the first frame. Default 15000. */
  timeoutMs?: number;
  /** Aborting it closes the stream. */
  signal?: AbortSignal;
  onEvent?(event: StreamEvent): void;
  onState?(change: StateChange): void;
  /** Events were missed: load the current state of the world afresh. */
  onReset?(reset: StreamReset): void;
  /** A reconnect has been scheduled, for whatever reason. */
  onReconnect?(plan: ReconnectPlan): void;
}

export interface IssueTokenOptions extends CommonOptions {
  /**
   * Obtain a stream token, normally from your own backend, which holds the
   * principal. Called before every connection. Throw an `IssueError` (or any
   * object with `status` / `retryAfterMs`) to say more than "failed": status
   * 401 is final, `retryAfterMs` is the least time to wait.
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
  readonly eventTypes: string[];
  /** Receive further event types, from now on and after each reconnect. */
  listen(...types: string[]): void;
  /** Stop receiving these event types. */
  unlisten(...types: string[]): void;
  /** Drop the connection or the wait, and connect now with a new token. */
  reconnect(): void;
  /** End the stream for good. */
  close(): void;
}

/** Why no token could be issued. Never carries the principal or a token. */
export class IssueError extends Error {
  constructor(
    message: string,
    facts?: { status?: number; code?: string; requestId?: string; retryAfterMs?: number },
  );
  /** HTTP status, 0 if there was no answer. */
  readonly status: number;
  /** The `code` of the problem document, or `network`, `timeout`, `no_token`. */
  readonly code: string;
  readonly requestId: string;
  readonly retryAfterMs: number;
}
