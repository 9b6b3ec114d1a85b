// A lane a speaker: a block an utterance, or, where those are too narrow to see, bins with the shares of the emotions.

import { colourOf, ink, shortClock, symbolOf } from "./emotions.js";
import { emotionPattern, hatching } from "./patterns.js";
import { binned, medianLength, shownOf } from "./series.js";

export const LEFT = 92; // pixels for names
export const RIGHT = 26;
const LANE = 18;
const AXIS = 24;
const NARROWEST_PX = 4; // of an utterance, below which bins are drawn
const BIN_PX = 12;
const LEAST_FULL = 0.4; // of a lane, for a bin in which hardly anything was said
const SYMBOL_PX = 14;
const STEPS = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
const NAME_LENGTH = 12;

const short = (name) => (name.length > NAME_LENGTH ? `${name.slice(0, NAME_LENGTH - 1)}…` : name);

/** Colours of the page's theme, as CSS values that a canvas takes. */
export function themeColours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  return {
    text: read("--text"),
    muted: read("--muted"),
    line: read("--line"),
    accent: read("--accent"),
    ground: read("--panel"),
    alarm: read("--alarm-text"),
  };
}

export class LaneChart {
  #box;
  #store;
  #plot = null;
  #speakers = [];
  #drawn = "";

  constructor(box, store) {
    this.#box = box;
    this.#store = store;
  }

  destroy() {
    this.#plot?.destroy();
  }

  /** Draw what is shown now, if it differs from what was drawn. */
  draw() {
    const { session, axis } = this.#store;
    const width = this.#box.clientWidth;
    if (width === 0) return;
    const { speakers } = session;
    if (!this.#plot || speakers.join("\n") !== this.#speakers.join("\n") || width !== this.#plot.width)
      this.#make(speakers, width);
    const state = `${session.applied} ${axis.start} ${axis.end} ${session.speakers.length}`;
    if (state === this.#drawn) return;
    this.#drawn = state;
    this.#plot.setData([
      [axis.start, axis.end],
      [null, null],
    ]);
  }

  /** The utterance nearest to a moment in the lane at a height, in pixels of the chart. */
  at(seconds, y) {
    const lane = this.#speakers[Math.floor(y / LANE)];
    const { session } = this.#store;
    let [nearest, distance] = [null, Infinity];
    for (const utterance of session.utterances.values()) {
      if (lane !== undefined && session.nameOf(utterance.speaker) !== lane) continue;
      const away = Math.max(utterance.start - seconds, seconds - utterance.end, 0);
      if (away < distance) [nearest, distance] = [utterance, away];
    }
    return nearest;
  }

  #make(speakers, width) {
    this.#plot?.destroy();
    this.#speakers = speakers;
    this.#drawn = "";
    const { muted, text, line } = themeColours();
    const { axis } = this.#store;
    const lanes = Math.max(1, speakers.length);
    const centres = speakers.map((_, lane) => lanes - lane - 0.5);
    this.#plot = new uPlot(
      {
        width,
        height: lanes * LANE + AXIS,
        padding: [0, RIGHT, 0, 0],
        legend: { show: false },
        cursor: { show: false },
        scales: { x: { time: false, range: () => [axis.start, axis.end] }, y: { auto: false, range: [0, lanes] } },
        axes: [
          {
            size: AXIS,
            stroke: muted,
            incrs: STEPS,
            grid: { stroke: line, width: 1 },
            ticks: { size: 4, stroke: line },
            values: (_, times) => times.map(shortClock),
          },
          {
            size: LEFT,
            stroke: text,
            grid: { show: false },
            ticks: { show: false },
            space: 1,
            splits: () => centres,
            values: () => speakers.map(short),
            font: "12px system-ui, sans-serif",
          },
        ],
        series: [{}, { show: false }],
        hooks: { draw: [(plot) => this.#paint(plot)] },
      },
      [
        [0, 1],
        [null, null],
      ],
      this.#box,
    );
  }

