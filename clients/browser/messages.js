// @ts-check
/** Lines about failures for the console of a browser. They contain no credential and no token. */

import { IssueError, isFinalForIssuing, isFinalForStream, masked } from "./answers.js";

/** Reason of a `reconnect` frame: another stream took the place of this one. */
export const REPLACED = "replaced";
/** End of each line about a failure that is not final. */
const AGAIN = "Trying again; onState and onReconnect report each attempt.";
/** End of each line about a refusal that is final, if no other callback reports it. */
const FINAL = "The stream is closed for good. onState reports this to the page.";

/**
 * @typedef {import("./vx11-events.js").Cause} Cause
 * @typedef {{cause: Cause, status: number, code: string, error?: unknown}} Problem
 *   A failure to get or keep a stream.
 * @typedef {{
 *   address: string, principal: string, isOpen: boolean, silenceMs: number, timeoutMs: number,
 * }} Place
 *   The stream that fails: its address, the credential if the page has it, and its state.
 */

/** @param {Problem} problem @param {Place} place */
export function describe({ cause, status, code, error }, { address, principal, isOpen, silenceMs, timeoutMs }) {
  const why = words(error, principal);
  const answer = [status && `status ${status}`, hidden(code, principal)].filter(Boolean).join(", ");
  switch (cause) {
    case "issue": {
      const issuing = principal ? "issuing a token" : "issueToken";
      const failed = `${issuing} failed${answer && ` with ${answer}`}: ${why}.`;
      if (status === 401) return `${failed} The stream is closed for good. onUnauthorized reports this to the page.`;
      return `${failed} ${isFinalForIssuing(status, principal) ? FINAL : AGAIN}`;
    }
    case "refused":
      return `${address} answered with ${answer} instead of a stream: ${why}. ${isFinalForStream({ status, code }) ? FINAL : AGAIN}`;
    case REPLACED:
      return `the stream was replaced by another stream of the same user or token. ${FINAL}`;
    case "unreachable":
      return `${address} cannot be reached: ${why}.${reasons(address)} ${AGAIN}`;
    case "silent":
      if (isOpen) return `${address} sent no heartbeat for ${silenceMs} ms. ${AGAIN}`;
      return `${address} gave no answer within ${timeoutMs} ms. Does a proxy buffer the stream? ${AGAIN}`;
    case "offline":
      return `the browser was offline. ${AGAIN}`;
    default:
      return `the connection to ${address} was cut. ${AGAIN}`;
  }
}

/**
 * Possible reasons, because a browser hides them from pages of another origin.
 * @param {string} address
 */
function reasons(address) {
  const page = globalThis.location?.origin;
  if (!page || new URL(address).origin === page) return "";
  return ` Either no server listens there, or it does not allow pages of ${page} (CORS).`;
}

/**
 * The message of an error, without secrets.
 * @param {any} error @param {string} principal
 */
function words(error, principal) {
  // A SyntaxError quotes the text that is not JSON, which may be a token.
  if (error instanceof SyntaxError) return "SyntaxError: the answer is not JSON";
  const text = hidden(String(error?.message ?? error), principal);
  return error instanceof Error && !(error instanceof IssueError) ? `${error.name}: ${text}` : text;
}

/** @param {string} text @param {string} principal */
function hidden(text, principal) {
  return masked(principal ? text.replaceAll(principal, "…") : text);
}
