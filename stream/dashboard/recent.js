// The last five minutes in a few lines: where the mood went, and what stood out.

import { getSummary } from "./api.js";
import { Moments } from "./after.js";
import { MoodStrip } from "./strips.js";
import { html, useEffect, useState } from "./vendor/preact-htm.js";

const WINDOW_S = 300;
const EVERY_MS = 5000;
const MOST_SHOWN = 3;
const NOTICEABLE = 0.1; // of valence

/** The mood of the later half less that of the earlier, in words. */
function directionOf(mood) {
  const known = mood.filter(({ valence }) => valence !== null);
  if (known.length < 4) return "Too little was said to see where the mood goes.";
  const mean = (some) => some.reduce((sum, { valence }) => sum + valence, 0) / some.length;
  const half = known.length >> 1;
  const change = mean(known.slice(half)) - mean(known.slice(0, half));
  if (Math.abs(change) < NOTICEABLE) return "The mood is steady.";
  return change > 0 ? "The mood is getting better." : "The mood is getting worse.";
}

export function RecentPanel({ store, onReveal }) {
  const [summary, setSummary] = useState(null);
  useEffect(() => {
    const ask = () => getSummary(store.id, WINDOW_S).then(setSummary, () => {});
    ask();
    const timer = setInterval(() => document.hidden || ask(), EVERY_MS);
    return () => clearInterval(timer);
  }, [store]);
  if (!summary) return null;
  return html`
    <section id="recent" class="panel" aria-labelledby="recent-title">
      <h2 id="recent-title">Last five minutes</h2>
      <p id="direction">${directionOf(summary.mood)}</p>
      <${MoodStrip} mood=${summary.mood} height=${36} />
      <${Moments} title="Changes" moments=${summary.turns.slice(0, MOST_SHOWN)} onReveal=${onReveal} />
      <${Moments} title="Strongest moments" moments=${summary.moments.slice(0, MOST_SHOWN)} onReveal=${onReveal} />
    </section>
  `;
}
