// What happened: one line for each time the stream was opened again, for each gap,
// and for each time the log of events went away or came back. A line begins when
// something breaks and is completed when it is known how that ended. Planned
// reconnects that missed nothing share a line: a night of them hides no incident.

import { $, el, seconds, stamp } from "./panel-base.js";
import { visible } from "./panel-text.js";

const KEPT = 50;
/** The cause of a reconnect that happens every few minutes by design. */
const PLANNED = "max_age";

const CAUSES = {
  drain: "the instance is shutting down",
  max_age: "the stream reached its greatest age",
  slow: "this browser did not keep up",
  revoked: "the token was revoked",
  server: "the server asked for it",
  cut: "the connection was cut",
  silent: "nothing was heard in time",
  refused: "the stream was refused",
  unreachable: "the server did not answer",
  offline: "this browser had been offline",
  issue: "no token could be issued",
  requested: "asked for here",
};

const GAPS = {
  epoch: "the log of events started anew",
  expired: "those published meanwhile are no longer kept",
  future: "the log of events ends before the last one seen here",
  unknown: "what came before cannot be told",
};

export class History {
  #list = $("history");
  #instance = ""; // that serves the stream, or served it last
  /** @type {Outage | null} from the end of one stream to the opening of the next */ #outage = null;
  /** @type {HTMLElement | null} where to say what was missed, until that is known */ #unsettled = null;
  /** @type {Outage | null} the last one that is over */ #last = null;
  #degradedAt = 0;

  /** @param change as the client's onState tells it */
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

  /** @param gap as the client's onReset tells it */
  reset({ reason, after, id }) {
    const why = `${GAPS[reason] ?? GAPS.unknown} (${reason})`;
    this.#settle(`gap: ${why}`);
    this.#note("reset", "Gap: events may have been missed", `${why}; last seen ${after || "none"}, goes on after ${id}`);
  }

  degraded(reason) {
    this.#degradedAt = Date.now();
    this.#note("degraded", "Events log unavailable",
      `instance ${this.#instance} cannot reach it (${reason}); the stream stays open`);
  }

  recovered(lastEventId) {
    this.#note("recovered", `Events log available again after ${seconds(Date.now() - this.#degradedAt)}`,
      `instance ${this.#instance} goes on after ${lastEventId || "what comes next"}`);
  }

  clear() {
    this.#list.replaceChildren();
    this.#instance = "";
    this.#outage = this.#unsettled = this.#last = null;
  }

  /** Says what was missed, where a line still has to. `complete`: nothing was. */
  #settle(text, { complete = false } = {}) {
    if (!this.#unsettled) return;
    this.#unsettled.textContent = visible(text);
    this.#unsettled = null;
    this.#last.isComplete = complete;
  }

  #begin({ cause, status, code }) {
    this.#settle("ended again before it was known whether anything was missed");
    const from = this.#instance;
    const isPlanned = Boolean(from) && cause === PLANNED;
    const line = this.#note(!from ? "connected" : isPlanned ? "planned" : "reconnect");
    return new Outage(line, from, from && named(cause, status, code), isPlanned);
  }

  /** A new line, the newest first. */
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

/** What a line tells that begins with the end of a stream, or with a first try that failed. */
class Outage {
  #what;
  #why;
  #from;
  #cause;
  #line;
  #isPlanned;
  /** Nothing was missed, and that is known. */ isComplete = false;
  #began = Date.now();
  #tries;
  /** Reconnects that the line stands for, and when the first of them began. */ #count = 1;
  #since = new Date();

  /** @param from the instance that served the stream; "" before the first */
  constructor(line, from, cause, isPlanned) {
    this.#line = line;
    this.#what = line.querySelector(".what");
    this.#why = line.querySelector(".why");
    // It changes with each try: announcing them all would drown a listener.
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

  /** What was planned is the end of a stream, not a try that fails. */
  #becomesIncident() {
    this.#isPlanned = false;
    this.#line.dataset.kind = "reconnect";
    this.#what.textContent = visible(`Reconnecting: ${this.#cause}`);
  }

  /**
   * @param to the instance that serves the stream now
   * @param {Outage | null} before the one before it
   * @returns where to say what was missed
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
    const missed = el("span", {}, "not known yet whether anything was missed");
    this.#why.replaceChildren(visible(this.#cause && `${this.#cause}; `), missed);
    this.#why.removeAttribute("aria-live");
    return missed;
  }

  /** One line for both, if nothing happened between them and the one before missed nothing. */
  #takeIn(before) {
    if (!before?.isComplete || !before.#isPlanned || this.#line.nextElementSibling !== before.#line) return;
    this.#count += before.#count;
    this.#since = before.#since;
    before.#line.remove();
  }
}

/** A cause in words, with what the answer said of it, such as "the stream was refused (503 streams_full)". */
function named(cause, status, code) {
  const facts = [status || "", code].filter(Boolean).join(" ");
  return `${CAUSES[cause] ?? `the stream ended (${cause})`}${facts && ` (${facts})`}`;
}
