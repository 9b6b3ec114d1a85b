// What a label rests on: all probabilities, modalities, earlier utterances, and how long it took; and what to do about it.

import { correct, withdrawCorrection } from "./api.js";
import { clock, cssColourOf, milliseconds, modalityName, percent, ranked } from "./emotions.js";
import { labelLatency } from "./session.js";
import { html, useState } from "./vendor/preact-htm.js";

const EXCERPT = 60;
const EXCITED_FROM = 1 / 3; // arousal, -1 ... 1, in three equal parts

/** The line that opens the details. */
export const summaryLine = ({ latency }) =>
  latency ? `Details, label ${milliseconds(labelLatency(latency))} after the end` : "Details";

/** `onReveal(key)` goes to another row; `edit`: whether the reader may correct labels. */
export function Details({ store, utterance, correction, onReveal, edit }) {
  const { label, latency, influences } = utterance;
  const voice = label.voice && voiceLine(label.voice);
  const rested = ranked(label.contribution).map(([name, share]) => [modalityName(name), share]);
  const earlier = ranked(influences);
  return html`
    <div class="why">
      <${Part} title="Probabilities"><${Bars} shares=${ranked(label.probabilities)} colourOf=${cssColourOf} /><//>
      <${Part} title="Rests on"><${Bars} shares=${rested} /><//>
      ${
        earlier.length > 0 &&
        html`
        <${Part} title="Looked at">
          <ul class="influences">
            ${earlier.map(
              ([number, share]) => html`
              <li key=${number}><${Earlier} store=${store} number=${Number(number)} share=${share} onReveal=${onReveal} /></li>`,
            )}
          </ul>
        <//>`
      }
      ${voice && html`<${Part} title="Heard"><p>${voice}</p><//>`}
      ${label.visual && html`<${Part} title="Seen"><p>${sightLine(label.visual)}</p><//>`}
      ${latency && html`<${Part} title="Latency"><p>${latencyLine(latency)}</p><//>`}
      <${Part} title="Sentiment"><p>${label.sentiment}; revision ${label.revision}${label.final ? ", final" : ""}</p><//>
      ${edit && html`<${Correction} store=${store} utterance=${utterance} correction=${correction} />`}
      <${Part} title="Link">
        <p><a href="#session=${encodeURIComponent(store.id)}&t=${utterance.start.toFixed(1)}">To this moment</a></p>
      <//>
    </div>
  `;
}

const Part = ({ title, children }) => html`<section><h3>${title}</h3>${children}</section>`;

function Bars({ shares, colourOf = () => null }) {
  return html`
    <ul class="shares">
      ${shares.map(
        ([name, share]) => html`
        <li key=${name}>
          <span>${name}</span>
          <span class="bar" aria-hidden="true" style=${{ "--share": `${100 * share}%`, "--emotion": colourOf(name) }}><span></span></span>
          <span>${percent(share)}</span>
        </li>`,
      )}
    </ul>
  `;
}

function Earlier({ store, number, share, onReveal }) {
  const { session } = store;
  const utterance = session.utterances.get(number);
  if (!utterance) return html`utterance ${number}, ${percent(share)}`;
  const words = utterance.text ?? "words withheld";
  const excerpt = words.length > EXCERPT ? `${words.slice(0, EXCERPT)}…` : words;
  const text = `${percent(share)}  ${clock(utterance.start)} ${session.nameOf(utterance.speaker)}: ${excerpt}`;
  return html`
    <button type="button" class="link" onClick=${() => onReveal(`utterance-${number}`)}
      aria-label="Go to the utterance at ${clock(utterance.start)}: ${text}">${text}</button>`;
}

/** "This label is wrong": the right one goes into the session's table of corrections. */
function Correction({ store, utterance, correction }) {
  const [problem, setProblem] = useState("");
  const emotions = store.session.started?.emotions ?? Object.keys(utterance.label.probabilities);
  const change = async (work) => {
    try {
      setProblem("");
      await work();
      await store.readAnnotations();
    } catch (error) {
      setProblem(error.message);
    }
  };
  const choose = ({ target }) => {
    const was = utterance.label.emotion;
    if (target.value) change(() => correct(store.id, utterance.number, { emotion: target.value, was }));
  };
  return html`
    <${Part} title="This label is wrong">
      <label>It is
        <select class="correction" value=${correction?.emotion ?? ""} onChange=${choose}>
          <option value="">…</option>
          ${emotions.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
        </select>
      </label>
      ${
        correction &&
        html`
        <button type="button" class="link" onClick=${() => change(() => withdrawCorrection(store.id, utterance.number))}>
          Withdraw the correction
        </button>`
      }
      <p class="hint">Kept with the session; <code>undertone corrections</code> writes them for training.</p>
      <p role="alert">${problem}</p>
    <//>
  `;
}

function latencyLine(latency) {
  const stages = ["queue", "asr", "encode", "graph", "publish"].map((name) => `${name} ${milliseconds(latency[name])}`);
  const total = milliseconds(labelLatency(latency));
  return `${total} (${stages.join(", ")}) after ${milliseconds(latency.vad)} of silence, which makes it an end`;
}

function voiceLine({ arousal, expression, sounds = [] }) {
  const said = [];
  if (arousal !== null) said.push(`${arousalName(arousal)} (arousal ${arousal.toFixed(2)})`);
  if (expression) said.push(`sounds ${ranked(expression)[0][0]}`);
  const heard = sounds.map(({ sound, start }) => `${sound} at ${clock(start)}`);
  return [said, heard]
    .map((parts) => parts.join(", "))
    .filter(Boolean)
    .join("; ");
}

function arousalName(arousal) {
  if (arousal >= EXCITED_FROM) return "excited";
  return arousal <= -EXCITED_FROM ? "calm" : "neither calm nor excited";
}

function sightLine({ frames, faces, visible, quality, speaking, expression, reason }) {
  const said = [
    `${frames} pictures`,
    `${faces} ${faces === 1 ? "face" : "faces"}`,
    `speaking face in ${percent(visible)} of them`,
    `quality ${percent(quality)}`,
  ];
  if (speaking !== null) said.push(`its share of mouth motion ${percent(speaking)}`);
  if (expression) said.push(`expression ${ranked(expression)[0][0]}`);
  if (reason) said.push(reason);
  return said.join(", ");
}
