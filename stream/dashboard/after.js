// After the end: who talked how much and how, the strongest moments and turns, and how well it was heard.

import { modalityName, percent, shortClock } from "./emotions.js";
import { Chip, ShareBar } from "./strips.js";
import { html } from "./vendor/preact-htm.js";

export function AfterPanel({ store, onReveal }) {
  const { summary, isReading } = store;
  if (!summary) {
    return html`<section id="after" class="panel" aria-label="Summary"><p class="hint">${store.summaryProblem || (isReading ? "Reading…" : "Summing up…")}</p></section>`;
  }
  const { moments, turns, utterances, unlabelled, uncertain } = summary;
  const speakers = [...summary.speakers].sort((one, other) => other.share - one.share);
  return html`
    <section id="after" class="panel" aria-labelledby="after-title">
      <h2 id="after-title">Summary</h2>
      <ul class="talk">
        ${speakers.map(
          ({ name, share, seconds, emotions }) => html`
          <li key=${name}>
            <p class="line"><strong>${name}</strong> <span>${percent(share)} of talk, ${shortClock(seconds)}</span></p>
            <${ShareBar} counts=${emotions} label="Utterances of ${name}" width=${share / speakers[0].share} />
          </li>`,
        )}
      </ul>
      <${Moments} title="Strongest moments" moments=${moments} onReveal=${onReveal} />
      <${Moments} title="Biggest changes" moments=${turns} onReveal=${onReveal} />
      <h3>How far to trust it</h3>
      <ul class="plain">
        <li>
          ${utterances} utterances
          ${uncertain > 0 && `, ${percent(uncertain / utterances)} of them uncertain: do not rely on those`}
          ${unlabelled > 0 && `, ${unlabelled} without a label`}
        </li>
        ${hearingInWords(summary.hearing).map((line) => html`<li key=${line}>${line}</li>`)}
      </ul>
    </section>
  `;
}

export function Moments({ title, moments, onReveal }) {
  if (moments.length === 0) return null;
  return html`
    <h3>${title}</h3>
    <ol class="moments">
      ${moments.map(
        ({ utterance, time, speaker, text, before, emotion }) => html`
        <li key=${utterance}>
          <button type="button" class="link" onClick=${() => onReveal(`utterance-${utterance}`)}>${shortClock(time)} ${speaker}</button>${" "}
          ${before && html`<${Chip} emotion=${before} /> → `}<${Chip} emotion=${emotion} />
          <q>${text ?? "words withheld"}</q>
        </li>`,
      )}
    </ol>
  `;
}

function hearingInWords({ asr, missing, notices }) {
  const lines = [asr ? `Words by ${asr}` : "No words: nothing turned speech into text"];
  for (const [modality, { share, reasons }] of Object.entries(missing)) {
    lines.push(
      `${modalityName(modality)} missing in ${percent(share)}${reasons.length > 0 ? `: ${reasons.join("; ")}` : ""}`,
    );
  }
  if (notices.length > 0)
    lines.push(`${notices.length} ${notices.length === 1 ? "incident" : "incidents"}, last: ${notices.at(-1).text}`);
  return lines;
}
