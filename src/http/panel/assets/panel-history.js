// What happened: one line for each time the stream was opened again, for each gap,
// and for each time the log of events went away or came back. A line begins when
// something breaks and is completed when it is known how that ended.

import { $, clock, el, seconds } from "./panel-base.js";

const KEPT = 50;

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
  #degradedAt = 0;

  /** @param change as the client's onState tells it */
  state(change) {
    const { state, cause, instanceId, lastEventId } = change;
    if (state === "waiting" || cause === "requested") this.#outage ??= this.#begin(change);
    if (state === "waiting") this.#outage.waits(change);
    if (state === "issuing") this.#outage?.tries();
    if (state !== "open") return;
    if (this.#outage) {
      this.#unsettled = this.#outage.ends(instanceId);
      if (!lastEventId) this.#settle("there was nothing to resume");
      this.#outage = null;
    } else {
      this.#note("connected", `Connected to instance ${instanceId}`, lastEventId && `starts after ${lastEventId}`);
    }
    this.#instance = instanceId;
  }

  resumed(after) {
    this.#settle(`resumed after ${after}, nothing missed`);
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
    this.#outage = this.#unsettled = null;
  }

  /** Says what was missed, where a line still has to. */
  #settle(text) {
    if (this.#unsettled) this.#unsettled.textContent = text;
    this.#unsettled = null;
  }

  #begin({ cause, status, code }) {
    this.#settle("ended again before it was known whether anything was missed");
    const first = !this.#instance;
    return new Outage(this.#note(first ? "connected" : "reconnect"), this.#instance, first ? "" : named(cause, status, code));
  }

  /** A new line, the newest first. */
  #note(kind, what = "", why = "") {
    const at = new Date();
    const line = el("li", { "data-kind": kind },
      el("time", { datetime: at.toISOString() }, clock(at)),
      el("span", { class: "what" }, what),
      el("span", { class: "why" }, why));
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
  #began = Date.now();
  #tries;

  /** @param from the instance that served the stream; "" before the first */
  constructor(line, from, cause) {
    this.#what = line.querySelector(".what");
    this.#why = line.querySelector(".why");
    // It changes with each try: announcing them all would drown a listener.
    this.#why.setAttribute("aria-live", "off");
    this.#from = from;
    this.#cause = cause;
    this.#tries = from ? 0 : 1;
    this.#what.textContent = from ? `Reconnecting: ${cause}` : "Connecting";
    this.#why.textContent = from && `from instance ${from}`;
  }

  tries() {
    this.#tries += 1;
  }

  waits({ cause, status, code, error, delayMs }) {
    const now = named(cause, status, code);
    const words = error?.message ? `: ${error.message}` : "";
    this.#why.textContent = [
      this.#from && `from instance ${this.#from}`,
      now === this.#cause && !words ? "" : `${now}${words}`,
      `try ${this.#tries + 1} in ${seconds(delayMs)}`,
    ].filter(Boolean).join("; ");
  }

  /** @returns where to say what was missed */
  ends(to) {
    const took = seconds(Date.now() - this.#began);
    const tries = this.#tries > 1 ? `, ${this.#tries} tries` : "";
    if (!this.#from) this.#what.textContent = `Connected to instance ${to} after ${took}${tries}`;
    else if (this.#from === to) this.#what.textContent = `Reconnected to instance ${to} again in ${took}${tries}`;
    else this.#what.textContent = `Reconnected from instance ${this.#from} to instance ${to} in ${took}${tries}`;
    const missed = el("span", {}, "not known yet whether anything was missed");
    this.#why.replaceChildren(this.#cause && `${this.#cause}; `, missed);
    this.#why.removeAttribute("aria-live");
    return missed;
  }
}

/** A cause in words and by its name, such as "the stream was refused (refused, 503 streams_full)". */
function named(cause, status, code) {
  const facts = [cause, [status || "", code].filter(Boolean).join(" ")].filter(Boolean).join(", ");
  return `${CAUSES[cause] ?? "the stream ended"} (${facts})`;
}
