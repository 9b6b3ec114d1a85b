// The last five minutes in a few lines: where the mood went, and what stood out.

import { Moments } from "./after.js";
import { MoodStrip } from "./strips.js";
import { html } from "./vendor/preact-htm.js";

const MOST_SHOWN = 3;
const NOTICEABLE = 0.1; // of valence

/** Where the mood goes, in words: that of the last quarter less that of what was before. */
export function directionOf(mood) {
  const known = mood.filter(({ valence }) => valence !== null);
  if (known.length < 4) return "Too little was said to see where the mood goes.";
  const mean = (some) => some.reduce((sum, { valence }) => sum + valence, 0) / some.length;
  const late = Math.floor(known.length * 0.75);
  const change = mean(known.slice(late)) - mean(known.slice(0, late));
  if (Math.abs(change) < NOTICEABLE) return "The mood is steady.";
  return change > 0 ? "The mood is getting better." : "The mood is getting worse.";
}

export function RecentPanel({ store, onReveal }) {
  const { recent } = store;
  if (!recent) return null;
  return html`
    <section id="recent" class="panel" aria-labelledby="recent-title">
      <h2 id="recent-title">Last five minutes</h2>
      <${MoodStrip} mood=${recent.mood} height=${30} />
      <${Moments} title="Biggest changes" moments=${recent.turns.slice(0, MOST_SHOWN)} onReveal=${onReveal} />
      <${Moments} title="Strongest moments" moments=${recent.moments.slice(0, MOST_SHOWN)} onReveal=${onReveal} />
    </section>
  `;
}
