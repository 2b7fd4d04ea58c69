// The instances, one row each. Behind a load balancer each poll may be answered by another
// instance. An instance reports its backend and breaker only itself; its tokens and streams are
// also in its member record, which all instances report. The newest of both is kept for each
// instance, with its age.

import { $, clock, day, el, number, setText } from "./panel-base.js";

/** Older reports of an instance about itself are shown with their age. */
const FRESH_MS = 10_000;
/**
 * Answers without a mention, beyond one for each instance, after which an instance counts as gone.
 */
const PATIENCE = 2;
/** Backend of an instance whose Redis is unavailable. */
const FALLBACK = "fallback-memory";
/** Bounds of the table: time that the row of a gone instance stays, and number of rows. */
const KEPT_MS = 600_000;
const MOST_ROWS = 100;

/** Fewer streams show nothing about the balance between instances. */
const SPREAD_FROM = 10;
/** Most instances that are named; more are counted. */
const NAMED = 3;

const byName = new Intl.Collator("en", { numeric: true }).compare;

export class Cluster {
  /**
   * By id. `own` is its last report about itself (`at`, `backend`, `breaker`, `since`, `log`,
   * `fallback`), `figures` the newest report of any instance (`at`, `active`, `streams`), `missed`
   * the number of answers since the last mention.
   */
  #instances = new Map();
  #serving = "";

  /** Adds an answer of cache-stats. */
  update({ backend, instance = {}, cluster = [] }) {
    const now = Date.now();
    for (const known of this.#instances.values()) known.missed += 1;
    for (const { instance_id: id, seen_seconds_ago: age, active, streams } of cluster) {
      const known = this.#mention(id);
      const at = now - 1_000 * age;
      if (at >= known.figures.at) known.figures = { at, active, streams };
    }
    this.#mention(instance.instance_id).own = {
      at: now,
      backend,
      breaker: instance.breaker,
      since: instance.degraded_since,
      // Missing in answers of older releases.
      log: instance.event_log_in_reach !== false,
      fallback: instance.fallback_entries ?? 0,
    };
    this.#forget(now);
    this.#draw(now);
  }

  /** Marks the instance that serves the stream of this page. */
  serving(id) {
    this.#serving = id;
  }

  reset() {
    this.#instances.clear();
    this.#serving = "";
  }

  /** Backends of the instances: "redis", or "redis on 2 of 3" while one of them is degraded. */
  backend() {
    const backends = this.#present().map(({ own }) => own?.backend).filter(Boolean);
    const healthy = backends.filter((backend) => backend !== FALLBACK);
    const named = [...new Set(healthy.length ? healthy : backends)].sort().join(", ");
    return healthy.length && healthy.length < backends.length
      ? `${named} on ${number(healthy.length)} of ${number(backends.length)}`
      : named;
  }

  /**
   * Names the instances without their Redis or the event log, or the time since which the only
   * instance is without it; "" if there is none.
   */
  degraded() {
    const present = this.#present();
    const degraded = present.filter(({ own }) => own && (own.backend === FALLBACK || !own.log));
    if (degraded.length === 0) return "";
    if (this.#instances.size === 1) {
      const { since } = degraded[0].own;
      return since ? `degraded since ${timeOrDay(new Date(since))}` : "degraded";
    }
    if (degraded.length > NAMED) return `degraded: ${number(degraded.length)} of ${number(present.length)} instances`;
    return `degraded: instance ${degraded.map(({ id }) => id).sort(byName).join(", ")}`;
  }

