// The valence of each speaker over time, a line a speaker.

import { Plot } from "./axis.js";
import { Chart, drawCursor, fitted } from "./charts.js";
import { byId } from "./dom.js";

const HEIGHT = 120;
const MARGIN = 10;
const BUCKET_PX = 8;
const LABEL_PX = 14;

const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3], [4, 2], [12, 5], [1, 5], [8, 2, 2, 2, 2, 2]];
// A shade for either theme; the emotions' colours mean something else and are left out.
const SHADES = {
  light: ["#1b2a41", "#7a3b69", "#2f6b4f", "#8a4b08", "#3f3d9e", "#8c1c3b", "#31616e", "#565656"],
  dark: ["#e8eef7", "#e3a6d2", "#93d6b3", "#f0b97a", "#b3b1ff", "#ff9db4", "#96d3e3", "#c4c4c4"],
};

export class Trend {
  session = null;
  cursor = null;
  #axis;

  constructor(axis) {
    this.#axis = axis;
    this.chart = new Chart(byId("trend"), (...drawing) => this.#draw(...drawing));
    this.chart.setHeight(HEIGHT);
  }

  redraw() {
    this.chart.redraw();
  }

  #draw(context, width, height, theme) {
    const plot = new Plot(this.#axis, width);
    const y = (valence) => MARGIN + ((1 - valence) / 2) * (height - 2 * MARGIN);
    context.lineWidth = 1;
    for (const [level, name] of [[1, "positive"], [0, "neutral"], [-1, "negative"]]) {
      context.fillStyle = theme.line;
      context.fillRect(plot.left, Math.round(y(level)), plot.right - plot.left, 1);
      context.fillStyle = theme.muted;
      context.fillText(name, 0, y(level));
    }
    const ends = [];
    this.session.speakers.forEach((speaker, place) => {
      const points = this.#points(speaker, plot);
      if (points.length === 0) return;
      const colour = SHADES[document.documentElement.dataset.theme][place % DASHES.length];
      this.#drawLine(context, plot, points, y, colour, DASHES[place % DASHES.length]);
      ends.push({ speaker, colour, y: y(points.at(-1).valence) });
    });
    drawCursor(context, plot, this.cursor, height, theme);
    this.#drawEnds(context, plot, width, height, ends);
  }

  /** Means over narrow slots of the axis, so that hours do not become a scribble. */
  #points(speaker, plot) {
    const slots = new Map();
    const { start, end } = this.#axis;
    const near = (end - start) / 4;
    for (const utterance of this.session.utterances.values()) {
      if (!utterance.label || this.session.nameOf(utterance.speaker) !== speaker) continue;
      const time = (utterance.start + utterance.end) / 2;
      if (time < start - near || time > end + near) continue;
      // Slots are fixed in time, else the line would flicker while the axis moves.
      const slot = Math.floor((time * plot.scale) / BUCKET_PX);
      const known = slots.get(slot) ?? { time: 0, valence: 0, count: 0 };
      known.count += 1;
      known.time += time;
      known.valence += utterance.valence;
      slots.set(slot, known);
    }
    const means = Array.from(slots.values(), ({ time, valence, count }) => [time / count, valence / count]);
    return means.map(([time, valence]) => ({ time, valence })).sort((one, other) => one.time - other.time);
  }

  #drawLine(context, plot, points, y, colour, dash) {
    context.save();
    context.beginPath();
    context.rect(plot.left, 0, plot.right - plot.left, HEIGHT);
    context.clip();
    context.strokeStyle = context.fillStyle = colour;
    context.lineWidth = 1.75;
    context.setLineDash(dash);
    context.beginPath();
    for (const { time, valence } of points) context.lineTo(plot.x(time), y(valence));
    context.stroke();
    if (points.length < 60) {
      for (const { time, valence } of points) context.fillRect(plot.x(time) - 2, y(valence) - 2, 4, 4);
    }
    context.restore();
  }

  #drawEnds(context, plot, width, height, ends) {
    ends.sort((one, other) => one.y - other.y);
    let lowest = -Infinity;
    for (const end of ends) lowest = end.y = Math.max(end.y, lowest + LABEL_PX);
    // Push back up what went over the edge.
    let highest = height - LABEL_PX / 2;
    for (const end of [...ends].reverse()) highest = (end.y = Math.min(end.y, highest)) - LABEL_PX;
    for (const { speaker, colour, y } of ends) {
      context.fillStyle = colour;
      context.fillText(fitted(context, speaker, width - plot.right - 8), plot.right + 6, y);
    }
  }
}
