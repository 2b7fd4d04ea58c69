// @ts-check
/** The frames of a stream. */

/**
 * @typedef {{type: string, topic: string, data: string, id: string | null}} Frame
 *   A frame of a stream; `id` is null if it has none.
 * @typedef {{id: string}} Position
 *   An id without data, in a heartbeat.
 */

/**
 * Parses a text/event-stream (WHATWG HTML §9.2.6) from chunks of any size. The field `topic` is the
 * service's own.
 */
export class FrameReader {
  #decoder = new TextDecoder();
  #rest = "";
  /** @type {string[]} */ #data = [];
  #type = "";
  #topic = "";
  /** @type {string | null} */ #id = null;

  /**
   * @param {Uint8Array} chunk
   * @returns {Generator<Frame | Position>} the frames that it completes
   */
  *push(chunk) {
    this.#rest += this.#decoder.decode(chunk, { stream: true });
    // A CR at the end of a chunk may be the first half of a CR LF.
    const lines = this.#rest.split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line) this.#field(line);
      else yield* this.#frame();
    }
  }

  *#frame() {
    const data = this.#data;
    const id = this.#id;
    const frame = { type: this.#type || "message", topic: this.#topic || "default", data: data.join("\n"), id };
    this.#data = [];
    this.#type = this.#topic = "";
    this.#id = null;
    if (data.length > 0) yield frame;
    else if (id !== null) yield { id };
  }

  /** @param {string} line */
  #field(line) {
    const [, name, value] = /^([^:]*):? ?([^]*)$/.exec(line) ?? [];
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#type = value;
    else if (name === "topic") this.#topic = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
  }
}

/** @param {string} text @returns {any} */
export function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