  #paint(plot) {
    const { ctx, bbox } = plot;
    const { session, axis } = this.#store;
    const ratio = devicePixelRatio || 1;
    const shown = shownOf(session.inOrder, axis.start, axis.end);
    const scale = bbox.width / ratio / (axis.end - axis.start);
    const isNarrow = medianLength(shown) * scale < NARROWEST_PX;
    ctx.save();
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.beginPath();
    ctx.rect(bbox.left / ratio, 0, bbox.width / ratio, bbox.height / ratio);
    ctx.clip();
    ctx.textBaseline = "middle";
    ctx.textAlign = "left";
    ctx.font = "12px system-ui, sans-serif";
    const x = (seconds) => bbox.left / ratio + (seconds - axis.start) * scale;
    this.#speakers.forEach((name, lane) => {
      const own = shown.filter(({ speaker }) => session.nameOf(speaker) === name);
      if (isNarrow) paintBins(ctx, binned(own, BIN_PX / scale), BIN_PX / scale, x, lane * LANE + 2);
      else for (const utterance of own) paintBlock(ctx, utterance, x, lane * LANE + 2);
    });
    this.#box.dataset.drawn = isNarrow ? "bins" : "utterances";
    for (const { speaker, audio_end: end } of session.alerts) {
      const lane = this.#speakers.indexOf(session.nameOf(speaker));
      if (lane >= 0) paintAlert(ctx, x(end), lane * LANE + LANE / 2);
    }
    ctx.restore();
  }
}

function paintAlert(ctx, x, y) {
  const { ground, alarm } = themeColours();
  ctx.fillStyle = ground;
  ctx.beginPath();
  ctx.arc(x, y, LANE / 2 - 2, 0, 7);
  ctx.fill();
  ctx.fillStyle = alarm;
  ctx.textAlign = "center";
  ctx.fillText("⚠", x, y + 1);
  ctx.textAlign = "left";
}

/** Stacked shares of a speaker's emotions in each bin; the higher, the more of it they spoke. */
function paintBins(ctx, bins, width, x, top) {
  const height = LANE - 4;
  for (const [bin, shares] of bins) {
    let bottom = top + height;
    const spoken = [...shares.values()].reduce((sum, seconds) => sum + seconds, 0);
    const full = (LEAST_FULL + (1 - LEAST_FULL) * Math.min(1, spoken / width)) * height;
    const left = x(bin * width);
    const wide = Math.max(1, x((bin + 1) * width) - left - 1);
    for (const [emotion, seconds] of [...shares].sort(([one], [other]) => (one < other ? -1 : 1))) {
      const high = (seconds / spoken) * full;
      ctx.fillStyle = emotionPattern(ctx, emotion);
      ctx.fillRect(left, bottom - high, wide, high);
      bottom -= high;
    }
  }
}

function paintBlock(ctx, { start, end, label, open }, x, top) {
  const height = LANE - 4;
  const left = x(start);
  const wide = Math.max(1, x(end) - left - 1);
  if (!label) {
    ctx.strokeStyle = themeColours().muted;
    ctx.strokeRect(left + 0.5, top + 0.5, Math.max(1, wide - 1), height - 1);
    return;
  }
  const colour = colourOf(label.emotion);
  ctx.globalAlpha = label.final && !open ? 1 : 0.7;
  ctx.fillStyle = colour;
  ctx.fillRect(left, top, wide, height);
  if (label.uncertain) {
    ctx.fillStyle = hatching(ctx, colour);
    ctx.fillRect(left, top, wide, height);
  }
  ctx.globalAlpha = 1;
  if (wide < SYMBOL_PX) return;
  const symbol = symbolOf(label.emotion);
  const text = [`${symbol} ${label.emotion}`, symbol].find((each) => ctx.measureText(each).width <= wide - 6);
  if (!text) return;
  if (label.uncertain) {
    // A plain ground, so that the word reads on the hatching.
    ctx.fillStyle = colour;
    ctx.fillRect(left + 1, top + 1, ctx.measureText(text).width + 4, height - 2);
  }
  ctx.fillStyle = ink(colour);
  ctx.fillText(text, left + 3, top + height / 2 + 1);
}
