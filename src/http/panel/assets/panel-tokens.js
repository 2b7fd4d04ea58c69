// The dialog about tokens: issuing one, and reading what a token grants. A token is a secret of
// short life: it is shown in this dialog only, and removed when the dialog is closed.

import { $, call, copy, el, listed, setText, stamp } from "./panel-base.js";
import { grantOf } from "./panel-grant.js";
import { visible } from "./panel-text.js";

const ISSUE_PATH = "/operator/api/events/sse-token";
const STREAM_PATH = "/operator/api/events/stream";

export class Tokens {
  #principal = "";
  #on;
  #run = 0;
  /** The answer to the last request, while its token is shown. */ #issued = null;

  /** @param on `{ unauthorized() }` */
  constructor(on) {
    this.#on = on;
    $("tokens-open").addEventListener("click", () => $("tokens").showModal());
    $("tokens-close").addEventListener("click", () => $("tokens").close());
    $("tokens").addEventListener("close", () => this.#clear());
    $("issue-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#issue();
    });
    $("token").addEventListener("input", () => this.#read());
    $("copy-token").addEventListener("click", () => give("token", tokenShown()));
    $("copy-stream-url").addEventListener("click", () => give("stream URL", this.#streamUrl()));
    this.#read();
  }

  start(principal) {
    this.#principal = principal;
  }

  stop() {
    this.#principal = "";
    $("tokens").close();
    for (const id of ["issue-topics", "issue-subject", "issue-life"]) $(id).value = "";
  }

  #clear() {
    this.#run += 1;
    $("token").value = "";
    result("", "");
    this.#read();
  }

  async #issue() {
    const run = ++this.#run;
    result("muted", "Issuing…");
    try {
      const issued = await call(ISSUE_PATH, { principal: this.#principal, body: JSON.stringify(wanted()) });
      if (run !== this.#run) return;
      $("token").value = issued.sse_token;
      this.#issued = issued;
      this.#read();
      result("good", `Issued, valid until ${stamp(new Date(issued.expires_at))}`);
    } catch (error) {
      if (run !== this.#run) return;
      if (error.status === 401) return this.#on.unauthorized();
      result("problem", `Not issued. ${error.message}`);
    }
  }

  /** Shows what the token in the field grants. */
  #read() {
    const token = tokenShown();
    if (token !== this.#issued?.sse_token) this.#issued = null;
    let rows = [];
    let problem = "";
    try {
      rows = token ? rowsOf(grantOf(token), this.#issued) : [];
    } catch (error) {
      problem = error.message;
    }
    $("grant").replaceChildren(...rows.map(([name, value]) =>
      el("div", {}, el("dt", {}, name), el("dd", { class: "mono" }, visible(value)))));
    setText($("token-problem"), problem);
    $("token").setAttribute("aria-invalid", String(Boolean(problem)));
    $("copy-token").hidden = $("copy-stream-url").hidden = !token || Boolean(problem);
  }

  #streamUrl() {
    const path = this.#issued?.stream_url ?? `${STREAM_PATH}?token=${tokenShown()}`;
    return new URL(path, location.origin).href;
  }
}

const tokenShown = () => $("token").value.trim();

/** The fields of the form that are filled in. The service checks them. */
function wanted() {
  const fields = {};
  const topics = listed($("issue-topics").value);
  const subject = $("issue-subject").value.trim();
  const life = $("issue-life").value.trim();
  if (topics.length) fields.topics = topics;
  if (subject) fields.subject = subject;
  if (life) fields.expires_in = Number(life);
  return fields;
}

/** Names and values of what is known about a token. */
function rowsOf(grant, issued) {
  const rows = [
    ["Token id", issued?.token_id],
    ["Expires", issued && stamp(new Date(issued.expires_at))],
    ["Topics", grant ? grant.topics?.join(" ") : "default"],
    ["Subject", grant?.subject],
    ["Principal", grant?.principal],
    ["Issued", grant?.issuedAt && stamp(grant.issuedAt)],
    ["Streams end", grant?.streamUntil && stamp(grant.streamUntil)],
    ["Single use", grant?.singleUse && "yes"],
    ["Resource", grant?.resource],
    ["Grant", grant ? "" : "none: a plain token"],
  ];
  return rows.filter(([, value]) => value);
}

async function give(what, text) {
  const outcome = await copy(text).then(() => "copied", () => "not copied");
  result("muted", `The ${what} was ${outcome}.`);
}

function result(kind, text) {
  $("issue-result").className = kind;
  setText($("issue-result"), visible(text));
}
