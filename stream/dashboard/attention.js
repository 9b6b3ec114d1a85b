// Whose words the model looked at: a graph for up to three speakers, else a matrix. No claim that people influence
// each other.

import { useStore } from "./pacing.js";
import { html } from "./vendor/preact-htm.js";

const WIDTH = 360;
const HEIGHT = { few: 130, many: 260 };
const NODE = 26;
const FAINTEST = 0.03;
const NAME_LENGTH = 9;
const MOST_DRAWN = 3; // speakers of which a graph is readable

/** Mean attention that an utterance of `to` pays to all that `from` said before it, for each pair that has any. */
function attentionEdges(session) {
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
      const from = session.nameOf(earlier.speaker) ?? "unknown";
      paid.set(from, (paid.get(from) ?? 0) + share);
    }
  }
  const edges = [];
  for (const [to, paid] of sums) for (const [from, sum] of paid) edges.push({ from, to, weight: sum / counts.get(to) });
  return edges.sort((one, other) => other.weight - one.weight);
}

export function AttentionPanel({ store }) {
  useStore(store, 1000);
  const { speakers } = store.session;
  const edges = attentionEdges(store.session);
  if (edges.length === 0) return null;
  const isDrawn = speakers.length <= MOST_DRAWN;
  return html`
    <section id="attention" class="panel" aria-labelledby="attention-title">
      <h2 id="attention-title">Whose words the model looked at</h2>
      ${isDrawn && html`<${Graph} speakers=${speakers} edges=${edges} />`}
      <p class="hint">
        The mean share of attention that a label of ${isDrawn ? "the speaker at an arrow’s head" : "the speaker of a row"} pays
        to what ${isDrawn ? "the one at its tail" : "the one of the column"} said earlier. It says what the model used, not
        that people influence each other.
      </p>
      ${
        isDrawn
          ? html`<details id="attention-text"><summary>As a table</summary><${Matrix} speakers=${speakers} edges=${edges} /></details>`
          : html`<${Matrix} speakers=${speakers} edges=${edges} />`
      }
    </section>
  `;
}

function Matrix({ speakers, edges }) {
  const weights = new Map(edges.map(({ from, to, weight }) => [`${to}\n${from}`, weight]));
  const most = Math.max(...weights.values());
  const cell = (to, from) => {
    const weight = weights.get(`${to}\n${from}`) ?? 0;
    return html`<td key=${from} style=${{ "--weight": weight / most }}>${weight > 0 ? weight.toFixed(2) : "–"}</td>`;
  };
  return html`
    <div class="scroll" role="region" tabindex="0" aria-label="Attention as a table">
      <table id="attention-table">
        <caption>Labels of (row) looked at words of (column)</caption>
        <thead><tr><th scope="col">Labels of</th>${speakers.map((name) => html`<th scope="col" key=${name}>${name}</th>`)}</tr></thead>
        <tbody>${speakers.map((to) => html`<tr key=${to}><th scope="row">${to}</th>${speakers.map((from) => cell(to, from))}</tr>`)}</tbody>
      </table>
    </div>
  `;
}

function Graph({ speakers, edges }) {
  const places = new Map(speakers.map((name, place) => [name, placeOf(place, speakers.length)]));
  const strong = edges.filter(({ from, to, weight }) => weight >= FAINTEST && places.has(from) && places.has(to));
  return html`
    <svg id="attention-graph" viewBox="0 0 ${WIDTH} ${heightFor(speakers.length)}" role="img"
      aria-label="Attention between speakers; the table below says the same">
      <defs>
        <marker id="tip" refX="7" refY="4" orient="auto" markerWidth="12" markerHeight="12" markerUnits="userSpaceOnUse" viewBox="0 0 8 8">
          <path d="M 0 0 L 8 4 L 0 8 z" class="tip" />
        </marker>
      </defs>
      ${strong.map(({ from, to, weight }) => html`<${Edge} key="${from}\n${to}" from=${places.get(from)} to=${places.get(to)} weight=${weight} />`)}
      ${speakers.map((name) => html`<${Node} key=${name} name=${name} place=${places.get(name)} />`)}
    </svg>
  `;
}

const heightFor = (count) => (count < 3 ? HEIGHT.few : HEIGHT.many);

function placeOf(place, count) {
  const angle = Math.PI + (2 * Math.PI * place) / count;
  const centre = { x: WIDTH / 2, y: heightFor(count) / 2, angle };
  if (count === 1) return centre;
  return { x: centre.x + 100 * Math.cos(angle), y: centre.y + (count === 2 ? 0 : 76) * Math.sin(angle), angle };
}

function Node({ name, place: { x, y } }) {
  const short = name.length > NAME_LENGTH ? `${name.slice(0, NAME_LENGTH - 1)}…` : name;
  return html`<g><title>${name}</title><circle cx=${x} cy=${y} r=${NODE} /><text x=${x} y=${y + 4} class="name">${short}</text></g>`;
}

function Edge({ from, to, weight }) {
  const { path, label } = from === to ? loop(from) : curve(from, to);
  return html`
    <g>
      <path d=${path} class="edge" stroke-width=${1 + 8 * weight} marker-end="url(#tip)" />
      <text x=${label.x} y=${label.y + 4} class="weight">${weight.toFixed(2)}</text>
    </g>`;
}

/** A bow from one node to another, to the left of its direction, so that there and back are apart. */
function curve(from, to) {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length = Math.hypot(dx, dy);
  const bow = 0.2 * length;
  const middle = { x: (from.x + to.x) / 2 + (dy / length) * bow, y: (from.y + to.y) / 2 - (dx / length) * bow };
  const start = towards(from, middle, NODE);
  const end = towards(to, middle, NODE + 5);
  const path = `M ${start.x} ${start.y} Q ${middle.x} ${middle.y} ${end.x} ${end.y}`;
  return { path, label: alongBow(start, middle, end, 0.4) };
}

/** A point on a quadratic curve; before its middle, so that the numbers of crossing edges stay apart. */
function alongBow(start, middle, end, share) {
  const at = (axis) => (1 - share) ** 2 * start[axis] + 2 * share * (1 - share) * middle[axis] + share ** 2 * end[axis];
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
