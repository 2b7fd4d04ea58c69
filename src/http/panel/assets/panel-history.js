// History of the stream: one line for each reconnect, for each reset, and for each change of the
// event log to unavailable and back. A line begins when something breaks, and is completed when
// the end is known. Planned reconnects that missed nothing share a line, so that a night of them
// does not hide an incident.

import { $, el, seconds, stamp } from "./panel-base.js";
import { visible } from "./panel-text.js";

const KEPT = 50;
/** Cause of the reconnects that happen every few minutes by design. */
const PLANNED = "max_age";

const CAUSES = {
  drain: "the instance is shutting down",
  max_age: "the stream reached its maximum age",
  slow: "this browser read too slowly",
  revoked: "the token was revoked",
  grant_ended: "the time of the token's streams is over",
  blocked: "the subject of the token is blocked",
  ended: "somebody ended the stream",
  replaced: "another stream took its place",
  lease_lost: "its place or its single-use token went to another stream in an outage",
  server: "the server ended the stream without a reason",
  cut: "the connection was cut",
  silent: "nothing arrived in time",
  refused: "the stream was refused",
  unreachable: "the server did not answer",
  offline: "this browser was offline",
  issue: "no token could be issued",
  requested: "requested in this panel",
};

const RESET_REASONS = {
  epoch: "the event log was lost and started again",
  expired: "the missing events are no longer kept",
  future: "the event log ends before the last event seen here",
  unknown: "the last event seen here is unknown to the service",
};

export class History {
  #list = $("history");
  #instance = ""; // serves the stream, or served it last
  /** @type {Outage | null} from the end of one stream to the opening of the next */ #outage = null;
  /** @type {HTMLElement | null} part of a line that is to be completed */ #unsettled = null;
  /** @type {Outage | null} the newest outage that is over */ #last = null;
  #degradedAt = 0;

  /** @param change argument of the client's onState */
  state(change) {
    const { state, cause, instanceId, lastEventId } = change;
    if (state === "waiting" || cause === "requested") this.#outage ??= this.#begin(change);
    if (state === "waiting") this.#outage.waits(change);
    if (state === "issuing") this.#outage?.tries();
    if (state !== "open") return;
    if (this.#outage) {
      this.#unsettled = this.#outage.ends(instanceId, this.#last);
      this.#last = this.#outage;
      this.#outage = null;
      if (!lastEventId) this.#settle("there was nothing to resume", { complete: true });
    } else {
      this.#note("connected", `Connected to instance ${instanceId}`, lastEventId && `starts after ${lastEventId}`);
    }
    this.#instance = instanceId;
  }

  resumed(after) {
    this.#settle(`resumed after ${after}, nothing missed`, { complete: true });
  }

  /** @param gap argument of the client's onReset */
  reset({ reason, after, id }) {
    const why = `${RESET_REASONS[reason] ?? RESET_REASONS.unknown} (${reason})`;
    this.#settle(`reset: ${why}`);
    this.#note("reset", "Reset: events may have been missed", `${why}; last seen ${after || "none"}, continues after ${id}`);
  }

  /** The service refuses the topics of the stream, which is final. */
  denied(what, why) {
    this.#outage?.gaveUp();
    this.#outage = null;
    this.#settle("the stream ended again before it was known whether events were missed");
    this.#note("denied", `No stream of these topics: ${what}`, why);
  }

  degraded(reason) {
    this.#degradedAt = Date.now();
    this.#note("degraded", "Event log unavailable",
      `instance ${this.#instance} cannot reach it (${reason}); the stream stays open`);
  }

  recovered(lastEventId) {
    this.#note("recovered", `Event log available again after ${seconds(Date.now() - this.#degradedAt)}`,
      `instance ${this.#instance} continues ${lastEventId ? `after ${lastEventId}` : "with the next event"}`);
  }

  clear() {
    this.#list.replaceChildren();
    this.#instance = "";
    this.#outage = this.#unsettled = this.#last = null;
  }

  /** Completes the last line, if it is open. `complete` means that nothing was missed. */
  #settle(text, { complete = false } = {}) {
    if (!this.#unsettled) return;
    this.#unsettled.textContent = visible(text);
    this.#unsettled = null;
    this.#last.isComplete = complete;
  }

  #begin({ cause, status, code }) {
    this.#settle("the stream ended again before it was known whether events were missed");
    const from = this.#instance;
    const isPlanned = Boolean(from) && cause === PLANNED;
    const line = this.#note(!from ? "connected" : isPlanned ? "planned" : "reconnect");
    return new Outage(line, from, from && named(cause, status, code), isPlanned);
  }

  /** Adds a line at the top. */
  #note(kind, what = "", why = "") {
    const at = new Date();
    const line = el("li", { "data-kind": kind },
      el("time", { datetime: at.toISOString() }, stamp(at)),
      el("span", { class: "what" }, visible(what)),
      el("span", { class: "why" }, visible(why)));
    this.#list.prepend(line);
    while (this.#list.childElementCount > KEPT) this.#list.lastElementChild.remove();
    return line;
  }
}

