// The event list: newest first, bounded, filterable. Rows are added once for each frame of the
// screen, however many events arrived in it, so that load does not freeze the page.

import { $, copy, el, clock, number, setText } from "./panel-base.js";
import { indented, isJson, nodesOf, visible, visibleData } from "./panel-text.js";

const KEPT = 1_000;
const RENDERED = 200;
/** Longest data that is shown as it arrived; longer JSON is indented. */
const SHORT_CHARS = 100;
/** Longer data, in lines or characters, is folded. */
const FOLD_LINES = 5;
const FOLD_CHARS = 600;
/** Characters of folded data in the page: more than its lines hold on a wide screen. */
const FOLDED_CHARS = 4_000;
/** Longer data is not coloured, which would freeze the page. */
const COLOUR_CHARS = 4_000;
/** Time for which a button shows that it has copied. */
const OUTCOME_MS = 1_500;
/** Topic that is not shown, because events without a topic have it. */
const DEFAULT_TOPIC = "default";

export class EventList {
  #list = $("events");
  #kept = []; // oldest first
  #fresh = []; // kept, not rendered yet
  #held = []; // arrived while paused
  /** Removed by the last clearing: `{ kept, held, heldCount }`. */ #cleared = null;
  /** @type {HTMLElement | null} the row whose buttons are in the tab order */ #current = null;
  #heldCount = 0;
  #received = 0;
  #paused = false;
  #needle = "";
  #frame = 0;

  constructor() {
    $("pause").addEventListener("click", () => this.togglePause());
    $("clear").addEventListener("click", () => this.clear());
    $("undo-clear").addEventListener("click", () => this.#undoClear());
    this.#list.parentElement.addEventListener("keydown", (event) => this.#walk(event));
    this.#list.addEventListener("focusin", ({ target }) => this.#enter(target.closest(".event")));
    $("filter").addEventListener("input", (event) => {
      this.#setNeedle(event.target.value);
      this.#renderAll();
    });
    this.#showCount();
  }

  add({ type, topic = DEFAULT_TOPIC, data, id }) {
    const entry = { type, topic, data, id, received: new Date() };
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
    // Clearing an empty list leaves nothing more to undo.
    if (this.#kept.length || this.#held.length) {
      this.#cleared = { kept: this.#kept, held: this.#held, heldCount: this.#heldCount };
    }
    this.#kept = [];
    this.#held = [];
    this.#heldCount = 0;
    this.#renderAll();
  }

  #undoClear() {
    const { kept, held, heldCount } = this.#cleared;
    this.#cleared = null;
    if (this.#paused) {
      this.#held = [...held, ...this.#held].slice(-KEPT);
      this.#heldCount += heldCount;
    } else {
      kept.push(...held);
    }
    this.#kept = [...kept, ...this.#kept].slice(-KEPT);
    this.#setNeedle($("filter").value); // it may have changed since
    $("clear").focus(); // the pressed button is hidden now
    this.#renderAll();
  }

