// Event data as text for the page. Every character that arrived is shown: numbers and strings keep
// their characters, and a character that would hide or reorder its neighbours is shown escaped.

import { el } from "./panel-base.js";

/**
 * Control characters and characters that change the direction of text. The command-line client
 * escapes the same set.
 */
const ESCAPED = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;
const SHORT_ESCAPES = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

const hex = (character) => character.charCodeAt(0).toString(16).padStart(4, "0");
const escape = (character) => SHORT_ESCAPES[character] ?? `\\u${hex(character)}`;
/** Line breaks and tabs in data are shown unescaped. */
const isLayout = (character) => character === "\n" || character === "\t";

/** One line of text with these characters escaped, such as a type or an id. */
export const visible = (text) => text.replace(ESCAPED, escape);

/** Data as it is shown, but without marks, for searching. */
export const visibleData = (text) => text.replace(ESCAPED, (found) => (isLayout(found) ? found : escape(found)));

/**
 * Data as nodes. A mark distinguishes an escaped character from the same escape in the data itself.
 */
function marked(text) {
  const nodes = [];
  let end = 0;
  for (const { 0: found, index } of text.matchAll(ESCAPED)) {
    if (isLayout(found)) continue;
    const title = `The character U+${hex(found).toUpperCase()}`;
    nodes.push(text.slice(end, index), el("span", { class: "escaped", title }, escape(found)));
    end = index + found.length;
  }
  nodes.push(text.slice(end));
  return nodes;
}

export function isJson(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

const PART = /"[^"\\]*(?:\\.[^"\\]*)*"|[[\]{}:,]|[^\s[\]{}:,"]+/g;

/** Indents valid JSON. Only whitespace between its parts changes; parsing would change numbers. */
export function indented(json) {
  const parts = json.match(PART) ?? [];
  let text = "";
  let depth = 0;
  const line = () => `\n${"  ".repeat(depth)}`;
  for (const [at, part] of parts.entries()) {
    const isEmpty = (part === "{" || part === "[") && (parts[at + 1] === "}" || parts[at + 1] === "]");
    const closesEmpty = parts[at - 1] === "{" || parts[at - 1] === "[";
    if ((part === "{" || part === "[") && !isEmpty) {
      depth += 1;
      text += part + line();
    } else if ((part === "}" || part === "]") && !closesEmpty) {
      depth -= 1;
      text += line() + part;
    } else if (part === ",") {
      text += part + line();
    } else {
      text += part === ":" ? ": " : part;
    }
  }
  return text;
}

const TOKEN = /("(?:\\.|[^"\\])*")(\s*:)?|\b(?:true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** Data as nodes, with coloured JSON. Data becomes text, never markup. */
export function nodesOf(text, { coloured }) {
  if (!coloured) return marked(text);
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(TOKEN)) {
    const [all, string, colon] = match;
    const token = colon ? string : all;
    const kind = colon ? "j-key" : string ? "j-text" : "j-value";
    nodes.push(...marked(text.slice(end, match.index)), el("span", { class: kind }, ...marked(token)));
    end = match.index + token.length;
  }
  nodes.push(...marked(text.slice(end)));
  return nodes;
}
