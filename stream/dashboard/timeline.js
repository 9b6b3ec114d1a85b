// The emotion of each speaker over time, a lane a speaker.

import { Plot } from "./axis.js";
import { Chart, drawCursor, fitted } from "./charts.js";
import { byId, fillTable } from "./dom.js";
import { clock, colourOf, ink, percent, symbolOf, verdictOf } from "./emotions.js";

const LANE = 30;
const BLOCK = 22;
const AXIS = 22;

export class Timeline {
  session = null;
  cursor = null;
  #axis;
  #speakers = [];
  #hatches = new Map();

  constructor(axis) {
    this.#axis = axis;
    this.chart = new Chart(byId("timeline"), (...drawing) => this.#draw(...drawing));
    byId("timeline-text").addEventListener("toggle", () => this.showTable());
  }

  redraw() {
    this.#speakers = this.session.speakers;
    this.chart.setHeight(Math.max(1, this.#speakers.length) * LANE + AXIS);
    this.chart.redraw();
  }

  /** The utterance at a point, in CSS pixels of the canvas. */
  at(x, y) {
    const time = new Plot(this.#axis, this.chart.canvas.clientWidth).time(x);
    const lane = this.#speakers[Math.floor(y / LANE)];
    let nearest = null;
    let distance = Infinity;
    for (const utterance of this.session.utterances.values()) {
      if (lane !== undefined && this.session.nameOf(utterance.speaker) !== lane) continue;
      const away = Math.max(utterance.start - time, time - utterance.end, 0);
      if (away < distance) [nearest, distance] = [utterance, away];
    }
    return nearest;
  }

  /** The first utterance in view. */
  first() {
    let first = null;
    for (const utterance of this.session.utterances.values()) {
      if (utterance.end > this.#axis.start && (!first || utterance.start < first.start)) first = utterance;
    }
    return first;
  }

  /** What an utterance is, in one line. */
  describe({ start, speaker, label, failure }) {
    const judged = label ? `${verdictOf(label)}, ${percent(label.probabilities[label.emotion])}` : "…";
    const verdict = failure ? "no label" : judged;
    return `${clock(start)} ${this.session.nameOf(speaker)}: ${verdict}`;
  }

  #draw(context, width, height, theme) {
    const plot = new Plot(this.#axis, width);
    this.#drawFrame(context, plot, height, theme);
    const lanes = new Map(this.#speakers.map((name, place) => [name, place]));
    const { start, end } = this.#axis;
    context.save();
    context.beginPath();
    context.rect(plot.left, 0, plot.right - plot.left, height);
    context.clip();
    for (const utterance of this.session.utterances.values()) {
      if (utterance.end < start || utterance.start > end) continue;
      const lane = lanes.get(this.session.nameOf(utterance.speaker));
      if (lane !== undefined) this.#drawBlock(context, plot, utterance, lane * LANE + (LANE - BLOCK) / 2, theme);
    }
    drawCursor(context, plot, this.cursor, height - AXIS, theme);
    context.restore();
  }

  #drawFrame(context, plot, height, theme) {
    context.strokeStyle = theme.line;
    context.lineWidth = 1;
    context.textAlign = "left";
    this.#speakers.forEach((name, lane) => {
      context.fillStyle = theme.text;
      context.fillText(fitted(context, name, plot.left - 12), 0, lane * LANE + LANE / 2);
      context.strokeRect(plot.left, lane * LANE + 0.5, plot.right - plot.left, LANE);
    });
    context.fillStyle = theme.muted;
    context.textAlign = "center";
    for (const [x, text] of plot.ticks()) {
      context.fillText(text, x, height - AXIS / 2 + 2);
      context.fillRect(x, height - AXIS, 1, 4);
    }
    context.textAlign = "left";
  }

  #drawBlock(context, plot, { start, end, label, open }, top, theme) {
    const x = plot.x(start);
    const wide = Math.max(1, plot.x(end) - x - (plot.scale > 4 ? 1 : 0));
    if (!label) {
      context.strokeStyle = theme.muted;
      context.strokeRect(x + 0.5, top + 0.5, Math.max(1, wide - 1), BLOCK - 1);
      return;
    }
    const colour = colourOf(label.emotion);
    context.fillStyle = colour;
    context.fillRect(x, top, wide, BLOCK);
    if (label.uncertain) {
      context.fillStyle = this.#hatch(context, colour);
      context.fillRect(x, top, wide, BLOCK);
    }
    if (wide < 16) return;
    const italic = !label.final || open ? "italic " : "";
    context.font = `${italic}12px system-ui, sans-serif`;
    const symbol = symbolOf(label.emotion);
    const texts = [`${symbol} ${label.emotion}`, symbol];
    const text = texts.find((each) => context.measureText(each).width <= wide - 6);
    if (!text) return;
    if (label.uncertain) {
      // A plain ground, so that the word reads on the hatching.
      context.fillStyle = colour;
      context.fillRect(x + 1, top + 3, context.measureText(text).width + 4, BLOCK - 6);
    }
    context.fillStyle = ink(colour);
    context.fillText(text, x + 3, top + BLOCK / 2 + 1);
  }

  #hatch(context, colour) {
    if (!this.#hatches.has(colour)) {
      const tile = Object.assign(document.createElement("canvas"), { width: 8, height: 8 });
      const pen = tile.getContext("2d");
      pen.strokeStyle = ink(colour) === "#000" ? "rgb(255 255 255 / 75%)" : "rgb(255 255 255 / 60%)";
      pen.lineWidth = 2;
      for (const offset of [-8, 0, 8]) {
        pen.moveTo(offset, 8);
        pen.lineTo(offset + 8, 0);
      }
      pen.stroke();
      this.#hatches.set(colour, context.createPattern(tile, "repeat"));
    }
    return this.#hatches.get(colour);
  }

  /** The same as a table, while it is open: seconds of each emotion. */
  showTable() {
    if (!byId("timeline-text").open || !this.session) return;
    const emotions = this.session.started?.emotions ?? [];
    const totals = new Map();
    for (const { speaker, start, end, label } of this.session.utterances.values()) {
      const name = this.session.nameOf(speaker);
      if (!totals.has(name)) totals.set(name, { spoken: 0, uncertain: 0, seconds: new Map() });
      const total = totals.get(name);
      total.spoken += end - start;
      if (!label) continue;
      if (label.uncertain) total.uncertain += end - start;
      total.seconds.set(label.emotion, (total.seconds.get(label.emotion) ?? 0) + end - start);
    }
    const rows = [...totals].map(([name, { spoken, uncertain, seconds }]) => [
      name ?? "unknown",
      spoken.toFixed(1),
      ...emotions.map((emotion) => (seconds.get(emotion) ?? 0).toFixed(1)),
      uncertain.toFixed(1),
    ]);
    const columns = ["Speaker", "Speech", ...emotions, "of it uncertain"];
    fillTable(byId("timeline-table"), "Seconds of speech by speaker and emotion", columns, rows);
  }
}
