// Who influences whom: attention between speakers, as a graph and as a table.

import { byId, fillTable, shape } from "./dom.js";

const WIDTH = 360;
const HEIGHT = { few: 130, many: 260 };
const NODE = 26;
const FAINTEST = 0.03;
const NAME_LENGTH = 9;

/** Mean attention that an utterance of `to` pays to all that `from` said before it, for each pair that has any. */
function influenceEdges(session) {
  const counts = new Map();
  const sums = new Map();
  for (const { speaker, influences } of session.utterances.values()) {
    const shares = Object.entries(influences);
    if (shares.length === 0 || speaker === null) continue;
    const to = session.nameOf(speaker);
    counts.set(to, (counts.get(to) ?? 0) + 1);
    if (!sums.has(to)) sums.set(to, new Map());
    const paid = sums.get(to);
    for (const [number, share] of shares) {
      const earlier = session.utterances.get(Number(number));
      if (!earlier) continue;
      const from = session.nameOf(earlier.speaker);
      paid.set(from, (paid.get(from) ?? 0) + share);
    }
  }
  const edges = [];
  for (const [to, paid] of sums) for (const [from, sum] of paid) edges.push({ from, to, weight: sum / counts.get(to) });
  return edges.sort((one, other) => other.weight - one.weight);
}

export class InfluenceGraph {
  #seen = false;
  #session = null;
  #drawn = "";

  constructor() {
    new IntersectionObserver(([entry]) => {
      this.#seen = entry.isIntersecting;
      this.#draw();
    }).observe(byId("influence"));
    byId("influence-text").addEventListener("toggle", () => this.#draw());
  }

  show(session) {
    this.#session = session;
    this.#draw();
  }

  #draw() {
    if (!this.#session || !this.#seen) return;
    const edges = influenceEdges(this.#session);
    const speakers = this.#session.speakers;
    const picture = JSON.stringify([speakers, edges.map(({ from, to, weight }) => [from, to, weight.toFixed(2)])]);
    if (picture !== this.#drawn) drawGraph(byId("influence"), speakers, edges);
    this.#drawn = picture;
    if (!byId("influence-text").open) return;
    const rows = edges.map(({ from, to, weight }) => [from ?? "unknown", to, weight.toFixed(2)]);
    fillTable(byId("influence-table"), "Mean share of attention", ["Said earlier by", "Influences", "Share"], rows);
  }
}

function drawGraph(svg, speakers, edges) {
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${heightFor(speakers.length)}`);
  const places = new Map(speakers.map((name, place) => [name, placeOf(place, speakers.length)]));
  const strong = edges.filter(({ from, to, weight }) => weight >= FAINTEST && places.has(from) && places.has(to));
  const lines = strong.map((edge) => drawEdge(places.get(edge.from), places.get(edge.to), edge.weight));
  const nodes = speakers.map((name) => drawNode(name, places.get(name)));
  svg.replaceChildren(arrowHead(), ...lines, ...nodes);
}

const heightFor = (count) => (count < 3 ? HEIGHT.few : HEIGHT.many);

function placeOf(place, count) {
  const angle = Math.PI + (2 * Math.PI * place) / count;
  const centre = { x: WIDTH / 2, y: heightFor(count) / 2, angle };
  if (count === 1) return centre;
  return { x: centre.x + 100 * Math.cos(angle), y: centre.y + (count === 2 ? 0 : 76) * Math.sin(angle), angle };
}

function arrowHead() {
  const tip = shape("path", { d: "M 0 0 L 8 4 L 0 8 z", class: "tip" });
  const size = { markerWidth: 12, markerHeight: 12, markerUnits: "userSpaceOnUse", viewBox: "0 0 8 8" };
  return shape("defs", {}, shape("marker", { id: "tip", refX: 7, refY: 4, orient: "auto", ...size }, tip));
}

function drawNode(name, { x, y }) {
  const short = name.length > NAME_LENGTH ? `${name.slice(0, NAME_LENGTH - 1)}…` : name;
  const text = shape("text", { x, y: y + 4, class: "name" }, short);
  return shape("g", {}, shape("title", {}, name), shape("circle", { cx: x, cy: y, r: NODE }), text);
}

function drawEdge(from, to, weight) {
  const { path, label } = from === to ? loop(from) : curve(from, to);
  const line = shape("path", { d: path, class: "edge", "stroke-width": 1 + 8 * weight, "marker-end": "url(#tip)" });
  return shape("g", {}, line, shape("text", { x: label.x, y: label.y + 4, class: "weight" }, weight.toFixed(2)));
}

/** A bow from one node to another, to the left of its direction, so that there and back are apart. */
function curve(from, to) {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length = Math.hypot(dx, dy);
  const [ux, uy] = [dx / length, dy / length];
  const bow = 0.2 * length;
  const middle = { x: (from.x + to.x) / 2 + uy * bow, y: (from.y + to.y) / 2 - ux * bow };
  const start = towards(from, middle, NODE);
  const end = towards(to, middle, NODE + 5);
  const path = `M ${start.x} ${start.y} Q ${middle.x} ${middle.y} ${end.x} ${end.y}`;
  return { path, label: alongBow(start, middle, end, 0.4) };
}

/** A point on a quadratic curve; before its middle, so that the numbers of crossing edges stay apart. */
function alongBow(start, middle, end, share) {
  const at = (axis) =>
    (1 - share) ** 2 * start[axis] + 2 * share * (1 - share) * middle[axis] + share ** 2 * end[axis];
  return { x: at("x"), y: at("y") };
}

function loop({ x, y, angle }) {
  const at = (turn, reach) => ({ x: x + reach * Math.cos(angle + turn), y: y + reach * Math.sin(angle + turn) });
  const [start, one, other, end] = [at(-0.5, NODE), at(-0.7, 78), at(0.7, 78), at(0.5, NODE + 5)];
  const path = `M ${start.x} ${start.y} C ${one.x} ${one.y} ${other.x} ${other.y} ${end.x} ${end.y}`;
  return { path, label: at(0, 64) };
}

function towards(from, to, distance) {
  const share = distance / Math.hypot(to.x - from.x, to.y - from.y);
  return { x: from.x + (to.x - from.x) * share, y: from.y + (to.y - from.y) * share };
}
