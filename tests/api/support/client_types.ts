// Uses all types of the client. The compiler checks this file; it is never run.

import {
  connect,
  EventStream,
  IssueError,
  type Cause,
  type ConnectOptions,
  type IssuedToken,
  type IssueTokenOptions,
  type PrincipalOptions,
  type ReconnectPlan,
  type StateChange,
  type StreamDegraded,
  type StreamEvent,
  type StreamReset,
  type StreamResume,
  type StreamState,
} from "/client/vx11-events.js";

interface Order {
  number: number;
}

const abort = new AbortController();

const byBackend: IssueTokenOptions = {
  baseUrl: "https://events.example/sse",
  lastEventId: "1-2",
  topics: ["orders/*", "users/7"] as const,
  from: "start",
  minBackoffMs: 500,
  maxBackoffMs: 30_000,
  timeoutMs: 15_000,
  silenceMs: 40_000,
  signal: abort.signal,
  issueToken: async ({ signal }: { signal: AbortSignal }): Promise<IssuedToken> => {
    let answer: Response;
    try {
      answer = await fetch("/sse-token", { method: "POST", signal });
    } catch (cause) {
      throw new IssueError("the backend cannot be reached", { code: "network", cause });
    }
    if (answer.ok) return answer.json();
    throw new IssueError("no token", { status: answer.status, requestId: "r-1", retryAfterMs: 1_000 });
  },
  onEvent: (event: StreamEvent) => {
    const texts: string[] = [event.type, event.topic, event.data, event.id];
    const order: Order = event.json<Order>();
    const unknown: unknown = event.json();
    // @ts-expect-error: an event cannot be changed
    event.type = "other";
    return void [texts, order.number, unknown];
  },
  onState: (change: StateChange) => {
    const texts: string[] = [change.state, change.previous, change.instanceId, change.lastEventId];
    const numbers: number[] = [change.attempt, change.reconnects, change.status ?? 0, change.delayMs ?? 0];
    const cause: Cause | undefined = change.cause;
    const error: unknown = change.error;
    return void [texts, numbers, cause, error, label(change.state)];
  },
  onUnauthorized: (change: StateChange) => {
    const status: number | undefined = change.status;
    if (change.error instanceof IssueError) throw new Error(`${status}: ${change.error.message}`);
  },
  onResume: ({ after }: StreamResume) => after.length,
  onReset: ({ reason, after, id }: StreamReset) => [reason, after, id].join(),
  onDegraded: ({ reason }: StreamDegraded) => reason.length,
  onRecovered: () => {},
  onReconnect: (plan: ReconnectPlan) => {
    const facts: [Cause, boolean, number, string] = [plan.cause, plan.byServer, plan.status, plan.code];
    const numbers: [number, number] = [plan.delayMs, plan.attempt];
    const { error } = plan;
    if (!(error instanceof IssueError)) return void [facts, numbers];
    const { status, code, requestId, retryAfterMs, name, cause } = error;
    const ofError: [number, number, string, string, string, unknown] =
      [status, retryAfterMs, code, requestId, name, cause];
    return void ofError;
  },
};

/** A label for each state: a missing one is an error of the compiler. */
function label(state: StreamState): string {
  switch (state) {
    case "idle":
    case "issuing":
    case "connecting":
    case "open":
    case "waiting":
      return "working";
    case "unauthorized":
    case "forbidden":
    case "invalid":
    case "replaced":
    case "closed":
      return "ended";
  }
}

const last = 10;
const withPrincipal: PrincipalOptions = { principal: "p", topics: ["*"], from: `-${last}` };
const issued: IssuedToken = { sse_token: "t", subject: "ada", topics: ["a"], stream_url: "/s?token=t" };
const either: ConnectOptions[] = [byBackend, withPrincipal, { issueToken: async () => issued }, { issueToken: async () => "token" }];
const events: EventStream = connect(either[0]!);
const constructed: EventStream = new EventStream(withPrincipal);
const texts: string[] = [events.state, events.instanceId, events.lastEventId, events.degraded];
const numbers: number[] = [events.attempt, events.reconnects];
events.reconnect();
constructed.close();
void [texts, numbers];

// @ts-expect-error: a source of tokens is required
connect({});
// @ts-expect-error: one source of tokens, not two
connect({ principal: "p", issueToken: async () => "token" });
// @ts-expect-error: a token, or an object that holds it as sse_token
connect({ issueToken: async () => ({ token: "t" }) });
// @ts-expect-error: a list, not one text
connect({ principal: "p", topics: "orders/*" });
// @ts-expect-error: no such beginning
connect({ principal: "p", from: "end" });
// @ts-expect-error: no such callback
connect({ principal: "p", onError: () => {} });
// @ts-expect-error: the state cannot be set
events.state = "open";
