// Mood over time: a smooth line with its band, of everybody or of the speaker in focus.

import { LEFT, RIGHT, themeColours } from "./lanes.js";
import { moodLine } from "./series.js";

const HEIGHT = 60;
const RANGE = 0.8; // of valence: the means of several utterances hardly leave it
const LEVELS = new Map([
  [0.6, "positive"],
  [0, "neutral"],
  [-0.6, "negative"],
]);

export class MoodChart {
  #box;
  #store;
  #plot = null;
  #drawn = "";

  constructor(box, store) {
    this.#box = box;
    this.#store = store;
  }

  destroy() {
    this.#plot?.destroy();
  }

  draw() {
    const { session, axis, focus } = this.#store;
    const width = this.#box.clientWidth;
    if (width === 0) return;
    if (!this.#plot) this.#make(width);
    else if (width !== this.#plot.width) this.#plot.setSize({ width, height: HEIGHT });
    const state = `${session.applied} ${axis.start} ${axis.end} ${focus}`;
    if (state === this.#drawn) return;
    this.#drawn = state;
    const { inOrder } = session;
    const own = focus === null ? inOrder : inOrder.filter(({ speaker }) => session.nameOf(speaker) === focus);
    this.#plot.setData(moodLine(own, axis.start, axis.end));
  }

  #make(width) {
    const { muted, line, accent } = themeColours();
    const { axis } = this.#store;
    const edge = () => ({ stroke: "transparent", width: 0, points: { show: false } });
    this.#plot = new uPlot(
      {
        width,
        height: HEIGHT,
        padding: [6, RIGHT, 6, 0],
        legend: { show: false },
        cursor: { show: false },
        scales: { x: { time: false, range: () => [axis.start, axis.end] }, y: { auto: false, range: [-RANGE, RANGE] } },
        axes: [
          { show: false },
          {
            size: LEFT,
            stroke: muted,
            ticks: { show: false },
            grid: { stroke: line, width: 1 },
            font: "12px system-ui, sans-serif",
            splits: () => [...LEVELS.keys()],
            values: (_, levels) => levels.map((level) => LEVELS.get(level)),
          },
        ],
        series: [{}, { stroke: accent, width: 2, points: { show: false } }, edge(), edge()],
        bands: [{ series: [3, 2], fill: `${accent}33` }],
      },
      [
        [0, 1],
        [null, null],
        [null, null],
        [null, null],
      ],
      this.#box,
    );
  }
}