  #mention(id) {
    let known = this.#instances.get(id);
    if (!known) this.#instances.set(id, (known = { id, own: null, figures: { at: 0, active: 0, streams: 0 }, missed: 0 }));
    known.missed = 0;
    return known;
  }

  /** Counted in answers and not in time, because a hidden page does not poll. */
  #isGone({ missed }) {
    return missed >= this.#instances.size + PATIENCE;
  }

  #present() {
    return [...this.#instances.values()].filter((known) => !this.#isGone(known));
  }

  #forget(now) {
    const byAge = [...this.#instances.values()].sort((a, b) => answeredAt(b) - answeredAt(a));
    for (const [at, known] of byAge.entries()) {
      if (at >= MOST_ROWS || (this.#isGone(known) && now - answeredAt(known) > KEPT_MS)) this.#instances.delete(known.id);
    }
  }

  #draw(now) {
    const present = this.#present();
    const streams = present.map(({ figures }) => figures.streams);
    const [least, most] = [Math.min(...streams), Math.max(...streams)];
    const sum = streams.reduce((all, one) => all + one, 0);
    const even = sum / present.length;
    const known = this.#instances.size;
    setText($("count-streams"), number(sum));
    setText($("count-instances"), present.length === known ? number(known) : `${number(present.length)} of ${number(known)}`);
    const fallback = present.reduce((all, { own }) => all + (own?.fallback ?? 0), 0);
    setText($("count-fallback"), number(fallback));
    $("count-fallback").classList.toggle("warn", fallback > 0);
    const spread = least === most
      ? `${number(most)} on each instance`
      : `${number(least)} to ${number(most)} on an instance, ${number(Math.round(even * 10) / 10)} each if spread evenly`;
    setText($("cluster-summary"), present.length > 1 && sum >= SPREAD_FROM ? `${number(sum)} streams: ${spread}` : "");
    const rows = [...this.#instances.values()].sort((a, b) => byName(a.id, b.id));
    // A single instance has no balance to show.
    const scale = { most: Math.max(most, 1), even: present.length > 1 ? even : undefined };
    $("cluster-rows").replaceChildren(...rows.map((row) => this.#row(row, now, scale)));
  }

  #row(known, now, scale) {
    const { id, own, figures } = known;
    const gone = this.#isGone(known);
    const name = el("th", { scope: "row" }, id);
    if (id === this.#serving) name.append(el("span", { class: "words" }, "this stream"));
    const age = now - answeredAt(known);
    const row = el("tr", { "data-instance": id, class: gone ? "gone" : undefined },
      name,
      el("td", { class: "backend" }, ...words(own, now)));
    if (gone) row.append(el("td", { colspan: 3 }, `not seen for ${seconds(age)}`));
    else row.append(
      el("td", {}, number(figures.active)),
      el("td", {}, number(figures.streams), bar(figures.streams, scale)),
      el("td", {}, age < 1_500 ? "now" : `${seconds(age)} ago`));
    return row;
  }
}

const answeredAt = ({ own, figures }) => Math.max(own?.at ?? 0, figures.at);

const seconds = (ms) => `${number(Math.round(ms / 1_000))} s`;

/** Cells for the report of an instance about itself. */
function words(own, now) {
  if (!own) return [el("span", { class: "words" }, "no report yet")];
  const degraded = own.backend === FALLBACK;
  // One line, so that rows keep their height in an outage. A degraded instance is shown without
  // the state of its event log, which is unavailable, too.
  const noLog = !own.log && !degraded;
  let said = noLog ? "event log unavailable" : own.breaker ? `breaker ${own.breaker}` : "";
  if (now - own.at > FRESH_MS) said += `${said && ", "}${seconds(now - own.at)} ago`;
  else if (degraded && own.since && own.breaker === "open") said += ` since ${timeOrDay(new Date(own.since))}`;
  return [
    el("span", { class: degraded ? "warn" : undefined }, own.backend),
    el("span", { class: noLog ? "words warn" : "words" }, said),
  ];
}

/** 14:03 if it was today, otherwise 25 Nov. */
function timeOrDay(date) {
  return date.toDateString() === new Date().toDateString() ? clock(date).slice(0, 5) : day(date);
}

/** The number of streams as a bar, with a mark at the length of an even spread. */
function bar(streams, { most, even }) {
  const node = el("span", { class: "share", "aria-hidden": "true" });
  node.style.setProperty("--share", streams / most);
  if (even !== undefined) {
    node.style.setProperty("--even", even / most);
    node.append(el("span"));
  }
  return node;
}