/** A line that begins with the end of a stream, or with a first try that failed. */
class Outage {
  #what;
  #why;
  #from;
  #cause;
  #line;
  #isPlanned;
  /** It is known that nothing was missed. */ isComplete = false;
  #began = Date.now();
  #tries;
  /** Reconnects in this line, and the start of the first. */ #count = 1;
  #since = new Date();

  /** @param from the instance that served the stream; "" before the first */
  constructor(line, from, cause, isPlanned) {
    this.#line = line;
    this.#what = line.querySelector(".what");
    this.#why = line.querySelector(".why");
    // Changes with each try. A screen reader would announce each of them.
    this.#why.setAttribute("aria-live", "off");
    this.#from = from;
    this.#cause = cause;
    this.#isPlanned = isPlanned;
    this.#tries = from ? 0 : 1;
    this.#what.textContent = !from ? "Connecting" : visible(`${isPlanned ? "Planned reconnect" : "Reconnecting"}: ${cause}`);
    this.#why.textContent = visible(from && `from instance ${from}`);
  }

  tries() {
    this.#tries += 1;
  }

  waits({ cause, status, code, error, delayMs }) {
    if (this.#isPlanned && this.#tries > 0) this.#becomesIncident();
    const now = named(cause, status, code);
    const words = error?.message ? `: ${error.message}` : "";
    this.#why.textContent = visible([
      this.#from && `from instance ${this.#from}`,
      now === this.#cause && !words ? "" : `${now}${words}`,
      `try ${this.#tries + 1} in ${seconds(delayMs)}`,
    ].filter(Boolean).join("; "));
  }

  /** If a try fails, the line is an incident: only the end of the stream was planned. */
  #becomesIncident() {
    this.#isPlanned = false;
    this.#line.dataset.kind = "reconnect";
    this.#what.textContent = visible(`Reconnecting: ${this.#cause}`);
  }

  /** No more tries follow. */
  gaveUp() {
    this.#what.textContent = visible(this.#from ? `Not reconnected: ${this.#cause}` : "Not connected");
    this.#why.removeAttribute("aria-live");
  }

  /**
   * @param to the instance that serves the stream now
   * @param {Outage | null} before the outage before this one
   * @returns the part of the line to complete once it is known what was missed
   */
  ends(to, before) {
    const took = seconds(Date.now() - this.#began);
    const tries = this.#tries > 1 ? `, ${this.#tries} tries` : "";
    if (this.#isPlanned) this.#takeIn(before);
    let what;
    if (this.#count > 1) {
      what = `Reconnected as planned ${this.#count} times since ${stamp(this.#since)}, last to instance ${to} in ${took}`;
    } else if (this.#isPlanned) what = `Reconnected as planned to instance ${to} in ${took}`;
    else if (!this.#from) what = `Connected to instance ${to} after ${took}${tries}`;
    else if (this.#from === to) what = `Reconnected to instance ${to} again in ${took}${tries}`;
    else what = `Reconnected from instance ${this.#from} to instance ${to} in ${took}${tries}`;
    this.#what.textContent = visible(what);
    const missed = el("span", {}, "not known yet whether events were missed");
    this.#why.replaceChildren(visible(this.#cause && `${this.#cause}; `), missed);
    this.#why.removeAttribute("aria-live");
    return missed;
  }

  /** Merges the line before into this one, if it is the next older one and missed nothing. */
  #takeIn(before) {
    if (!before?.isComplete || !before.#isPlanned || this.#line.nextElementSibling !== before.#line) return;
    this.#count += before.#count;
    this.#since = before.#since;
    before.#line.remove();
  }
}

/** A cause as text, with status and code: "the stream was refused (503 streams_full)". */
function named(cause, status, code) {
  const facts = [status || "", code].filter(Boolean).join(" ");
  return `${CAUSES[cause] ?? `the stream ended (${cause})`}${facts && ` (${facts})`}`;
}
