/** Types of the vx11-operator event stream client. */

/**
 * - `idle`: created, not started yet
 * - `issuing`: requesting a stream token
 * - `connecting`: the token is there, the stream is requested
 * - `open`: the first frame has arrived
 * - `waiting`: the next attempt is scheduled
 * - `unauthorized`: no token, status 401: nobody is logged in, or the credential is wrong; final
 * - `forbidden`: status 403: this user may not have a token, or the token does not grant the topics
 *   (code `not_permitted`); final
 * - `invalid`: status 400: the service does not understand the request, such as a topic of a wrong
 *   form; final
 * - `replaced`: another stream of the same user, or of the same single-use token, took the place of
 *   this one; final, because two tabs that come back would replace each other for ever
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
  | "invalid"
  | "replaced"
  | "closed";

/**
 * Cause of the end of a connection, or of a failed attempt. Reasons that the server gives:
 * - `drain`: the instance is shutting down
 * - `max_age`: the stream reached its maximum age
 * - `slow`: this client did not keep up
 * - `grant_ended`: the time is over that the backend has set for the streams of the token
 * - `revoked`: the token was revoked, or all tokens of its user
 * - `blocked`: the user is blocked for some time
 * - `ended`: somebody ended the stream
 * - `replaced`: another stream took the place of this one; final, with the state `replaced`
 * - `lease_lost`: after an outage, the place of this stream or its single-use token belongs to
 *   another stream
 * - `server`: the server gave no reason
 *
 * After `grant_ended`, `revoked`, `blocked`, `ended` and `lease_lost` the client asks for a token
 * again. It waits longer each time if the streams end within a minute. `issueToken` decides: 401
 * and 403 are final.
 *
 * Causes that the client finds:
 * - `cut`: an open stream ended without a reason
 * - `silent`: nothing arrived in time: no answer, or not even a heartbeat
 * - `refused`: the answer was no stream; see `status` and `code`. Final if the status is 400 or the
 *   code is `not_permitted`
 * - `unreachable`: there was no answer; `error` is what `fetch` threw. A page cannot find out which
 *   it is: no server listens, or the server does not allow pages of this origin (CORS)
 * - `offline`: the browser was offline, so that its connections may be dead
 * - `issue`: no token could be issued; see `status`, `code` and `error`
 * - `requested`: `reconnect()` was called
 */
export type Cause =
  | "drain"
  | "max_age"
  | "slow"
  | "grant_ended"
  | "revoked"
  | "blocked"
  | "ended"
  | "replaced"
  | "lease_lost"
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
  /** The event's type, `message` unless the publisher set another. */
  readonly type: string;
  /**
   * The event's topic, `default` unless the publisher chose another: the first of its topics that
   * this stream reads.
   */
  readonly topic: string;
  /** The data exactly as received. It is untrusted: do not insert it as HTML. */
  readonly data: string;
  /** Position in the event log: unique and opaque. */
  readonly id: string;
  /** Parses the data as JSON. Throws a SyntaxError if it is not JSON. */
  json<T = unknown>(): T;
}

export interface ReconnectPlan {
  readonly cause: Cause;
  /** True if the server ended the stream with a reason, false after a failure. */
  readonly byServer: boolean;
  /** HTTP status of an answer that was neither a token nor a stream; 0 if there was none. */
  readonly status: number;
  /** `code` of its problem document, or of an `IssueError`; `""` if there is none. */
  readonly code: string;
  /** Milliseconds until the next attempt; fewer if the page becomes visible or online. */
  readonly delayMs: number;
  /** Failures in a row so far. */
  readonly attempt: number;
  /**
   * With cause `issue`, what `issueToken` threw. With `refused`, an error with the text of the
   * answer. With `unreachable`, what `fetch` threw.
   */
  readonly error?: unknown;
}

/** The stream continues right after the last event seen: nothing was missed. */
export interface StreamResume {
  /** Position after which it resumed. */
  readonly after: string;
}

/**
 * Events between `after` and `id` are missing and will not come. This is reported after the opening
 * of a stream that could not be resumed, or on an open stream if the event log was lost. The stream
 * continues in both cases.
 */
export interface StreamReset {
  /**
   * Reset reason:
   * - `epoch`: the event log was lost and started again
   * - `expired`: the missing events are no longer kept
   * - `future`: the event log ends before `after`
   * - `unknown`: the service cannot find `after` in the event log
   */
  readonly reason: "epoch" | "expired" | "future" | "unknown" | (string & {});
  /** Last position before the missing events; `""` if there is none. */
  readonly after: string;
  /** Position after which the stream continues. */
  readonly id: string;
}

/**
 * The event log is unavailable to the instance that serves this stream. The stream stays open and
 * delivers no events until `onRecovered`. Events that other instances accept meanwhile are not
 * lost and come then. This instance answers 503 to publishing.
 */
export interface StreamDegraded {
  readonly reason: "log_unavailable" | (string & {});
}

export interface StateChange extends Partial<ReconnectPlan> {
  readonly state: StreamState;
  readonly previous: StreamState;
  readonly attempt: number;
  /** Instance that serves the stream, from its first frame; `""` before the first stream. */
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
  /** The end user for whom it was issued. */
  subject?: string;
  /** Patterns of the topics that it reads. */
  topics?: string[];
  /** Path and query with which a native `EventSource` opens its stream. */
  stream_url?: string;
}

