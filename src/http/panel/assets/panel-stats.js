// Tokens and streams: two counters and two small charts, polled while somebody is
// looking. A failing poll slows down and says so once, in place. What the answers
// tell of the instances is shown by panel-cluster.js.

import { $, bytes, call, number, setText } from "./panel-base.js";
import { Chart } from "./panel-chart.js";

const PATH = "/operator/internal/cache-stats";
const POLL_MS = 2_000;
const SLOWEST_MS = 30_000;
const BUCKET_MS = 2_000;
const WINDOW_MS = 150_000;
const BUCKETS = WINDOW_MS / BUCKET_MS;
/** So long what one instance counted is kept while others count only their own. */
const WHOLE_MS = 10_000;

export class Stats {
  #principal = "";
  #on;
  #timer = 0;
  #run = 0;
  #failures = 0;
  /** @type {Map<number, number>} events per bucket of time */ #rate = new Map();
  #tokens = []; // { at, value }
  #wholeAt = 0; // when an answer last counted the tokens of all instances
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

  /** Poll now: something has changed the figures, and nobody should look at the old ones until the next poll. */
  refresh() {
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
      setText($("stats-problem"), "Figures unavailable; last known values shown.");
    }
    this.#draw();
    // Nobody sees a hidden page: becoming visible polls again.
    if (document.visibilityState === "visible") this.#timer = setTimeout(() => this.#poll(), delayMs);
  }

  #show(answer) {
    const isPart = answer.backend === "fallback-memory";
    if (!isPart) this.#wholeAt = Date.now();
    // Beside others that see all, an instance that is cut off from Redis sees only its own.
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
    // The running bucket is left out: half of it would always look like a drop.
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
