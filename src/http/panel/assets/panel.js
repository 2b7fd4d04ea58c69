// The panel: signing in, the stream, and the connections between its parts. The credential is kept
// in sessionStorage, which ends with the tab. It is never in an address, in localStorage or in a
// log.

import { connect } from "/client/vx11-events.js";
import { $, browserStorage, call, isHeaderSafe, listed, sentence, setText, stamp, tabStorage } from "./panel-base.js";
import { Cluster } from "./panel-cluster.js";
import { EventList } from "./panel-events.js";
import { History } from "./panel-history.js";
import { Publisher } from "./panel-publish.js";
import { Stats } from "./panel-stats.js";
import { Streams } from "./panel-streams.js";
import { Tokens } from "./panel-tokens.js";

const PRINCIPAL_KEY = "vx11.principal";
const TOPICS_KEY = "vx11.topics";
const SHORTCUTS_KEY = "vx11.shortcuts";
const HEALTH_MS = 5_000;
/** A shorter wait ends before a user could press the button. */
const BUTTON_WORTH_MS = 1_500;

const list = new EventList();
const history = new History();
const cluster = new Cluster();
const stats = new Stats({ stats: showStats, unauthorized: refused });
const publisher = new Publisher({ unauthorized: refused });
const tokens = new Tokens({ unauthorized: refused });
const streams = new Streams({ unauthorized: refused });
let principal = "";
let events = null; // the stream, while signed in
let state = "idle"; // of the stream, in the client's terms
let stateText = "signed out";
let logProblem = ""; // reason why the event log is unavailable to the stream's instance; "" if it is not

// --- signing in and out -------------------------------------------------------

const WRONG = "This credential was not accepted. Is a character missing, or has the credential been replaced?";

$("signin-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const entered = $("principal").value.trim();
  const problem = await refusal(entered);
  setText($("signin-error"), problem);
  $("principal").setAttribute("aria-invalid", String(Boolean(problem)));
  if (problem) $("principal").focus();
  else signIn(entered);
});

