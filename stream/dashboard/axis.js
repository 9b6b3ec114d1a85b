// The time axis that the charts share, and the gestures that move it.

import { clock } from "./emotions.js";

const SHORTEST_S = 2;
const LEAST_DURATION_S = 10;
const STEPS = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
const TICK_PX = 70;
const CLICK_PX = 4;

/** The part of a session's time that is shown. */
export class Axis {
  start = 0;
  end = LEAST_DURATION_S;
  duration = LEAST_DURATION_S;

  /** `onChange()` is called whenever the shown part changes. */
  constructor(onChange) {
    this.onChange = onChange;
  }

  reset(duration = this.duration) {
    this.duration = Math.max(duration, LEAST_DURATION_S);
    this.#show(0, this.duration);
  }

  /** The session has become longer: a view of all stays one of all, a view of the end stays with the end. */
  grow(duration) {
    if (duration <= this.duration) return;
    const { start, end, duration: before } = this;
    this.duration = duration;
    if (end < before) return;
    this.#show(start + duration - before, start === 0 ? duration : end - start);
  }

  /** Show `factor` times as much, keeping the media time `centre` where it is. */
  zoom(factor, centre = (this.start + this.end) / 2) {
    const span = Math.min(this.duration, Math.max(SHORTEST_S, (this.end - this.start) * factor));
    const start = centre - ((centre - this.start) / (this.end - this.start)) * span;
    this.#show(start, span);
  }

  /** Move by a share of what is shown. */
  pan(share) {
    const span = this.end - this.start;
    this.#show(this.start + share * span, span);
  }

  select(from, to) {
    if (to - from >= SHORTEST_S / 4) this.#show(from, Math.max(to - from, SHORTEST_S));
  }

  #show(start, span) {
    const shown = Math.min(span, this.duration);
    this.start = Math.max(0, Math.min(start, this.duration - shown));
    this.end = this.start + shown;
    this.onChange();
  }
}

/** Where a plot lies in a chart of some width, in pixels. */
export class Plot {
  constructor(axis, width) {
    const narrow = width < 520;
    this.axis = axis;
    this.left = narrow ? 60 : 100;
    this.right = width - (narrow ? 54 : 84);
    this.scale = Math.max(1, this.right - this.left) / (axis.end - axis.start);
  }

  x(seconds) {
    return this.left + (seconds - this.axis.start) * this.scale;
  }

  time(x) {
    const clamped = Math.min(Math.max(x, this.left), this.right);
    return this.axis.start + (clamped - this.left) / this.scale;
  }

  /** Media times to write at the axis. */
  ticks() {
    const least = TICK_PX / this.scale;
    const step = STEPS.find((size) => size >= least) ?? STEPS.at(-1);
    const times = [];
    for (let time = Math.ceil(this.axis.start / step) * step; time <= this.axis.end; time += step) times.push(time);
    return times.map((time) => [this.x(time), step < 1 ? clock(time) : clock(time).replace(/^(\d+:\d+)\.\d$/, "$1")]);
  }
}

/** Let pointer, wheel and keys on `box` move the axis. `onClick(x, y)`, `onEnter()`; `band` shows a selection. */
export function bindGestures(box, axis, band, { onClick, onEnter }) {
  const plot = () => new Plot(axis, box.clientWidth);
  const xOf = (event) => event.clientX - box.getBoundingClientRect().left;
  const pointers = new Map();
  let from = null;
  let moved = false;

  function showBand(to) {
    const { left, right } = plot();
    const [low, high] = [Math.min(from, to), Math.max(from, to)].map((x) => Math.min(Math.max(x, left), right));
    band.hidden = false;
    band.style.left = `${low}px`;
    band.style.width = `${high - low}px`;
  }

  function touchMove(event) {
    const before = [...pointers.values()];
    const earlier = pointers.get(event.pointerId);
    pointers.set(event.pointerId, xOf(event));
    const after = [...pointers.values()];
    if (after.length === 1) axis.pan((earlier - after[0]) / plot().scale / (axis.end - axis.start));
    if (after.length !== 2) return;
    const [apart, now] = [before, after].map(([one, other]) => Math.max(20, Math.abs(one - other)));
    axis.zoom(apart / now, plot().time((after[0] + after[1]) / 2));
  }

  box.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    box.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, xOf(event));
    from = xOf(event);
    moved = pointers.size > 1;
  });
  box.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    moved ||= Math.abs(xOf(event) - from) > CLICK_PX;
    if (!moved) return;
    if (event.pointerType === "touch") touchMove(event);
    else showBand(xOf(event));
  });
  box.addEventListener("pointerup", (event) => {
    if (!pointers.delete(event.pointerId)) return;
    if (!moved) onClick(xOf(event), event);
    else if (event.pointerType !== "touch") {
      const [low, high] = [from, xOf(event)].map((x) => plot().time(x)).sort((one, other) => one - other);
      axis.select(low, high);
    }
    band.hidden = true;
  });
  box.addEventListener("pointercancel", (event) => {
    pointers.delete(event.pointerId);
    band.hidden = true;
  });
  box.addEventListener(
    "wheel",
    (event) => {
      const sideways = event.shiftKey ? event.deltaY : event.deltaX;
      // A pinch on a touchpad comes as a wheel with Ctrl.
      if (event.ctrlKey || event.metaKey) axis.zoom(Math.exp(event.deltaY / 300), plot().time(xOf(event)));
      else if (Math.abs(sideways) > 0) axis.pan(sideways / 800);
      else return;
      event.preventDefault();
    },
    { passive: false },
  );
  const keys = {
    "+": () => axis.zoom(0.5),
    "=": () => axis.zoom(0.5),
    "-": () => axis.zoom(2),
    "−": () => axis.zoom(2),
    0: () => axis.reset(),
    ArrowLeft: () => axis.pan(-0.2),
    ArrowRight: () => axis.pan(0.2),
    ArrowUp: () => axis.zoom(0.5),
    ArrowDown: () => axis.zoom(2),
    Home: () => axis.pan(-Infinity),
    End: () => axis.pan(Infinity),
    Enter: onEnter,
  };
  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  });
}