  /** Clears list, pause, filter and counts for the next sign-in. */
  reset() {
    if (this.#paused) this.togglePause();
    $("filter").value = "";
    this.#setNeedle("");
    this.#received = 0;
    this.clear();
    this.#cleared = null;
    this.#showCount();
  }

  #setNeedle(text) {
    this.#needle = text.trim().toLowerCase();
    for (const entry of [...this.#kept, ...this.#held]) entry.matches = undefined;
  }

  /** Moves the focus from event to event with the arrow keys. */
  #walk(event) {
    const next = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (!next) return;
    const row = event.target.closest(".event");
    const to = row ? row[next] : event.key === "ArrowDown" && this.#list.firstElementChild;
    if (!to) return;
    event.preventDefault();
    to.focus();
  }

  /** Puts only this row's buttons into the tab order; the buttons of all rows are too many. */
  #enter(row) {
    if (row === this.#current) return;
    for (const button of this.#current?.querySelectorAll("button") ?? []) button.tabIndex = -1;
    for (const button of row.querySelectorAll("button")) button.tabIndex = 0;
    this.#current = row;
  }

  #schedule() {
    this.#frame ||= requestAnimationFrame(() => this.#renderFresh());
  }

  #matches(entry) {
    entry.matches ??= !this.#needle || contains(entry, this.#needle);
    return entry.matches;
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
    const matching = this.#needle && `${number(this.#kept.filter((entry) => this.#matches(entry)).length)} match · `;
    setText($("events-count"),
      `${matching}${number(shown)} shown · ${number(this.#kept.length)} kept · ${number(this.#received)} received`);
    $("undo-clear").hidden = !this.#cleared;
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

/** Time of publication, from the id; a replayed event arrives later. */
function publishedAt({ id, received }) {
  const ms = Number(/-(\d{13})-\d+$/.exec(id)?.[1]);
  return ms ? new Date(ms) : received;
}

function row(entry) {
  const at = publishedAt(entry);
  const text = shown(entry);
  const lines = text.split("\n").length;
  const data = el("pre", { class: "event-data" });
  const fill = (part) => data.replaceChildren(...nodesOf(part, { coloured: entry.isJson && part.length <= COLOUR_CHARS }));
  const facts = { "data-id": entry.id, "data-type": entry.type, "data-topic": entry.topic };
  const item = el("li", { class: "event", tabindex: "-1", ...facts },
    el("time", {
      class: "event-time",
      datetime: at.toISOString(),
      title: `published ${at.toLocaleString()}, received ${clock(entry.received, { ms: true })}`,
    }, clock(at, { ms: true })),
    el("div", { class: "event-kind" },
      el("span", { class: "event-type", title: visible(entry.type) }, visible(entry.type)),
      ...topicOf(entry)),
    idButton(entry.id),
    data,
    copyButton(entry.data, "Copy data", { class: "event-copy small" }));
  if (lines > FOLD_LINES || text.length > FOLD_CHARS) {
    item.append(unfoldButton(data, lines, { fold: () => fill(text.slice(0, FOLDED_CHARS)), unfold: () => fill(text) }));
  } else {
    fill(text);
  }
  return item;
}

/** The topic, unless it is the one of events without a topic. */
function topicOf({ topic }) {
  if (topic === DEFAULT_TOPIC) return [];
  const text = visible(topic);
  return [el("span", { class: "event-topic", title: `Topic ${text}` }, text)];
}

function unfoldButton(data, lines, { fold, unfold }) {
  const label = lines > FOLD_LINES ? `Show all ${number(lines)} lines` : "Show all";
  const button = el("button", { class: "event-more small", type: "button", tabindex: "-1" });
  const set = (folded) => {
    data.classList.toggle("folded", folded);
    button.setAttribute("aria-expanded", String(!folded));
    button.textContent = folded ? label : "Show less";
    (folded ? fold : unfold)();
  };
  button.addEventListener("click", () => set(!data.classList.contains("folded")));
  set(true);
  return button;
}

function idButton(id) {
  const text = visible(id);
  return copyButton(id, text, { class: "event-id", "aria-label": `Copy id ${text}`, title: `Copy id ${text}` });
}

function copyButton(text, label, attributes) {
  const button = el("button", { type: "button", tabindex: "-1", ...attributes }, label);
  button.addEventListener("click", async () => {
    const outcome = await copy(text).then(() => "Copied", () => "Not copied");
    button.textContent = outcome;
    $("announce").textContent = outcome; // set even if equal, so that it is announced again
    setTimeout(() => {
      button.textContent = label;
      setText($("announce"), "");
    }, OUTCOME_MS);
  });
  return button;
}

/** The data as text for the page: short data as it arrived, longer JSON indented. */
function shown(entry) {
  if (entry.shown === undefined) {
    entry.isJson = isJson(entry.data);
    entry.shown = entry.isJson && entry.data.length > SHORT_CHARS ? indented(entry.data) : entry.data;
  }
  return entry.shown;
}

/** Searches type, topic and data, type and data both as they arrived and as they are shown. */
function contains(entry, needle) {
  const has = (text) => text.toLowerCase().includes(needle);
  return has(entry.type) || has(entry.topic) || has(entry.data) || has(visible(entry.type)) || has(visibleData(shown(entry)));
}
