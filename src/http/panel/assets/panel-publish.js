// Publishing exactly once: each event has an idempotency key, so that the panel can send an event
// again whose answer was lost.

import { $, ask, listed, seconds, setText } from "./panel-base.js";
import { visible } from "./panel-text.js";

const PATH = "/operator/api/events";
/** Statuses after which a try is repeated: no answer, or service or proxy unavailable. */
const REPEATED = new Set([0, 502, 503, 504]);
/**
 * Whether the event may have been published in spite of the error. `log_unavailable` means that it
 * was not.
 */
const isUnknown = ({ status, code, askedBefore }) =>
  status === 0 || askedBefore || (status >= 500 && code !== "log_unavailable");
const TRIES = 5;
const LONGEST_WAIT_MS = 5_000;

export class Publisher {
  #principal = "";
  #on;
  #run = 0;
  #busy = false;
  /** An event that may have been published: `{ key, content, unknown }`. */ #unsettled = null;

  /** @param on `{ unauthorized() }` */
  constructor(on) {
    this.#on = on;
    $("publish-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    $("publish-data").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("publish-form").requestSubmit();
    });
  }

  start(principal) {
    this.#principal = principal;
  }

  stop() {
    this.#principal = "";
    this.#run += 1;
    this.#unsettled = null;
    this.#setBusy(false);
    result("", "");
  }

  /** The button is not disabled, because that would take the focus from it. */
  #setBusy(busy) {
    this.#busy = busy;
    $("publish").setAttribute("aria-disabled", String(busy));
  }

  async #submit() {
    if (this.#busy) return;
    const data = $("publish-data").value;
    try {
      JSON.parse(data);
    } catch (error) {
      $("publish-data").setAttribute("aria-invalid", "true");
      $("publish-data").focus();
      return result("problem", `Not valid JSON: ${error.message}`);
    }
    $("publish-data").removeAttribute("aria-invalid");
    const type = $("publish-type").value.trim() || "message";
    const topics = listed($("publish-topic").value);
    const named = topics.length ? `"topics":${JSON.stringify(topics)},` : "";
    // The data as typed. Parsing and serialising it would change numbers.
    const content = `{"event":${JSON.stringify(type)},${named}"data":${data}}`;
    // The same event again after an unknown outcome keeps its key, so that it is published once.
    if (this.#unsettled?.content !== content) this.#unsettled = { key: newKey(), content, unknown: false };
    this.#setBusy(true);
    result("muted", "Publishing…");
    const run = ++this.#run;
    await this.#publish(this.#unsettled, run);
    if (run === this.#run) this.#setBusy(false);
  }

  async #publish(event, run) {
    for (let attempt = 1; ; attempt += 1) {
      try {
        const headers = { "Idempotency-Key": event.key };
        const { content, headers: answered } = await ask(PATH, { principal: this.#principal, body: event.content, headers });
        if (run !== this.#run) return;
        this.#unsettled = null;
        const replayed = answered.get("Idempotent-Replayed") === "true";
        return result("good", `Published as ${content.id}${replayed ? ", by an earlier try" : ""}`);
      } catch (error) {
        if (run !== this.#run) return;
        event.unknown ||= isUnknown(error);
        if (error.status === 401) return this.#on.unauthorized();
        if (!REPEATED.has(error.status) || attempt === TRIES) return this.#gaveUp(event, error);
        const delayMs = wait(attempt, error);
        result("warn", `${error.message} Try ${attempt + 1} of ${TRIES} in ${seconds(delayMs)}, with the same key.`);
        await new Promise((resolve) => setTimeout(resolve, delayMs));
        if (run !== this.#run) return;
        result("muted", `Publishing, try ${attempt + 1} of ${TRIES}…`);
      }
    }
  }

  #gaveUp(event, error) {
    if (!event.unknown) this.#unsettled = null;
    const outcome = event.unknown
      ? "It may have been published. Publish it again unchanged within 15 minutes: it is published only once."
      : "Not published.";
    const later = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "";
    const request = error.requestId ? ` (request ${error.requestId})` : "";
    result("problem", `${outcome} ${error.message}${later}${request}`);
  }
}

/** Wait before the next try: Retry-After or an exponential backoff with jitter, at most 5 s. */
function wait(attempt, error) {
  const backoffMs = 500 * 2 ** (attempt - 1) * (0.5 + Math.random() / 2);
  return Math.min(LONGEST_WAIT_MS, Math.max(1_000 * error.retryAfter, backoffMs));
}

/** A random key. crypto.randomUUID exists only on pages that come over TLS or from this machine. */
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function result(kind, text) {
  $("publish-result").className = kind;
  setText($("publish-result"), visible(text));
}
