// The operator panel: signing in, the stream, and what ties the parts together.
// The principal lives in sessionStorage, so it ends with the tab; it is never
// put in an address, in localStorage or in a log.

import { connect } from "/client/vx11-events.js";
import {
  $, CallError, browserStorage, call, clock, el, isHeaderSafe, seconds, setText, tabStorage,
} from "./panel-base.js";
import { EventList } from "./panel-events.js";
import { Stats } from "./panel-stats.js";

const PRINCIPAL_KEY = "vx11.principal";
const TYPES_KEY = "vx11.types";
const SHORTCUTS_KEY = "vx11.shortcuts";
const HEALTH_MS = 5_000;
const HISTORY_ROWS = 50;
/** A shorter wait is over before anybody could press the button. */
const BUTTON_WORTH_MS = 1_500;

const list = new EventList();
const stats = new Stats({ stats: showStats, unauthorized: refused });
let principal = "";
let events = null; // the stream, while signed in

// --- signing in and out -------------------------------------------------------

const WRONG = "This principal was not accepted. Check for a missing character, or whether it has been replaced.";

$("signin-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const entered = $("principal").value.trim();
  const problem = await refusal(entered);
  setText($("signin-error"), problem);
  $("principal").setAttribute("aria-invalid", String(Boolean(problem)));
  if (problem) $("principal").focus();
  else signIn(entered);
});

/** Why this principal cannot be used, or "" if it can. */
async function refusal(entered) {
  if (!entered) return "Enter the principal.";
  if (!isHeaderSafe(entered)) return WRONG;
  $("signin").disabled = true;
  try {
    await call("/operator/internal/cache-stats", { principal: entered });
  } catch (error) {
    if (error.status === 401 || error.status === 403) return WRONG;
    if (error.status === 0) return error.message;
    // Any other answer says nothing about the principal: let the stream find out.
  } finally {
    $("signin").disabled = false;
  }
  return "";
}

function signIn(accepted) {
  principal = accepted;
  tabStorage.set(PRINCIPAL_KEY, principal);
  $("principal").value = "";
  $("signin-card").hidden = true;
  $("workspace").hidden = $("signout").hidden = false;
  $("main").focus({ preventScroll: true });
  openStream();
  stats.start(principal);
}

function signOut(problem = "") {
  events?.close();
  events = null;
  stats.stop();
  principal = "";
  tabStorage.set(PRINCIPAL_KEY, null);
  list.reset();
  $("history").replaceChildren();
  setText($("publish-result"), "");
  setText($("instance"), "–");
  setText($("reconnects"), "0");
  showState(problem ? "unauthorized" : "idle", problem ? "unauthorized" : "signed out");
  announcedOpen = null;
  statsDegraded = false;
  degradedSince = "";
  showDegraded();
  $("workspace").hidden = $("signout").hidden = true;
  $("signin-card").hidden = false;
  setText($("signin-error"), problem);
  $("principal").focus();
}

$("signout").addEventListener("click", () => signOut());

function refused() {
  if (principal) signOut("The server no longer accepts this principal. Sign in again.");
}

// --- the stream -----------------------------------------------------------------

function openStream() {
  events = connect({
    principal,
    eventTypes: rememberedTypes(),
    onEvent: (event) => {
      stats.countEvent();
      list.add(event);
    },
    onState: stateChanged,
    onReset: ({ reason, id }) => {
      note("reset", "Events may have been missed", `${GAPS[reason] ?? GAPS.unknown} (${reason}); goes on after ${id}`);
      announce("Events may have been missed");
    },
    onReconnect: reconnecting,
  });
  showTypes();
}

const GAPS = {
  epoch: "the service's log of events started anew",
  expired: "those published meanwhile are no longer kept",
  future: "the service's log ends before the last event seen here",
  unknown: "the service does not know the last event seen here",
};

/** What the client calls by other names. */
const STATES = { issuing: "connecting", open: "connected", waiting: "reconnecting" };

let announcedOpen = null; // whether the last announcement said connected

