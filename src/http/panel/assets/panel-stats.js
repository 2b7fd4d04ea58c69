// Tokens and streams: counters and two small charts, polled while somebody is
// looking. A failing poll slows down and says so once, in place.

import { $, el, bytes, call, number, setText } from "./panel-base.js";

const PATH = "/operator/internal/cache-stats";
const POLL_MS = 2_000;
const SLOWEST_MS = 30_000;
const BUCKET_MS = 2_000;
const WINDOW_MS = 150_000;
const BUCKETS = WINDOW_MS / BUCKET_MS;
const WIDTH = 300;
const HEIGHT = 64;
/** An instance not heard of for so long is shown as gone quiet. */
const QUIET_SECONDS = 10;

export class Stats {
  #principal = "";
  #on;
  #timer = 0;
  #run = 0;
  #failures = 0;
  #servingInstance = "";
  /** @type {Map<number, number>} events per bucket of time */ #rate = new Map();
  #tokens = []; // { at, value }
  #rateChart = new Chart($("rate-chart"), { bars: true });
  #tokenChart = new Chart($("tokens-chart"), {});

  /** @param on `{ stats(answer), unauthorized() }` */
  constructor(on) {
    this.#on = on;
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible" && this.#principal) this.#poll();
    });
  }

  start(principal) {
    this.#principal = principal;
    this.#failures = 0;
    this.#rate.clear();
    this.#tokens = [];
    this.#poll();
  }

  stop() {
    this.#principal = "";
    this.#run += 1;
    clearTimeout(this.#timer);
  }

  /** A stream has opened, which changes most figures: nobody should look at the old ones until the next poll. */
  serving(instanceId) {
    this.#servingInstance = instanceId;
    if (this.#principal) this.#poll();
  }

  countEvent() {
    const bucket = Math.floor(Date.now() / BUCKET_MS);
    this.#rate.set(bucket, (this.#rate.get(bucket) ?? 0) + 1);
    // A hidden page draws nothing, yet goes on receiving.
    if (this.#rate.size > 2 * BUCKETS) this.#forget();
  }

  async #poll() {
    clearTimeout(this.#timer);
    const run = ++this.#run;
    let delayMs = POLL_MS;
    try {
      const answer = await call(PATH, { principal: this.#principal });
      if (run !== this.#run) return;
      this.#failures = 0;
      $("stats-problem").hidden = true;
      this.#show(answer);
      this.#on.stats(answer);
    } catch (error) {
      if (run !== this.#run) return;
      if (error.status === 401) return this.#on.unauthorized();
      this.#failures += 1;
      delayMs = Math.max(Math.min(POLL_MS * 2 ** this.#failures, SLOWEST_MS), error.retryAfter * 1000 || 0);
      $("stats-problem").hidden = false;
      setText($("stats-problem"), "Stats unavailable; last known values shown.");
    }
    this.#draw();
    // Nobody sees a hidden page: becoming visible polls again.
    if (document.visibilityState === "visible") this.#timer = setTimeout(() => this.#poll(), delayMs);
  }

  #show(answer) {
    const { instance = {}, cluster = [] } = answer;
    this.#tokens.push({ at: Date.now(), value: Number(answer.cache_size) || 0 });
    setText($("count-tokens"), number(answer.cache_size));
    setText($("count-instance"), String(instance.instance_id ?? ""));
    setText($("count-active"), number(instance.active));
    setText($("count-streams"), number(instance.streams));
    setText($("count-fallback"), number(instance.fallback_entries));
    $("count-fallback").classList.toggle("warn", instance.fallback_entries > 0);

    const facts = [];
    if (answer.redis_memory_bytes != null) facts.push(`Redis ${bytes(answer.redis_memory_bytes)}`);
    if (answer.redis_ops_per_sec != null) facts.push(`${number(answer.redis_ops_per_sec)} ops/s`);
    if (instance.breaker) facts.push(`breaker ${instance.breaker}`);
    setText($("stats-facts"), facts.join(" · "));
    setText($("samples"), (answer.sample_tokens ?? []).join("  ") || "none");
    this.#showCluster(cluster);
  }

  #showCluster(cluster) {
    $("cluster").hidden = cluster.length < 2;
    $("cluster-rows").replaceChildren(...cluster.map((peer) => {
      const serving = peer.instance_id === this.#servingInstance;
      const quiet = peer.seen_seconds_ago > QUIET_SECONDS;
      return el("tr", { class: quiet ? "quiet-row" : undefined },
        el("th", { scope: "row" }, peer.instance_id, serving ? " (this stream)" : ""),
        el("td", {}, quiet ? `quiet ${number(Math.round(peer.seen_seconds_ago))} s` : `${short(peer.seen_seconds_ago)} s`),
        el("td", {}, number(peer.active)),
        el("td", {}, number(peer.streams)));
    }));
  }

  #forget() {
    const now = Date.now();
    const oldest = Math.floor(now / BUCKET_MS) - BUCKETS;
    for (const bucket of this.#rate.keys()) if (bucket < oldest) this.#rate.delete(bucket);
    this.#tokens = this.#tokens.filter(({ at }) => at >= now - WINDOW_MS);
  }

  #draw() {
    this.#forget();
    const now = Date.now();
    // The running bucket is left out: half of it would always look like a drop.
    const last = Math.floor(now / BUCKET_MS) - 1;
    const rates = Array.from({ length: BUCKETS }, (_, i) =>
      (this.#rate.get(last - BUCKETS + 1 + i) ?? 0) / (BUCKET_MS / 1000));
    const peak = Math.max(...rates);
    const mean = rates.reduce((sum, rate) => sum + rate, 0) / BUCKETS;
    setText($("rate-max"), this.#rateChart.drawBars(rates));
    setText($("rate-summary"), `now ${short(rates.at(-1))}, peak ${short(peak)}, mean ${short(mean)} over 2½ min`);

    const values = this.#tokens.map(({ value }) => value);
    setText($("tokens-max"), this.#tokenChart.drawLine(this.#tokens, now));
    setText($("tokens-summary"), values.length
      ? `now ${number(values.at(-1))}, from ${number(Math.min(...values))} to ${number(Math.max(...values))} over 2½ min`
      : "no values yet");
  }
}

const short = (value) => number(Math.round(value * 10) / 10);

/** A chart without axes of its own; time runs to the right, the scale starts at 0. */
class Chart {
  #area = path("area");
  #line = path("line");

  constructor(svg, { bars = false }) {
    const base = path("base");
    base.setAttribute("d", `M0 ${HEIGHT - 0.5}H${WIDTH}`);
    const middle = path("base");
    middle.setAttribute("d", `M0 ${HEIGHT / 2}H${WIDTH}`);
    if (bars) this.#area.setAttribute("class", "bars");
    svg.replaceChildren(middle, this.#area, this.#line, base);
  }

  /** @returns {string} label of the top of the scale */
  drawBars(values) {
    const top = niceTop(Math.max(...values));
    const step = WIDTH / values.length;
    let d = "";
    values.forEach((value, i) => {
      if (!value) return;
      const height = Math.max(1.5, (value / top) * HEIGHT);
      d += `M${(i * step + 0.4).toFixed(2)} ${HEIGHT}v${(-height).toFixed(2)}h${(step - 0.8).toFixed(2)}V${HEIGHT}z`;
    });
    this.#area.setAttribute("d", d);
    return number(top);
  }

  /** @returns {string} label of the top of the scale */
  drawLine(points, now) {
    const top = niceTop(Math.max(0, ...points.map(({ value }) => value)));
    let line = "";
    let area = "";
    let previous = null;
    for (const point of points) {
      const x = (WIDTH - ((now - point.at) / WINDOW_MS) * WIDTH).toFixed(2);
      const y = (HEIGHT - (point.value / top) * HEIGHT).toFixed(2);
      // A pause in polling stays visible as a gap instead of an invented line.
      const joined = previous && point.at - previous.at < 3 * POLL_MS;
      if (!joined && previous) area += `V${HEIGHT}z`;
      line += `${joined ? "L" : "M"}${x} ${y}`;
      area += joined ? `L${x} ${y}` : `M${x} ${HEIGHT}L${x} ${y}`;
      previous = point;
    }
    if (previous) area += `V${HEIGHT}z`;
    this.#line.setAttribute("d", line);
    this.#area.setAttribute("d", area);
    return number(top);
  }
}

function path(name) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", "path");
  node.setAttribute("class", name);
  node.setAttribute("vector-effect", "non-scaling-stroke");
  return node;
}

/** The next of 1, 2, 5, 10, 20, … above the value. */
function niceTop(value) {
  if (value <= 1) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((factor) => factor * power >= value) * power;
}
