// Runs cases on the browser client in Node: `browser.mjs MODULE`. Reads commands and prints notes,
// each a line of JSON. Node has the same fetch and streams as a browser; tests/api/browser_client
// runs in Chromium.

import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const { IssueError, connect } = await import(pathToFileURL(process.argv[2]).href);

/** Names of options in the table, and here. */
const NAMES = {
  topics: "topics",
  last_event_id: "lastEventId",
  from: "from",
  min_backoff_ms: "minBackoffMs",
  max_backoff_ms: "maxBackoffMs",
  timeout_ms: "timeoutMs",
  silence_ms: "silenceMs",
};
const FINAL = ["unauthorized", "forbidden", "invalid", "replaced"];

/** A token of the application's own backend. */
const fromBackend = (address) => async ({ signal }) => {
  const answer = await fetch(address, { method: "POST", signal });
  const retryAfterMs = 1000 * Number(answer.headers.get("Retry-After"));
  if (!answer.ok) throw new IssueError("no token", { status: answer.status, retryAfterMs });
  return answer.json();
};

function start(spec) {
  const note = (facts) => console.log(JSON.stringify({ case: spec.case, ...facts }));
  const options = Object.entries(spec.subscribe).map(([name, value]) => [NAMES[name], value]);
  return connect({
    baseUrl: spec.url,
    ...(spec.backend ? { issueToken: fromBackend(spec.backend) } : { principal: spec.principal }),
    ...Object.fromEntries(options),
    onEvent: ({ id, type, topic, data }) => note({ event: id, type, topic, data }),
    onReset: ({ reason, after, id }) => note({ reset: reason, after, id }),
    onResume: ({ after }) => note({ resumed: after }),
    onDegraded: ({ reason }) => note({ degraded: reason }),
    onRecovered: () => note({ recovered: true }),
    onReconnect: ({ cause, delayMs, status, code }) =>
      note({ waiting: cause, delay_ms: delayMs, status, code }),
    onState: ({ state, instanceId }) => {
      if (state === "open") note({ opened: instanceId });
      if (FINAL.includes(state)) note({ ends: state });
    },
  });
}

const streams = new Map();
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  if (command.stop) streams.get(command.stop).close();
  else streams.set(command.case, start(command));
}
