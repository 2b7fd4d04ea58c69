// @ts-check
/** Answers to requests for a token and for a stream: tokens, and what errors say. */

/** Code of the refusal of topics that the token does not grant. */
const NOT_PERMITTED = "not_permitted";

/** Reason why no token could be issued. It never contains a credential or a token. */
export class IssueError extends Error {
  /**
   * @param {string} message
   * @param {{
   *   status?: number, code?: string, requestId?: string, retryAfterMs?: number, cause?: unknown,
   * }} [facts]
   */
  constructor(message, facts = {}) {
    super(message, facts);
    this.name = "IssueError";
    this.status = facts.status ?? 0;
    this.code = facts.code ?? "";
    this.requestId = facts.requestId ?? "";
    this.retryAfterMs = facts.retryAfterMs ?? 0;
  }
}

/**
 * Whether an answer means that there will be no token: repeating the request does not change it,
 * and would look like guessing credentials. A backend may answer 400 for other reasons.
 * @param {number} status @param {string | undefined} principal
 */
export function isFinalForIssuing(status, principal) {
  return status === 401 || status === 403 || (status === 400 && Boolean(principal));
}

/**
 * Whether a refusal of the stream is final, because the same request would get it again: the
 * service does not understand the request, or the token grants other topics.
 * @param {{status: number, code: string}} refusal
 */
export function isFinalForStream({ status, code }) {
  return status === 400 || (status === 403 && code === NOT_PERMITTED);
}

/**
 * Finds the token in a result of issueToken.
 * @param {any} issued @returns {string}
 */
export function tokenIn(issued) {
  const token = typeof issued === "string" ? issued : issued?.sse_token;
  // Checked here, because the browser's error message could quote the header.
  if (typeof token === "string" && /^[\x21-\x7e]+$/.test(token)) return token;
  let found = `sse_token is of type ${typeof token}`;
  if (token === "") found = "found an empty string";
  else if (typeof token === "string") found = "found characters that a header cannot carry";
  else if (issued === null || typeof issued !== "object") found = `found ${issued === null ? null : typeof issued}`;
  else if (!("sse_token" in issued)) found = `found ${masked(Object.keys(issued).join(", ")) || "an empty object"}`;
  throw new IssueError(`expected a token, or an object that holds it as sse_token; ${found}`, { code: "no_token" });
}

/**
 * Error with the problem document of an answer (RFC 9457), or with its status and type.
 * @param {Response} answer
 */
export async function problem(answer) {
  const body = answer.ok ? null : await answer.json().catch(() => null);
  const type = answer.headers.get("Content-Type") ?? "no content type";
  return new IssueError(body?.detail ?? body?.title ?? `the server answered ${answer.status} with ${type}`, {
    status: answer.status,
    code: body?.code,
    requestId: body?.request_id,
    retryAfterMs: retryAfter(answer.headers.get("Retry-After")),
  });
}

/**
 * Usable facts of an error, which may be any value that a caller's issueToken threw.
 * @param {any} error
 */
export function facts(error) {
  return {
    status: Number(error?.status) || 0,
    code: String(error?.code ?? ""),
    retryAfterMs: Math.max(0, Number(error?.retryAfterMs) || 0),
  };
}

/**
 * Masks text that may be a token, with its grant, or a credential: long runs of letters and digits.
 * @param {string} text
 */
export function masked(text) {
  return text.replace(/[\w-]{20,}(?:\.[\w-]+)*/g, (run) => (/\d/.test(run) ? "…" : run));
}

/**
 * Milliseconds from now until a Retry-After: seconds, or an HTTP date.
 * @param {string | null} value
 */
function retryAfter(value) {
  if (!value) return 0;
  const ms = /^\d+$/.test(value.trim()) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : 0;
}