function stateChanged(change) {
  const { state, instanceId, lastEventId, reconnects } = change;
  if (state === "closed") return; // signing out, which shows itself
  showState(state, STATES[state] ?? state);
  $("connect-now").hidden = state !== "waiting" || change.delayMs < BUTTON_WORTH_MS;
  if (state === "issuing" || state === "connecting") return trail(state);
  if (state === "open") {
    setText($("instance"), instanceId || "–");
    setText($("reconnects"), String(reconnects));
    stats.serving(instanceId);
    trail(`open on instance ${instanceId}`, lastEventId && `${reconnects ? "resumes" : "starts"} after ${lastEventId}`);
    if (announcedOpen !== true) announce(`Connected to instance ${instanceId}`);
    announcedOpen = true;
  }
  if (state === "waiting") {
    // Once per outage: repeating it for every attempt would drown a listener.
    if (announcedOpen !== false) announce("Connection lost, reconnecting");
    announcedOpen = false;
  }
  if (state === "unauthorized") refused();
}

const REASONS = {
  drain: "the instance is shutting down",
  max_age: "the stream reached its greatest age",
  slow: "this browser did not keep up",
  revoked: "the token was revoked",
  lost: "the connection was lost",
  refused: "the stream was refused",
  unreachable: "the server did not answer",
  timeout: "the stream did not start in time",
  network: "the network came back",
  issue: "no token could be issued",
};

function reconnecting({ reason, byServer, delayMs, attempt, error }) {
  const who = byServer ? "Server asks to reconnect" : "Reconnecting";
  const why = error?.message ? `${REASONS[reason]}: ${error.message}` : REASONS[reason] ?? reason;
  const count = attempt > 1 ? `, attempt ${attempt}` : "";
  note("reconnect", `${who} in ${seconds(delayMs)}${count}`, `${why} (${reason})`);
}

function showState(state, text) {
  $("state").dataset.state = state;
  setText($("state"), text);
  if (state !== "waiting") $("connect-now").hidden = true;
}

const announce = (text) => setText($("announce"), text);

$("connect-now").addEventListener("click", () => events?.reconnect());

// --- what happened ------------------------------------------------------------------

function note(kind, text, detail = "") {
  const at = new Date();
  const entry = el("li", { "data-kind": kind },
    el("time", { datetime: at.toISOString() }, clock(at)),
    el("span", { class: "what" }, text),
    detail ? el("span", { class: "why" }, detail) : "");
  const history = $("history");
  history.prepend(entry);
  while (history.childElementCount > HISTORY_ROWS) history.lastElementChild.remove();
  return entry;
}

/** The states of one attempt share a line: "issuing → connecting → open …". */
function trail(step, detail = "") {
  const latest = $("history").firstElementChild;
  if (step === "issuing" || latest?.dataset.kind !== "state") return note("state", step, detail);
  latest.querySelector(".what").append(` → ${step}`);
  if (detail) latest.append(el("span", { class: "why" }, detail));
  return latest;
}

// --- event types ---------------------------------------------------------------------

function rememberedTypes() {
  try {
    const saved = JSON.parse(tabStorage.get(TYPES_KEY) ?? "[]");
    return new Set(["message", ...saved.filter((type) => typeof type === "string")]);
  } catch {
    return new Set(["message"]);
  }
}

function listenFor(type) {
  if (!type || !events || events.eventTypes.includes(type)) return;
  events.listen(type);
  showTypes();
}

function showTypes() {
  const types = events.eventTypes;
  tabStorage.set(TYPES_KEY, JSON.stringify(types));
  $("types").replaceChildren(...types.map((type) => {
    if (type === "message") return el("li", { class: "chip" }, type);
    const remove = el("button", { type: "button", "aria-label": `Stop listening for ${type}` }, "×");
    remove.addEventListener("click", () => {
      events.unlisten(type);
      showTypes();
      $("listen-type").focus();
    });
    return el("li", { class: "chip" }, type, remove);
  }));
}

$("listen-form").addEventListener("submit", (event) => {
  event.preventDefault();
  listenFor($("listen-type").value.trim());
  $("listen-type").value = "";
});

