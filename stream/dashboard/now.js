// Now, for each speaker: the emotion in words, how certain it is, where it goes, and the share of the talk.

import { groundOf, percent, shortClock, symbolOf, valenceOf, verdictOf } from "./emotions.js";
import { useStore } from "./pacing.js";
import { html } from "./vendor/preact-htm.js";

const TREND = 5; // utterances
const NOTICEABLE = 0.25; // of valence, from which on a change is a trend

/** How each speaker is now: [{name, seconds, share, latest, labelled: the last utterances, change}], in order of appearance. */
export function presentOf(session) {
  const speakers = new Map();
  let spoken = 0;
  for (const utterance of session.inOrder) {
    const name = session.nameOf(utterance.speaker) ?? "unknown";
    const known = speakers.get(name) ?? { name, seconds: 0, latest: null, labelled: [] };
    speakers.set(name, known);
    known.seconds += utterance.end - utterance.start;
    spoken += utterance.end - utterance.start;
    if (!utterance.label) continue;
    known.latest = utterance;
    known.labelled.push(utterance);
    if (known.labelled.length > TREND) known.labelled.shift();
  }
  return [...speakers.values()].map((one) => ({
    ...one,
    share: spoken ? one.seconds / spoken : 0,
    change: changeOf(one.labelled),
  }));
}

/** Valence of the later half of some utterances less that of the earlier half; null for fewer than two. */
function changeOf(labelled) {
  if (labelled.length < 2) return null;
  const mean = (some) => some.reduce((sum, { valence }) => sum + valence, 0) / some.length;
  const half = Math.ceil(labelled.length / 2);
  return mean(labelled.slice(-half)) - mean(labelled.slice(0, labelled.length - half));
}

function trendInWords(change) {
  if (change === null) return "";
  if (Math.abs(change) < NOTICEABLE) return "→ steady";
  return change > 0 ? "↗ getting better" : "↘ getting worse";
}

/** Who is upset, in a sentence. */
function headline(speakers) {
  if (speakers.length === 0) return "";
  const negative = speakers.filter(({ latest }) => latest && valenceOf(latest.label.emotion) < 0);
  const upset = negative.filter(({ latest }) => !latest.label.uncertain);
  const perhaps = negative.filter(({ latest }) => latest.label.uncertain);
  const each = upset.map(({ name, latest, change }) => {
    const trend = change !== null && change <= -NOTICEABLE ? ", getting worse" : "";
    return `${name} (${latest.label.emotion} at ${shortClock(latest.start)}${trend})`;
  });
  const sure = each.length > 0 ? `Upset: ${each.join(", ")}.` : "";
  const unsure = perhaps.length > 0 ? `Perhaps upset, uncertain: ${perhaps.map(({ name }) => name).join(", ")}.` : "";
  return `${sure} ${unsure}`.trim() || "Nobody is upset.";
}

export function NowPanel({ store }) {
  useStore(store, 200);
  const speakers = presentOf(store.session);
  const moment = store.isLive ? "Now" : `At ${shortClock(store.player.time)}`;
  return html`
    <section id="now" class="panel" aria-labelledby="now-title">
      <h2 id="now-title">${moment}</h2>
      <p id="headline" role="status">${headline(speakers)}</p>
      ${speakers.length === 0 && html`<p class="hint">Nobody has spoken yet.</p>`}
      <ul>${speakers.map((one) => html`<${Speaker} key=${one.name} store=${store} ...${one} />`)}</ul>
    </section>
  `;
}

function Speaker({ store, name, share, latest, labelled, change }) {
  const label = latest?.label;
  const trend = trendInWords(change);
  return html`
    <li class="speaker-now ${label?.uncertain ? "uncertain" : ""} ${label && !label.final ? "provisional" : ""}"
      style=${label ? groundOf(label.emotion) : {}} data-speaker=${name}>
      <p class="line">
        <strong>${name}</strong>
        <button type="button" class="link" aria-pressed=${String(store.focus === name)} onClick=${() => store.setFocus(name)}>
          ${store.focus === name ? "show all" : "mood"}
        </button>
      </p>
      <p class="emotion-now">
        ${label ? html`
          <span class="swatch" aria-hidden="true">${symbolOf(label.emotion)}</span>
          <span class="emotion">${verdictOf(label)}</span>
          <span class="percent">${percent(label.probabilities[label.emotion])}</span>` : html`<span class="hint">no label yet</span>`}
      </p>
      <p class="line hint">
        <span class="trail" role="img" aria-label="Last ${labelled.length}: ${labelled.map(({ label: { emotion } }) => emotion).join(", ")}">
          ${labelled.map(({ number, label: { emotion } }) => html`
            <span key=${number} class="swatch" style=${groundOf(emotion)} title=${emotion}>${symbolOf(emotion)}</span>`)}
        </span>
        <span class="trend">${trend}</span>
        <span class="share">${percent(share)} of talk</span>
      </p>
    </li>
  `;
}