/** The reason why a credential cannot be used, or "" if it can. */
async function refusal(entered) {
  if (!entered) return "Enter a credential.";
  if (!isHeaderSafe(entered)) return WRONG;
  $("signin").disabled = true;
  try {
    await call("/operator/internal/cache-stats", { principal: entered });
  } catch (error) {
    // A principal without the right to see figures can use the rest of the panel.
    if (error.code === "not_permitted") return "";
    if (error.status === 401 || error.status === 403) return WRONG;
    if (error.status === 0) return error.message;
    // Other answers do not depend on the credential. The stream will show whether it is valid.
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
  publisher.start(principal);
  tokens.start(principal);
  streams.start(principal);
}

function signOut(problem = "") {
  events?.close();
  events = null;
  stats.stop();
  publisher.stop();
  tokens.stop();
  streams.stop();
  principal = "";
  tabStorage.set(PRINCIPAL_KEY, null);
  tabStorage.set(TOPICS_KEY, null);
  $("topics").value = "";
  showTopicsProblem("");
  list.reset();
  history.clear();
  cluster.reset();
  setText($("instance"), "–");
  setText($("reconnects"), "0");
  showState(problem ? "unauthorized" : "idle", problem ? "unauthorized" : "signed out");
  showLog("");
  $("workspace").hidden = $("signout").hidden = true;
  $("signin-card").hidden = false;
  setText($("signin-error"), problem);
  $("principal").focus();
  pollHealth();
}

$("signout").addEventListener("click", () => signOut());

function refused() {
  if (principal) signOut("The server no longer accepts this credential. Sign in again.");
}

// --- the stream -----------------------------------------------------------------

/**
 * Opens the stream of the chosen topics. It continues at the position of the one before, so that a
 * choice misses nothing.
 */
function openStream() {
  const lastEventId = events?.lastEventId ?? "";
  events?.close();
  showTopicsProblem("");
  const topics = listed($("topics").value);
  events = connect({
    principal,
    lastEventId,
    topics: topics.length ? topics : undefined,
    onEvent: (event) => {
      stats.countEvent();
      list.add(event);
    },
    onState: stateChanged,
    onResume: ({ after }) => history.resumed(after),
    onReset: (gap) => history.reset(gap),
    onDegraded: ({ reason }) => {
      history.degraded(reason);
      showLog(reason);
    },
    onRecovered: () => {
      history.recovered(events.lastEventId);
      showLog("");
    },
  });
}

/** Texts for states that the client names differently. */
const STATES = {
  issuing: "connecting", open: "connected", waiting: "reconnecting", forbidden: "not permitted", invalid: "not understood",
};

function stateChanged(change) {
  const { state: next, instanceId, reconnects } = change;
  if (next === "closed") return; // signing out, or another choice of topics
  if (change.code === "not_permitted" || next === "invalid") return denied(next, change.error.message);
  if (next === "unauthorized" || next === "forbidden") return refused();
  history.state(change);
  showState(next, STATES[next] ?? next);
  $("connect-now").hidden = next !== "waiting" || change.delayMs < BUTTON_WORTH_MS;
  if (next === "open") {
    setText($("instance"), instanceId || "–");
    setText($("reconnects"), String(reconnects));
    cluster.serving(instanceId);
    stats.refresh();
  } else {
    showLog(""); // without a stream, the state of its instance's event log is unknown
  }
}

$("topics-form").addEventListener("submit", (event) => {
  event.preventDefault();
  tabStorage.set(TOPICS_KEY, $("topics").value.trim() || null);
  openStream();
});

/** The stream is closed for good, unless the user chooses other topics. */
function denied(next, why) {
  history.denied(STATES[next], why);
  showState(next, STATES[next]);
  showLog("");
  showTopicsProblem(sentence(why));
}

function showTopicsProblem(problem) {
  setText($("topics-problem"), problem);
  $("topics").setAttribute("aria-invalid", String(Boolean(problem)));
}

function showState(next, text) {
  state = next;
  stateText = text;
  drawState();
  if (state !== "waiting") $("connect-now").hidden = true;
}

/** The state of an open stream is amber while the event log or a store is unavailable. */
function drawState() {
  $("state").dataset.state = state;
  $("state").toggleAttribute("data-degraded", Boolean(logProblem) || !$("degraded").hidden);
  setText($("state"), state === "open" && logProblem ? "log unavailable" : stateText);
}

/** Shows or hides that the event log is unavailable to the instance that serves the stream. */
function showLog(problem) {
  logProblem = problem;
  $("log-problem").hidden = !problem;
  drawState();
  if (!problem) return;
  setText($("log-problem-since"), stamp(new Date()));
  setText($("log-problem-instance"), events.instanceId);
}

$("connect-now").addEventListener("click", () => events?.reconnect());

// --- health of the service ------------------------------------------------------------------

/** Fetches the version, and the backend while nobody is signed in. */
async function pollHealth() {
  if (document.visibilityState !== "visible") return;
  try {
    const health = await call("/operator/api/health");
    setText($("version"), `v${health.version}`);
    if (!principal) showBackend(health.backend, health.status === "degraded" ? "degraded" : "");
  } catch {
    // The state of the connection shows it already.
  }
}

function showStats(answer) {
  cluster.update(answer);
  showBackend(cluster.backend(), cluster.degraded());
}

function showBackend(backend, degraded) {
  setText($("backend"), backend);
  const was = !$("degraded").hidden;
  $("degraded").hidden = !degraded;
  setText($("degraded"), degraded || "degraded");
  $("degraded").title = degraded;
  drawState();
  if (Boolean(degraded) !== was) {
    setText($("announce"), degraded ? "The service is degraded" : "The service is no longer degraded");
  }
}

// --- keyboard and help -----------------------------------------------------------------------

const KEYS = {
  p: () => list.togglePause(),
  c: () => list.clear(),
  "/": () => $("filter").focus(),
};

document.addEventListener("keydown", (event) => {
  if (event.target === $("filter") && event.key === "Escape") return $("filter").blur();
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (document.querySelector("dialog[open]")) return;
  if (!$("shortcuts").checked || event.target.closest("input, textarea, select, [contenteditable]")) return;
  const act = event.key === "?" ? () => $("help").showModal() : principal && KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

// Speech input can press single keys by accident; users can switch the shortcuts off.
$("shortcuts").checked = browserStorage.get(SHORTCUTS_KEY) !== "off";
$("shortcuts").addEventListener("change", () =>
  browserStorage.set(SHORTCUTS_KEY, $("shortcuts").checked ? "on" : "off"));
$("help-open").addEventListener("click", () => $("help").showModal());
$("help-close").addEventListener("click", () => $("help").close());

// --- start ---------------------------------------------------------------------------------------

const saved = tabStorage.get(PRINCIPAL_KEY);
$("topics").value = tabStorage.get(TOPICS_KEY) ?? "";
if (saved) signIn(saved);
else $("principal").focus();
pollHealth();
setInterval(pollHealth, HEALTH_MS);
document.addEventListener("visibilitychange", pollHealth);
