// The shown part of a session's time, and the gestures that move it.

const SHORTEST_S = 2;
const LEAST_DURATION_S = 10;
const CLICK_PX = 4;
const EDGE_PX = 8; // of a brush, by which it is made wider

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
    this.show(0, this.duration);
  }

  /** The session has become longer: a view of all stays one of all, a view of the end stays with the end. */
  grow(duration) {
    if (duration <= this.duration) return;
    const { start, end, duration: before } = this;
    this.duration = duration;
    if (end < before) return;
    this.show(start + duration - before, start === 0 ? duration : end - start);
  }

  /** Show `factor` times as much, keeping the media time `centre` where it is. */
  zoom(factor, centre = (this.start + this.end) / 2) {
    const span = Math.min(this.duration, Math.max(SHORTEST_S, (this.end - this.start) * factor));
    const start = centre - ((centre - this.start) / (this.end - this.start)) * span;
    this.show(start, span);
  }

  /** Move by a share of what is shown. */
  pan(share) {
    const span = this.end - this.start;
    this.show(this.start + share * span, span);
  }

  select(from, to) {
    if (to - from >= SHORTEST_S / 4) this.show(from, Math.max(to - from, SHORTEST_S));
  }

  /** Bring a moment into view. */
  reveal(seconds) {
    const span = this.end - this.start;
    if (seconds < this.start || seconds > this.end) this.show(seconds - span / 2, span);
  }

  show(start, span) {
    const shown = Math.min(span, this.duration);
    this.start = Math.max(0, Math.min(start, this.duration - shown));
    this.end = this.start + shown;
    this.onChange();
  }
}

/**
 * Let pointer, wheel and keys on `box` move the axis.
 *
 * `plot()` answers the chart's {left, width} in pixels of the box; `band` shows a selection; `onClick(seconds, event)`;
 * `onEnter()`.
 */
export function bindGestures(box, axis, band, { plot, onClick, onEnter }) {
  const xOf = (event) => event.clientX - box.getBoundingClientRect().left;
  const pointers = new Map();
  let from = null;
  let moved = false;

  const secondsPerPixel = () => (axis.end - axis.start) / Math.max(1, plot().width);
  const within = (x) => Math.min(Math.max(x, plot().left), plot().left + plot().width);
  const timeAt = (x) => axis.start + (within(x) - plot().left) * secondsPerPixel();

  function showBand(to) {
    const [low, high] = [Math.min(from, to), Math.max(from, to)].map(within);
    band.hidden = false;
    band.style.left = `${low}px`;
    band.style.width = `${high - low}px`;
  }

  function touchMove(event) {
    const before = [...pointers.values()];
    const earlier = pointers.get(event.pointerId);
    pointers.set(event.pointerId, xOf(event));
    const after = [...pointers.values()];
    if (after.length === 1) axis.pan(((earlier - after[0]) * secondsPerPixel()) / (axis.end - axis.start));
    if (after.length !== 2) return;
    const [apart, now] = [before, after].map(([one, other]) => Math.max(20, Math.abs(one - other)));
    axis.zoom(apart / now, timeAt((after[0] + after[1]) / 2));
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
    if (!moved) onClick(timeAt(xOf(event)), event);
    else if (event.pointerType !== "touch") {
      const [low, high] = [from, xOf(event)].map(timeAt).sort((one, other) => one - other);
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
      if (event.ctrlKey || event.metaKey) axis.zoom(Math.exp(event.deltaY / 300), timeAt(xOf(event)));
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

/** Let pointer and keys on an overview of the whole session move the shown part: a brush. */
export function bindBrush(box, axis, plot) {
  let grabbed = null;
  const timeAt = (event) => {
    const { left, width } = plot();
    const share = (event.clientX - box.getBoundingClientRect().left - left) / Math.max(1, width);
    return Math.min(1, Math.max(0, share)) * axis.duration;
  };
  box.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    box.setPointerCapture(event.pointerId);
    const time = timeAt(event);
    const edge = (EDGE_PX / Math.max(1, plot().width)) * axis.duration;
    if (Math.abs(time - axis.start) < edge) grabbed = { from: axis.end, offset: null };
    else if (Math.abs(time - axis.end) < edge) grabbed = { from: axis.start, offset: null };
    else {
      const isInside = time >= axis.start && time <= axis.end && axis.end - axis.start < axis.duration;
      grabbed = { from: time, offset: isInside ? time - axis.start : null };
    }
  });
  box.addEventListener("pointermove", (event) => {
    if (!grabbed) return;
    const time = timeAt(event);
    if (grabbed.offset !== null) axis.show(time - grabbed.offset, axis.end - axis.start);
    else axis.select(Math.min(time, grabbed.from), Math.max(time, grabbed.from));
  });
  box.addEventListener("pointerup", (event) => {
    if (grabbed?.offset === null && Math.abs(timeAt(event) - grabbed.from) < axis.duration / 200) {
      axis.show(grabbed.from - (axis.end - axis.start) / 2, axis.end - axis.start);
    }
    grabbed = null;
  });
  box.addEventListener("pointercancel", () => (grabbed = null));
}
