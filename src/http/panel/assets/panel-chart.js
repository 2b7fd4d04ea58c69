// Small charts of two kinds, bars and a line, drawn as paths into an <svg> of the page.

import { number } from "./panel-base.js";

const WIDTH = 300;
const HEIGHT = 64;

/** A chart without axes. Time runs to the right, the scale starts at 0. */
export class Chart {
  #area = path("area");
  #line = path("line");

  constructor(svg, { bars = false } = {}) {
    const base = path("base");
    base.setAttribute("d", `M0 ${HEIGHT - 0.5}H${WIDTH}`);
    const middle = path("base");
    middle.setAttribute("d", `M0 ${HEIGHT / 2}H${WIDTH}`);
    if (bars) this.#area.setAttribute("class", "bars");
    svg.replaceChildren(middle, this.#area, this.#line, base);
  }

  /** @returns {string} label of the top of the scale */
  drawBars(values) {
    const top = niceTop(Math.max(...values));
    const step = WIDTH / values.length;
    let d = "";
    values.forEach((value, i) => {
      if (!value) return;
      const height = Math.max(1.5, (value / top) * HEIGHT);
      d += `M${(i * step + 0.4).toFixed(2)} ${HEIGHT}v${(-height).toFixed(2)}h${(step - 0.8).toFixed(2)}V${HEIGHT}z`;
    });
    this.#area.setAttribute("d", d);
    return number(top);
  }

  /**
   * Draws points `{ at, value }` of the last `windowMs`. Points further apart than `joinedMs` are
   * not joined, so that a pause shows as a gap and not as an invented line.
   * @returns {string} label of the top of the scale
   */
  drawLine(points, now, { windowMs, joinedMs }) {
    const top = niceTop(Math.max(0, ...points.map(({ value }) => value)));
    let line = "";
    let area = "";
    let previous = null;
    for (const point of points) {
      const x = (WIDTH - ((now - point.at) / windowMs) * WIDTH).toFixed(2);
      const y = (HEIGHT - (point.value / top) * HEIGHT).toFixed(2);
      const joined = previous && point.at - previous.at < joinedMs;
      if (!joined && previous) area += `V${HEIGHT}z`;
      line += `${joined ? "L" : "M"}${x} ${y}`;
      area += joined ? `L${x} ${y}` : `M${x} ${HEIGHT}L${x} ${y}`;
      previous = point;
    }
    if (previous) area += `V${HEIGHT}z`;
    this.#line.setAttribute("d", line);
    this.#area.setAttribute("d", area);
    return number(top);
  }
}

function path(name) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", "path");
  node.setAttribute("class", name);
  node.setAttribute("vector-effect", "non-scaling-stroke");
  return node;
}

/** The next of 1, 2, 5, 10, 20, … above the value. */
function niceTop(value) {
  if (value <= 1) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((factor) => factor * power >= value) * power;
}
