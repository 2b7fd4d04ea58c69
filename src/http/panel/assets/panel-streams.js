// The dialog about open streams: who has which streams open on which instance, and orders about a
// stream or a subject. Each order has to be confirmed, because other people notice it.

import { $, call, el, setText, stamp } from "./panel-base.js";
import { visible } from "./panel-text.js";

const LIST_PATH = "/operator/api/streams";
const END_PATH = `${LIST_PATH}/end`;
const SUBJECTS_PATH = "/operator/api/subjects";
const LONGEST_BLOCK = 86_400;

/**
 * An order to the service.
 * @typedef {{question: string, effect: string, verb: string, path: string, body: object,
 *            done: (answer: object) => string}} Order
 */

export class Streams {
  #principal = "";
  #on;
  #run = 0;
  /** @type {Order | null} waits for its confirmation */ #asked = null;

  /** @param on `{ unauthorized() }` */
  constructor(on) {
    this.#on = on;
    $("streams-open").addEventListener("click", () => {
      $("streams").showModal();
      this.#list();
    });
    $("streams-close").addEventListener("click", () => $("streams").close());
    $("streams").addEventListener("close", () => this.#clear());
    $("streams-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#list();
    });
    $("streams-subject").addEventListener("input", () => this.#showSubject());
    $("end-subject").addEventListener("click", () => this.#ask(endingSubject(subject())));
    $("revoke-subject").addEventListener("click", () => this.#ask(revoking(subject())));
    $("block-subject").addEventListener("click", () => this.#askToBlock());
    $("unblock-subject").addEventListener("click", () => this.#ask(unblocking(subject())));
    $("confirm-no").addEventListener("click", () => $("confirm").close());
    $("confirm-yes").addEventListener("click", () => {
      const order = this.#asked;
      $("confirm").close();
      if (order) this.#carryOut(order);
    });
    $("confirm").addEventListener("close", () => (this.#asked = null));
    this.#showSubject();
  }

  start(principal) {
    this.#principal = principal;
    this.#permitControl(true);
  }

  stop() {
    this.#principal = "";
    $("confirm").close();
    $("streams").close();
    for (const id of ["streams-subject", "streams-topic"]) $(id).value = "";
    this.#showSubject();
  }

  #clear() {
    this.#run += 1;
    $("open-streams").replaceChildren();
    show("streams-result", "", "");
    show("streams-missing", "", "");
    show("order-result", "", "");
  }

  // --- the list ------------------------------------------------------------------------

  async #list() {
    const run = ++this.#run;
    show("streams-result", "muted", "Asking all instances…");
    try {
      const answer = await call(`${LIST_PATH}${query()}`, { principal: this.#principal });
      if (run === this.#run) this.#show(answer);
    } catch (error) {
      if (run !== this.#run) return;
      if (error.status === 401) return this.#on.unauthorized();
      // An old list could be taken for the present one.
      this.#show({ streams: [], missing: [] });
      show("streams-result", "problem", `No list. ${error.message}`);
    }
  }

  #show({ streams, missing = [], more = false }) {
    $("open-streams").replaceChildren(...streams.map((stream) => this.#row(stream)));
    const shown = more ? `The oldest ${counted(streams.length)}; there are more.` : `${counted(streams.length)}.`;
    show("streams-result", "muted", shown);
    const lacking = missing.length ? `No answer from ${instances(missing)}: streams there are not listed.` : "";
    show("streams-missing", "warn", lacking);
    // The button that had the focus may be gone with its row.
    if ($("streams").open && document.activeElement === document.body) $("streams-list").focus();
  }

  #row(stream) {
    const { stream_id: id, token_id: token, subject: user, topics, principal, instance_id: instance } = stream;
    const end = el("button", { type: "button", class: "small end", "aria-label": `End stream ${id}` }, "End");
    end.addEventListener("click", () => this.#ask(endingStream(id, user)));
    const facts = [
      ["subject", user], ["instance", instance], ["principal", principal],
      ["since", stamp(new Date(stream.opened_at))], ["token", token], ["stream", id],
    ];
    const shown = facts.filter(([, value]) => value).map(([name, value]) =>
      el("span", { "data-fact": name }, `${name} `, el("b", { class: "mono" }, visible(value))));
    return el("li", { "data-id": id },
      el("span", { class: "mono topics" }, visible(topics.join(" "))), end, el("p", { class: "muted facts" }, ...shown));
  }

  // --- orders --------------------------------------------------------------------------

  #showSubject() {
    const user = subject();
    $("subject-orders").disabled = !user;
    setText($("subject-name"), user ? visible(user) : "a subject");
    $("subject-hint").hidden = Boolean(user);
  }

  #askToBlock() {
    const written = $("block-seconds").value.trim();
    const isFine = /^\d+$/.test(written) && Number(written) >= 1 && Number(written) <= LONGEST_BLOCK;
    $("block-seconds").setAttribute("aria-invalid", String(!isFine));
    if (isFine) return this.#ask(blocking(subject(), Number(written)));
    show("order-result", "problem", `A block lasts 1 to ${LONGEST_BLOCK} seconds.`);
    $("block-seconds").focus();
  }

  /** @param {Order} order */
  #ask(order) {
    this.#asked = order;
    setText($("confirm-question"), visible(order.question));
    setText($("confirm-effect"), order.effect);
    setText($("confirm-yes"), order.verb);
    $("confirm").showModal();
  }

  /** @param {Order} order */
  async #carryOut({ path, body, done }) {
    const principal = this.#principal;
    show("order-result", "muted", "Asking all instances…");
    try {
      const answer = await call(path, { principal, body: JSON.stringify(body) });
      if (principal !== this.#principal) return;
      show("order-result", "good", done(answer));
    } catch (error) {
      if (principal !== this.#principal) return;
      if (error.status === 401) return this.#on.unauthorized();
      if (error.code === "not_permitted") this.#permitControl(false);
      const isUnknown = error.status === 0 || error.status >= 500;
      const outcome = isUnknown ? "It is not known whether this was done. To repeat it does no harm." : "Not done.";
      show("order-result", "problem", `${outcome} ${error.message}`);
    }
    if ($("streams").open) this.#list();
  }

  /** A credential that may not give orders keeps the list, without the buttons for them. */
  #permitControl(isPermitted) {
    $("streams").toggleAttribute("data-only-list", !isPermitted);
    $("subject-orders").hidden = !isPermitted;
    $("no-control").hidden = isPermitted;
  }
}

const subject = () => $("streams-subject").value.trim();

/** The fields of the form that are filled in, as a query. */
function query() {
  const fields = { subject: subject(), topic: $("streams-topic").value.trim() };
  const filled = Object.entries(fields).filter(([, value]) => value);
  return filled.length ? `?${new URLSearchParams(filled)}` : "";
}

/** @returns {Order} */
function endingStream(id, user) {
  return {
    question: user ? `End this stream of ${user}?` : "End this stream?",
    effect: `The stream ${id} ends. Its page may come back with a new token.`,
    verb: "End stream",
    path: END_PATH,
    body: { stream_id: id },
    done: ended,
  };
}

/** @returns {Order} */
function endingSubject(user) {
  return {
    question: `End all streams of ${user}?`,
    effect: "They end on all instances. The pages may come back with new tokens.",
    verb: "End streams",
    path: END_PATH,
    body: { subject: user },
    done: ended,
  };
}

/** @returns {Order} */
function revoking(user) {
  return {
    question: `Revoke all tokens of ${user}?`,
    effect: "Tokens that were issued until now are refused, and their streams end. New tokens can be issued.",
    verb: "Revoke tokens",
    path: `${SUBJECTS_PATH}/revoke`,
    body: { subject: user },
    done: ({ effective }) => `The tokens of ${user} are revoked ${reach(effective)}.`,
  };
}

/** @returns {Order} */
function blocking(user, seconds) {
  return {
    question: `Block ${user} for ${seconds} s?`,
    effect: "No token is issued to this subject or accepted from it, and its streams end.",
    verb: "Block",
    path: `${SUBJECTS_PATH}/block`,
    body: { subject: user, seconds },
    done: ({ effective, until }) => `${user} is blocked until ${stamp(new Date(until))} ${reach(effective)}.`,
  };
}

/** @returns {Order} */
function unblocking(user) {
  return {
    question: `Unblock ${user}?`,
    effect: "Tokens are issued to this subject and accepted from it again.",
    verb: "Unblock",
    path: `${SUBJECTS_PATH}/unblock`,
    body: { subject: user },
    done: ({ effective }) => `${user} is not blocked any more ${reach(effective)}.`,
  };
}

function ended({ ended: count, effective, missing = [] }) {
  const lacking = missing.length ? ` No answer from ${instances(missing)}: streams there are not counted.` : "";
  return `${counted(count)} ended ${reach(effective)}.${lacking}`;
}

const reach = (effective) => (effective === "cluster"
  ? "on all instances"
  : "on the instance that answered, and on the others as soon as Redis is available again");
const counted = (count) => `${count} ${count === 1 ? "stream" : "streams"}`;
const instances = (names) => `${names.length === 1 ? "instance" : "instances"} ${names.join(", ")}`;

function show(id, kind, text) {
  $(id).className = kind;
  setText($(id), visible(text));
}