interface CommonOptions {
  /** Base URL of vx11-operator, with any path prefix. Default: the page's origin. */
  baseUrl?: string;
  /**
   * Patterns of the topics to read, 1 to 16: a topic (`orders/17`), all topics below one
   * (`orders/*`), or `*`. They narrow what the token grants; a topic that it does not grant closes
   * the stream for good, with the state `forbidden`. With `principal`, tokens are issued for them.
   * Without this option the stream has all topics that the token grants, which is `default` if
   * nobody chose others.
   */
  topics?: readonly string[];
  /** Resumes after this event. Without it, the stream starts with the next event. */
  lastEventId?: string;
  /**
   * Starts with events that the log still has, if there is no position to resume after: `start`
   * for all of them, `-N` for the last N of these topics, at most 1000.
   */
  from?: "start" | `-${number}`;
  /**
   * First bound of the backoff in milliseconds, doubled for each failure. Waits are random up to
   * the bound. Default 500.
   */
  minBackoffMs?: number;
  /** Largest bound of the backoff, in milliseconds. Default 30000. */
  maxBackoffMs?: number;
  /** Deadline for a token, and again for the first frame, in milliseconds. Default 15000. */
  timeoutMs?: number;
  /**
   * Milliseconds of silence after which an open stream counts as dead. This has to be longer than
   * the service's heartbeat interval (`streams.heartbeat_seconds`, 15). Default 40000.
   */
  silenceMs?: number;
  /** Closes the stream when it is aborted. */
  signal?: AbortSignal;
  /** Receives each event, of any type, in order. */
  onEvent?(event: StreamEvent): void;
  /**
   * Reports each change of the state. Without this callback, the client prints failures with
   * `console.warn`: each cause once, and once again after a stream has opened. Failures that
   * `onReconnect` or `onUnauthorized` reports are not printed. A printed line contains no token.
   */
  onState?(change: StateChange): void;
  /**
   * Reports status 401 from `issueToken`: the user's session has ended, or there was none. The
   * stream is closed for good; call `connect` again after the login.
   */
  onUnauthorized?(change: StateChange): void;
  /**
   * Reports that a stream resumed which was opened again, or opened with `lastEventId`. Each such
   * stream calls this or `onReset`: at once, or with the next event if the service has to look up
   * older events first, or if the event log is unavailable.
   */
  onResume?(resume: StreamResume): void;
  /** Reports that events were missed: load the current state of your data again. */
  onReset?(reset: StreamReset): void;
  /** Reports that no events come for now: the event log is unavailable to the instance. */
  onDegraded?(degraded: StreamDegraded): void;
  /**
   * Reports that the event log is available again. It is not called if the stream ends before:
   * the next stream calls `onDegraded` again if that is still needed.
   */
  onRecovered?(): void;
  /** Reports each scheduled reconnect, with its cause. */
  onReconnect?(plan: ReconnectPlan): void;
}

export interface IssueTokenOptions extends CommonOptions {
  /**
   * Gets a stream token, normally from your own backend, which has the credential. It is called
   * before each connection. Throw an `IssueError`, or any object with `status` or `retryAfterMs`,
   * to report details: status 401 and 403 are final, `retryAfterMs` is the shortest wait. So a user
   * who may not read any more loses the stream for good when it ends.
   */
  issueToken(context: { signal: AbortSignal }): Promise<string | IssuedToken>;
  principal?: undefined;
}

export interface PrincipalOptions extends CommonOptions {
  /**
   * Credential of a principal, sent as `X-VX11-Token` to issue tokens. It is for tools of operators
   * only: it is long-lived, and any script of the page can read it.
   */
  principal: string;
  issueToken?: undefined;
}

export type ConnectOptions = IssueTokenOptions | PrincipalOptions;

/**
 * Opens the stream and keeps it open until `close()`. Callbacks run after this function has
 * returned.
 * @throws TypeError if neither or both of `issueToken` and `principal` are given, or if `topics` is
 * no list of 1 to 16 texts, or if `from` is neither `start` nor `-1` to `-1000`.
 */
export function connect(options: ConnectOptions): EventStream;

export class EventStream {
  constructor(options: ConnectOptions);
  readonly state: StreamState;
  /** Instance that serves the stream, or served it last. */
  readonly instanceId: string;
  /**
   * Position after which the next connection resumes: that of the last event, or of a later
   * heartbeat, so that a stream without events resumes, too.
   */
  readonly lastEventId: string;
  /** Failures in a row; 0 while open. */
  readonly attempt: number;
  /** Number of times that the stream was opened again. */
  readonly reconnects: number;
  /**
   * Reason why the open stream delivers no events at present, such as `log_unavailable`; `""` if
   * it delivers them, and while there is no stream.
   */
  readonly degraded: string;
  /** Ends the connection or the wait, and connects now with a new token. */
  reconnect(): void;
  /** Ends the stream for good. */
  close(): void;
}

/** Reason why no token could be issued. It never contains a credential or a token. */
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
  /** The error that led to this one, if any. With `network`, what `fetch` threw. */
  readonly cause?: unknown;
}
