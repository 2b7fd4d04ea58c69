// The event list: newest first, bounded, filterable, and calm under load. Rows
// are added once per frame however many events arrive in it.

import { $, el, clock, number, setText } from "./panel-base.js";

const KEPT = 1_000;
const RENDERED = 200;
/** Up to here data is shown as it came, on one line. */
const SHORT_CHARS = 100;
/** Beyond this many lines or characters the data is folded. */
const FOLD_LINES = 5;
const FOLD_CHARS = 600;
/** Colouring and showing huge data would make the page stall. */
const COLOUR_CHARS = 4_000;
const SHOWN_CHARS = 50_000;

export class EventList {
  #list = $("events");
  #kept = []; // oldest first
  #fresh = []; // kept, not rendered yet
  #held = []; // arrived while paused
  #heldCount = 0;
  #received = 0;
  #paused = false;
  #needle = "";
  #frame = 0;

  constructor() {
    $("pause").addEventListener("click", () => this.togglePause());
    $("clear").addEventListener("click", () => this.clear());
    $("filter").addEventListener("input", (event) => {
      this.#needle = event.target.value.trim().toLowerCase();
      this.#renderAll();
    });
    this.#showCount();
  }

  add({ type, data, id }) {
    const entry = { type, data, id, received: new Date() };
    this.#received += 1;
    if (this.#paused) {
      this.#heldCount += 1;
      push(this.#held, entry);
    } else {
      push(this.#kept, entry);
      push(this.#fresh, entry);
    }
    this.#schedule();
  }

  togglePause() {
    this.#paused = !this.#paused;
    if (!this.#paused) {
      for (const entry of this.#held) {
        push(this.#kept, entry);
        push(this.#fresh, entry);
      }
      this.#held = [];
      this.#heldCount = 0;
    }
    $("pause").setAttribute("aria-pressed", String(this.#paused));
    this.#schedule();
    this.#showPause();
  }

  clear() {
    this.#kept = [];
    this.#held = [];
    this.#heldCount = 0;
    this.#renderAll();
  }

  /** Clear, and forget pause, filter and counts too: the next sign-in starts fresh. */
  reset() {
    if (this.#paused) this.togglePause();
    $("filter").value = this.#needle = "";
    this.#received = 0;
    this.clear();
  }

  #schedule() {
    this.#frame ||= requestAnimationFrame(() => this.#renderFresh());
  }

  #matches(entry) {
    return !this.#needle || `${entry.type}\n${entry.data}`.toLowerCase().includes(this.#needle);
  }

  #renderFresh() {
    this.#frame = 0;
    const rows = newest(this.#fresh, (entry) => this.#matches(entry)).map(row);
    this.#fresh = [];
    this.#list.prepend(...rows);
    while (this.#list.childElementCount > RENDERED) this.#list.lastElementChild.remove();
    this.#showCount();
    this.#showPause();
  }

  #renderAll() {
    this.#fresh = [];
    this.#list.replaceChildren(...newest(this.#kept, (entry) => this.#matches(entry)).map(row));
    this.#showCount();
    this.#showPause();
  }

  #showPause() {
    const waiting = this.#heldCount ? ` · ${number(this.#heldCount)} new` : "";
    setText($("pause"), this.#paused ? `Resume${waiting}` : "Pause");
  }

  #showCount() {
    const shown = this.#list.childElementCount;
    const empty = $("events-empty");
    empty.hidden = shown > 0;
    if (this.#kept.length) setText(empty, "No event matches the filter.");
    else if (this.#received) setText(empty, "Cleared. New events appear here.");
    else setText(empty, "No events yet. Publish one.");
    setText($("events-count"),
      `${number(shown)} shown · ${number(this.#kept.length)} kept · ${number(this.#received)} received`);
  }
}

function push(list, entry) {
  list.push(entry);
  if (list.length > KEPT) list.shift();
}

/** The newest matching entries, newest first, as many as are rendered. */
function newest(entries, matches) {
  const found = [];
  for (let i = entries.length - 1; i >= 0 && found.length < RENDERED; i -= 1) {
    if (matches(entries[i])) found.push(entries[i]);
  }
  return found;
}

/** When it was published, which the id tells; a replayed event arrives later. */
function publishedAt({ id, received }) {
  const ms = Number(/-(\d{13})-\d+$/.exec(id)?.[1]);
  return ms ? new Date(ms) : received;
}

function row(entry) {
  const at = publishedAt(entry);
  const { text, lines, json } = readable(entry.data);
  const data = el("pre", { class: "event-data" }, ...(json ? coloured(text) : [text]));
  const item = el("li", { class: "event", "data-id": entry.id, "data-type": entry.type },
    el("time", {
      class: "event-time",
      datetime: at.toISOString(),
      title: `published ${at.toLocaleString()}, received ${clock(entry.received, { ms: true })}`,
    }, clock(at, { ms: true })),
    el("span", { class: "event-type", title: entry.type }, entry.type),
    el("span", { class: "event-id", title: entry.id }, entry.id),
    data);
  if (lines > FOLD_LINES || text.length > FOLD_CHARS) item.append(unfoldButton(data, lines));
  return item;
}

function unfoldButton(data, lines) {
  const label = lines > FOLD_LINES ? `Show all ${number(lines)} lines` : "Show all";
  const button = el("button", { class: "event-more small", type: "button", "aria-expanded": "false" }, label);
  data.classList.add("folded");
  button.addEventListener("click", () => {
    const folded = data.classList.toggle("folded");
    button.setAttribute("aria-expanded", String(!folded));
    button.textContent = folded ? label : "Show less";
  });
  return button;
}

/** Short data as it came, longer JSON indented, anything else untouched. */
function readable(data) {
  let text = data;
  let json = true;
  try {
    const value = JSON.parse(data);
    if (data.length > SHORT_CHARS) text = JSON.stringify(value, null, 2);
  } catch {
    json = false;
  }
  if (text.length > SHOWN_CHARS) {
    const rest = number(text.length - SHOWN_CHARS);
    text = `${text.slice(0, SHOWN_CHARS)}\n… ${rest} more characters`;
  }
  return { text, lines: text.split("\n").length, json: json && text.length <= COLOUR_CHARS };
}

const TOKEN = /("(?:\\.|[^"\\])*")(\s*:)?|\b(?:true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** JSON as text nodes and spans; the data itself only ever becomes text. */
function coloured(text) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(TOKEN)) {
    const [all, string, colon] = match;
    const token = colon ? string : all;
    const kind = colon ? "j-key" : string ? "j-text" : "j-value";
    nodes.push(text.slice(end, match.index), el("span", { class: kind }, token));
    end = match.index + token.length;
  }
  nodes.push(text.slice(end));
  return nodes;
}
