// Tokens and streams: counters and two small charts, polled while the page is visible. Failures
// slow the polling down and are shown in place. panel-cluster.js shows the instances of the same
// answers.

import { $, bytes, call, number, setText } from "./panel-base.js";
import { Chart } from "./panel-chart.js";

const PATH = "/operator/internal/cache-stats";
const POLL_MS = 2_000;
const SLOWEST_MS = 30_000;
const BUCKET_MS = 2_000;
const WINDOW_MS = 150_000;
const BUCKETS = WINDOW_MS / BUCKET_MS;
/** Lifetime of a count of all instances, while other answers count only themselves. */
const WHOLE_MS = 10_000;

export class Stats {
  #principal = "";
  #on;
  #timer = 0;
  #run = 0;
  #failures = 0;
  /** @type {Map<number, number>} events per bucket of time */ #rate = new Map();
  #tokens = []; // { at, value }
  #wholeAt = 0; // time of the last answer that counted the tokens of all instances
  #rateChart = new Chart($("rate-chart"), { bars: true });
  #tokenChart = new Chart($("tokens-chart"));

  /** @param on `{ stats(answer), unauthorized() }` */
  constructor(on) {
    this.#on = on;
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.refresh();
    });
  }

  start(principal) {
    this.#principal = principal;
    this.#failures = 0;
    this.#rate.clear();
    this.#tokens = [];
    this.#wholeAt = 0;
    this.refresh();
  }

  stop() {
    this.#principal = "";
    this.#run += 1;
    clearTimeout(this.#timer);
  }

  /** Polls now, because the figures have changed. */
  refresh() {
    if (this.#principal) this.#poll();
  }

  countEvent() {
    const bucket = Math.floor(Date.now() / BUCKET_MS);
    this.#rate.set(bucket, (this.#rate.get(bucket) ?? 0) + 1);
    // A hidden page does not draw, which removes old buckets, but it receives events.
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
      if (error.code === "not_permitted") return this.#notPermitted(error);
      this.#failures += 1;
      delayMs = Math.max(Math.min(POLL_MS * 2 ** this.#failures, SLOWEST_MS), error.retryAfter * 1000 || 0);
      $("stats-problem").hidden = false;
      setText($("stats-problem"), "Figures unavailable. The last known values are shown.");
    }
    this.#draw();
    // A hidden page does not poll; it polls as soon as it is visible again.
    if (document.visibilityState === "visible") this.#timer = setTimeout(() => this.#poll(), delayMs);
  }

  /** Repeating does not change this answer, so the polling ends. */
  #notPermitted(error) {
    $("stats-problem").hidden = false;
    setText($("stats-problem"), error.message);
    this.#draw();
  }

  #show(answer) {
    const isPart = answer.backend === "fallback-memory";
    if (!isPart) this.#wholeAt = Date.now();
    // An instance without Redis counts only itself. The count of all instances is kept.
    else if (Date.now() - this.#wholeAt < WHOLE_MS) return;
    this.#tokens.push({ at: Date.now(), value: Number(answer.cache_size) || 0 });
    setText($("count-tokens"), number(answer.cache_size));
    const facts = [];
    if (answer.redis_memory_bytes != null) facts.push(`Redis ${bytes(answer.redis_memory_bytes)}`);
    if (answer.redis_ops_per_sec != null) facts.push(`${number(answer.redis_ops_per_sec)} ops/s`);
    setText($("stats-facts"), facts.join(" · "));
    setText($("samples"), (answer.sample_tokens ?? []).join("  ") || "none");
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
    // The current bucket is incomplete and would always look like a drop.
    const last = Math.floor(now / BUCKET_MS) - 1;
    const rates = Array.from({ length: BUCKETS }, (_, i) =>
      (this.#rate.get(last - BUCKETS + 1 + i) ?? 0) / (BUCKET_MS / 1000));
    const peak = Math.max(...rates);
    const mean = rates.reduce((sum, rate) => sum + rate, 0) / BUCKETS;
    setText($("rate-max"), this.#rateChart.drawBars(rates));
    setText($("rate-summary"), `now ${short(rates.at(-1))}, peak ${short(peak)}, mean ${short(mean)} over 2½ min`);

    const values = this.#tokens.map(({ value }) => value);
    const scale = { windowMs: WINDOW_MS, joinedMs: 3 * POLL_MS };
    setText($("tokens-max"), this.#tokenChart.drawLine(this.#tokens, now, scale));
    setText($("tokens-summary"), values.length
      ? `now ${number(values.at(-1))}, from ${number(Math.min(...values))} to ${number(Math.max(...values))} over 2½ min`
      : "no values yet");
  }
}

const short = (value) => number(Math.round(value * 10) / 10);
