// Small pictures of emotions: chips of a label, and lines of mood that fit into a row.

import { groundOf, symbolOf } from "./emotions.js";
import { html } from "./vendor/preact-htm.js";

const WIDTH = 240;
const RANGE = 0.6; // of valence: means over a bin hardly leave it

/** A label's emotion as its symbol on its colour, and the word; `emotion` null: none yet. */
export function Chip({ emotion, text = emotion, state = "", uncertain = false }) {
  if (!emotion) return html`<span class="chip none">${text ?? "no label yet"}</span>`;
  return html`
    <span class="chip ${state} ${uncertain ? "uncertain" : ""}" style=${groundOf(emotion)}>
      <span class="swatch" aria-hidden="true">${symbolOf(emotion)}</span>
      <span class="emotion">${text}</span>
    </span>
  `;
}

/** Where the mood went, as a sentence for those who do not see the line. */
function moodInWords(mood) {
  const known = mood.filter(({ valence }) => valence !== null).map(({ valence }) => valence);
  if (known.length === 0) return "Mood: nothing labelled yet";
  const word = (valence) => (valence > 0.15 ? "positive" : valence < -0.15 ? "negative" : "neutral");
  const [first, last] = [word(known[0]), word(known.at(-1))];
  const range = `lowest ${Math.min(...known).toFixed(1)}, highest ${Math.max(...known).toFixed(1)}`;
  return `Mood: ${first === last ? `${last} at both ends` : `from ${first} to ${last}`}; ${range}`;
}

/** A line of mood (valence) over bins, positive above the middle, filled towards it. `mood`: [{valence | null}]. */
export function MoodStrip({ mood, height = 36 }) {
  const y = (valence) => ((1 - Math.max(-1, Math.min(1, valence / RANGE))) / 2) * (height - 4) + 2;
  const x = (place) => ((place + 0.5) / mood.length) * WIDTH;
  const points = mood.flatMap(({ valence }, place) => (valence === null ? [] : [[x(place), y(valence)]]));
  const line = points.map(([left, top]) => `${left.toFixed(1)},${top.toFixed(1)}`).join(" ");
  const middle = height / 2;
  const area = points.length ? `${points[0][0]},${middle} ${line} ${points.at(-1)[0]},${middle}` : "";
  return html`
    <svg class="mood" viewBox="0 0 ${WIDTH} ${height}" height=${height} preserveAspectRatio="none" role="img"
      aria-label=${moodInWords(mood)}>
      <clipPath id="above-${height}"><rect width=${WIDTH} height=${middle} /></clipPath>
      <clipPath id="below-${height}"><rect y=${middle} width=${WIDTH} height=${middle} /></clipPath>
      <line x1="0" x2=${WIDTH} y1=${middle} y2=${middle} class="zero" />
      <polygon points=${area} class="positive" clip-path="url(#above-${height})" />
      <polygon points=${area} class="negative" clip-path="url(#below-${height})" />
      <polyline points=${line} class="line" />
    </svg>
  `;
}

/** Shares of emotions as one bar, with its numbers in words. `counts`: emotion -> number; `width`: 0 ... 1 of the room. */
export function ShareBar({ counts, label, width = 1 }) {
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
  if (total === 0) return html`<p class="hint">No labels.</p>`;
  const ranking = Object.entries(counts)
    .filter(([, count]) => count > 0)
    .sort((one, other) => other[1] - one[1]);
  const words = ranking.map(([emotion, count]) => `${emotion} ${Math.round((100 * count) / total)} %`).join(", ");
  return html`
    <div class="sharebar" role="img" aria-label="${label}: ${words}" style=${{ width: `${100 * width}%` }}>
      ${ranking.map(
        ([emotion, count]) => html`
        <span style=${{ ...groundOf(emotion), flexGrow: count }} title="${emotion} ${Math.round((100 * count) / total)} %">
          ${count / total > 0.06 ? symbolOf(emotion) : ""}
        </span>`,
      )}
    </div>
  `;
}
