// @ts-check
/** Options of a client: checks, and what follows from them. */

import { IssueError, problem } from "./answers.js";

const ISSUE_PATH = "/operator/api/events/sse-token";
/** Most topics of a request. */
const MOST_TOPICS = 16;

/** @param {readonly string[] | undefined} topics */
export function checkTopics(topics) {
  if (topics === undefined) return;
  const isList = Array.isArray(topics) && topics.every((topic) => typeof topic === "string");
  // No pattern at all would open a stream of everything that is granted.
  if (!isList || topics.length < 1 || topics.length > MOST_TOPICS) {
    throw new TypeError(`topics has to be a list of 1 to ${MOST_TOPICS} patterns`);
  }
}

/** @param {string | undefined} from */
export function checkFrom(from) {
  if (from === undefined || (typeof from === "string" && /^(start|-([1-9]\d{0,2}|1000))$/.test(from))) return;
  throw new TypeError('from has to be "start", or "-N" for the last N events, with N from 1 to 1000');
}

/** @param {string} base @param {string} principal @param {readonly string[] | undefined} topics */
export function issueWithPrincipal(base, principal, topics) {
  /** @type {Record<string, string>} */
  const headers = { "X-VX11-Token": principal, Accept: "application/json" };
  if (topics) headers["Content-Type"] = "application/json";
  const body = topics && JSON.stringify({ topics });
  return async (/** @type {{signal: AbortSignal}} */ { signal }) => {
    let answer;
    try {
      answer = await fetch(base + ISSUE_PATH, {
        method: "POST",
        headers,
        body,
        cache: "no-store",
        redirect: "error", // a redirect would send the credential to another address
        signal,
      });
    } catch (cause) {
      const words = cause instanceof Error ? cause.message : cause;
      throw new IssueError(`the server could not be reached: ${words}`, { code: "network", cause });
    }
    if (!answer.ok) throw await problem(answer);
    return answer.json();
  };
}

/** @param {string} base */
export function absolute(base) {
  const here = globalThis.document?.baseURI ?? globalThis.location?.href;
  // "" means the page's origin, not the folder of the page.
  return new URL(base || "/", here).href.replace(/[?#].*$/, "").replace(/\/+$/, "");
}