// --- publishing ------------------------------------------------------------------------

$("publish-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const type = $("publish-type").value.trim() || "message";
  let data;
  try {
    data = JSON.parse($("publish-data").value);
  } catch (error) {
    $("publish-data").setAttribute("aria-invalid", "true");
    $("publish-data").focus();
    return publishResult(false, `Not valid JSON: ${error.message}`);
  }
  $("publish-data").removeAttribute("aria-invalid");
  $("publish").disabled = true;
  publishResult(null, "Publishing…");
  const added = !events.eventTypes.includes(type);
  listenFor(type); // before it is sent, or its own event would be missed
  try {
    const { id } = await call("/operator/api/events", { principal, body: { event: type, data } });
    publishResult(true, `Published as ${id}`);
  } catch (error) {
    // A refused type is not worth listening for; without an answer it may be on its way.
    if (added && error.status >= 400 && error.status < 500) {
      events?.unlisten(type);
      if (events) showTypes();
    }
    if (error.status === 401) return refused();
    publishResult(false, describe(error));
  } finally {
    $("publish").disabled = false;
  }
});

function describe(error) {
  if (!(error instanceof CallError)) return "The event could not be published.";
  const later = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "";
  const request = error.requestId ? ` (request ${error.requestId})` : "";
  return `${error.message}${later}${request}`;
}

function publishResult(good, text) {
  $("publish-result").className = good === false ? "problem" : good ? "good" : "muted";
  setText($("publish-result"), text);
}

$("publish-data").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("publish-form").requestSubmit();
});

// --- health ------------------------------------------------------------------------------

let healthDegraded = false;
let statsDegraded = false;
let degradedSince = "";

async function pollHealth() {
  if (document.visibilityState !== "visible") return;
  try {
    const health = await call("/operator/api/health");
    setText($("version"), `v${health.version}`);
    setText($("backend"), health.backend);
    healthDegraded = health.status === "degraded" || health.backend === "fallback-memory";
    showDegraded();
  } catch {
    // The state of the connection tells it already.
  }
}

function showStats(answer) {
  const since = answer.instance?.degraded_since;
  const recovered = statsDegraded && !since && answer.backend !== "fallback-memory";
  statsDegraded = Boolean(since) || answer.backend === "fallback-memory";
  degradedSince = since ? ` since ${clock(new Date(since))}` : "";
  setText($("backend"), answer.backend);
  showDegraded();
  if (recovered) pollHealth(); // the badge should not outlive the trouble
}

function showDegraded() {
  const degraded = healthDegraded || statsDegraded;
  const was = !$("degraded").hidden;
  $("degraded").hidden = !degraded;
  setText($("degraded"), `degraded${degraded ? degradedSince : ""}`);
  if (degraded !== was) announce(degraded ? "The service is degraded" : "The service is no longer degraded");
}

// --- keyboard and help -----------------------------------------------------------------------

const KEYS = {
  p: () => list.togglePause(),
  c: () => list.clear(),
  "/": () => $("filter").focus(),
};

document.addEventListener("keydown", (event) => {
  if (event.target === $("filter") && event.key === "Escape") return $("filter").blur();
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || $("help").open) return;
  if (!$("shortcuts").checked || event.target.closest("input, textarea, select, [contenteditable]")) return;
  const act = event.key === "?" ? () => $("help").showModal() : principal && KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

// Single keys get in the way of speech input, hence the switch.
$("shortcuts").checked = browserStorage.get(SHORTCUTS_KEY) !== "off";
$("shortcuts").addEventListener("change", () =>
  browserStorage.set(SHORTCUTS_KEY, $("shortcuts").checked ? "on" : "off"));
$("help-open").addEventListener("click", () => $("help").showModal());
$("help-close").addEventListener("click", () => $("help").close());

// --- start ---------------------------------------------------------------------------------------

const saved = tabStorage.get(PRINCIPAL_KEY);
if (saved) signIn(saved);
else $("principal").focus();
pollHealth();
setInterval(pollHealth, HEALTH_MS);
document.addEventListener("visibilitychange", pollHealth);
