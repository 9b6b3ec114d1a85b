// Now, for each speaker: the emotion in words, how certain it is, where it goes, and the share of the talk.

import { certaintyOf, groundOf, percent, shortClock, symbolOf, valenceOf, verdictOf } from "./emotions.js";
import { useStore } from "./pacing.js";
import { html } from "./vendor/preact-htm.js";

const TREND = 5; // utterances
const LASTING = 3; // utterances of one emotion, from which on it lasts
const NOTICEABLE = 0.25; // of valence, from which on a change is a trend
const CLEAR = 0.15; // of valence, from which on a label is positive or negative
const OLD_S = 120; // of media, after which a label says nothing about now

/**
 * How each speaker is at a moment: [{name, seconds, share, latest, labelled: the last utterances, isOld, isUpset}],
 * those who are upset first, else in order of appearance.
 */
function presentOf({ session, moment }) {
  const speakers = new Map();
  let spoken = 0;
  for (const utterance of session.inOrder) {
    if (utterance.start > moment) break;
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
  const found = [...speakers.values()].map((one) => {
    const isOld = one.latest !== null && one.latest.end < moment - OLD_S;
    const isUpset = one.latest !== null && !isOld && valenceOf(one.latest.label.emotion) < 0;
    return { ...one, share: spoken ? one.seconds / spoken : 0, isOld, isUpset };
  });
  return [...found.filter(({ isUpset }) => isUpset), ...found.filter(({ isUpset }) => !isUpset)];
}

/** Where a speaker's last labels go, in words. */
function trendOf(labelled) {
  if (labelled.length < 2) return "";
  const { emotion } = labelled.at(-1).label;
  const others = labelled.findLastIndex(({ label }) => label.emotion !== emotion);
  const run = labelled.length - 1 - others;
  if (run >= LASTING) return `${emotion} for ${run}${run === TREND ? "+" : ""} turns`;
  const now = labelled.at(-1).valence;
  const earlier = labelled.slice(0, -1);
  const change = now - earlier.reduce((sum, { valence }) => sum + valence, 0) / earlier.length;
  if (Math.abs(change) < NOTICEABLE) return "→ steady";
  if (change < 0) return now < -CLEAR ? "↘ getting worse" : "→ back to neutral";
  return now > CLEAR ? "↗ getting better" : "→ calmer";
}

/** Who is upset at the moment that is shown, in a sentence. */
export function headline(store) {
  const speakers = presentOf(store);
  if (speakers.length === 0 || !(store.isLive || store.player.isWithin)) return "";
  const upset = speakers.filter(({ isUpset }) => isUpset);
  const sure = upset.filter(({ latest }) => !latest.label.uncertain);
  const unsure = upset.filter(({ latest }) => latest.label.uncertain);
  const each = sure.map(({ name, latest, labelled }) => {
    const trend = trendOf(labelled);
    return `${name} (${trend.includes(" for ") ? trend : latest.label.emotion}${trend.includes("worse") ? ", getting worse" : ""})`;
  });
  const told = sure.length > 0 ? `Upset: ${each.join(", ")}.` : "";
  const perhaps = unsure.length > 0 ? `Perhaps upset: ${unsure.map(({ name }) => name).join(", ")}.` : "";
  return `${told} ${perhaps}`.trim() || "Nobody is upset.";
}

export function NowPanel({ store }) {
  useStore(store, 200);
  const speakers = presentOf(store);
  return html`
    <section id="now" class="panel" aria-labelledby="now-title">
      <h2 id="now-title">${store.isLive ? "Now" : `At ${shortClock(store.moment)}`}</h2>
      ${speakers.length === 0 && html`<p class="hint">Nobody has spoken yet.</p>`}
      <ul>${speakers.map((one) => html`<${Speaker} key=${one.name} store=${store} ...${one} />`)}</ul>
    </section>
  `;
}

function Speaker({ store, name, share, latest, labelled, isOld }) {
  const label = latest?.label;
  const ago = latest ? ` at ${shortClock(latest.start)}` : "";
  return html`
    <li class="speaker-now ${isOld ? "old" : ""} ${label?.uncertain ? "uncertain" : ""} ${label && !label.final ? "provisional" : ""}"
      style=${label ? groundOf(label.emotion) : {}} data-speaker=${name}>
      <p class="line">
        <strong>${name}</strong>
        <button type="button" class="link" aria-pressed=${String(store.focus === name)} onClick=${() => store.setFocus(name)}
          aria-label="Mood of ${name} alone">
          ${store.focus === name ? "mood of all" : "only this mood"}
        </button>
      </p>
      <p class="emotion-now">
        ${
          label
            ? html`
          <span class="swatch" aria-hidden="true">${symbolOf(label.emotion)}</span>
          <span class="emotion">${verdictOf(label)}</span>
          <span class="percent">${certaintyOf(label)}${ago}</span>`
            : html`<span class="hint">no label yet</span>`
        }
      </p>
      <p class="line hint">
        <span class="trail" role="img" aria-label="Last ${labelled.length}: ${labelled.map(({ label: { emotion } }) => emotion).join(", ")}">
          ${labelled.map(
            ({ number, label: { emotion } }) => html`
            <span key=${number} class="swatch" style=${groundOf(emotion)} title=${emotion}>${symbolOf(emotion)}</span>`,
          )}
        </span>
        <span class="trend">${trendOf(labelled)}</span>
        <span class="share">${percent(share)} of talk</span>
      </p>
    </li>
  `;
}
