// A canvas that is sharp on every screen and drawn at most once a frame, and only while it is seen.

import { oncePerFrame } from "./dom.js";

export class Chart {
  #seen = false;
  #stale = true;
  #draw = oncePerFrame(() => this.#drawNow());

  /** `draw(context, width, height, theme)` in CSS pixels. */
  constructor(canvas, draw) {
    this.canvas = canvas;
    this.draw = draw;
    this.context = canvas.getContext("2d");
    new ResizeObserver(() => this.redraw()).observe(canvas);
    new IntersectionObserver(([entry]) => {
      this.#seen = entry.isIntersecting;
      if (this.#seen && this.#stale) this.#draw();
    }).observe(canvas);
    addEventListener("themechange", () => this.redraw());
  }

  redraw() {
    this.#stale = true;
    if (this.#seen) this.#draw();
  }

  /** In CSS pixels. */
  setHeight(pixels) {
    const height = `${pixels}px`;
    if (this.canvas.style.height !== height) this.canvas.style.height = height;
  }

  #drawNow() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!this.#seen || width === 0) return;
    const ratio = devicePixelRatio || 1;
    const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
    // Setting either clears the canvas and is dear.
    const fits = this.canvas.width === wide && this.canvas.height === high;
    if (!fits) Object.assign(this.canvas, { width: wide, height: high });
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.context.clearRect(0, 0, width, height);
    this.context.font = "12px system-ui, sans-serif";
    this.context.textBaseline = "middle";
    this.#stale = false;
    this.draw(this.context, width, height, readTheme());
  }
}

function readTheme() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  return { text: read("--text"), muted: read("--muted"), line: read("--line"), accent: read("--accent") };
}

/** Text cut to a width, with an ellipsis. */
export function fitted(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let length = text.length;
  while (length > 1 && context.measureText(`${text.slice(0, length)}…`).width > width) length -= 1;
  return `${text.slice(0, length)}…`;
}

/** The moment of the playback, if it lies in view. */
export function drawCursor(context, plot, seconds, height, theme) {
  if (seconds === null || seconds < plot.axis.start || seconds > plot.axis.end) return;
  context.strokeStyle = theme.accent;
  context.lineWidth = 2;
  context.beginPath();
  context.moveTo(plot.x(seconds), 0);
  context.lineTo(plot.x(seconds), height);
  context.stroke();
}
