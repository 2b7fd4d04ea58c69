// Shared by all parts of the panel: finding and building elements, times and numbers as text,
// storage, and calls to the server.

export const $ = (id) => document.getElementById(id);

/**
 * Builds an element. Children are nodes or text. Text never becomes markup, so event data is safe
 * to show.
 */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const pad = (number, width = 2) => String(number).padStart(width, "0");

/** 14:03:07, or 14:03:07.042 with milliseconds. */
export function clock(date, { ms = false } = {}) {
  const time = `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
  return ms ? `${time}.${pad(date.getMilliseconds(), 3)}` : time;
}

const dayAndMonth = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

/** 26 Nov. */
export const day = (date) => dayAndMonth.format(date);

/** 26 Nov 14:03:07, for a time that may be on another day. */
export const stamp = (date) => `${day(date)} ${clock(date)}`;

const grouped = new Intl.NumberFormat("en");
export const number = (value) => (typeof value === "number" ? grouped.format(value) : "–");

export function bytes(value) {
  if (value < 1024) return `${value} B`;
  if (value < 1024 ** 2) return `${(value / 1024).toFixed(1)} KiB`;
  return `${(value / 1024 ** 2).toFixed(1)} MiB`;
}

export const seconds = (ms) => (ms < 950 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

/** Storage of the browser. A user can switch it off; then nothing is remembered. */
const storage = (area) => ({
  get(key) {
    try {
      return window[area].getItem(key);
    } catch {
      return null;
    }
  },
  /** `null` removes the entry. */
  set(key, value) {
    try {
      if (value === null) window[area].removeItem(key);
      else window[area].setItem(key, value);
    } catch {
      // Storage is switched off or full: the entry is not remembered.
    }
  },
});
export const tabStorage = storage("sessionStorage");
export const browserStorage = storage("localStorage");

/** Sets a text only if it differs, so that polling does not undo a selection. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** The entries of a field that takes several, with spaces between them. */
export const listed = (text) => text.split(/\s+/).filter(Boolean);

/** The text of a problem as a sentence: the service sends it without a capital and a full stop. */
export function sentence(text) {
  const end = /[.!?]$/.test(text) ? "" : ".";
  return text.charAt(0).toUpperCase() + text.slice(1) + end;
}

/**
 * Puts text on the clipboard. The Clipboard API exists only on pages that come over TLS or from
 * this machine.
 */
export async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const give = (event) => {
    event.clipboardData.setData("text/plain", text);
    event.preventDefault();
  };
  document.addEventListener("copy", give, { once: true });
  const isCopied = document.execCommand("copy");
  document.removeEventListener("copy", give);
  if (!isCopied) throw new Error("the browser does not copy");
}

/**
 * A call that failed. `status` is 0 if there was no answer. `askedBefore` means that the load
 * balancer had sent the call to another instance before.
 */
export class CallError extends Error {
  constructor(message, { status = 0, code = "", requestId = "", retryAfter = 0, askedBefore = false } = {}) {
    super(message);
    this.name = "CallError";
    Object.assign(this, { status, code, requestId, retryAfter, askedBefore });
  }
}

/**
 * Calls the server. The credential travels in a header, never in the address. `body` is JSON text
 * and is sent unchanged.
 */
export async function ask(path, { principal, body, headers = {}, timeoutMs = 8_000 } = {}) {
  const sent = { Accept: "application/json", ...headers };
  if (principal) sent["X-VX11-Token"] = principal;
  if (body !== undefined) sent["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      headers: sent,
      body,
      cache: "no-store",
      redirect: "error",
      signal: AbortSignal.timeout(timeoutMs),
    });
  } catch {
    throw new CallError("The server could not be reached.");
  }
  const content = await answer.json().catch(() => null);
  if (answer.ok && content !== null) return { content, headers: answer.headers };
  throw new CallError(sentence(content?.detail || content?.title || `The server answered ${answer.status}`), {
    status: answer.status,
    code: content?.code,
    requestId: content?.request_id,
    retryAfter: Number(answer.headers.get("Retry-After")) || 0,
    askedBefore: answer.headers.has("X-VX11-Asked-Before"),
  });
}

/** Calls the server, for callers that need only the content of the answer. */
export const call = async (path, options) => (await ask(path, options)).content;

/** Whether a header can carry the text. No credential contains other characters. */
export const isHeaderSafe = (text) => /^[\x21-\x7e]+$/.test(text);
