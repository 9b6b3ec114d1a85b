// A lamp for the quality of hearing: green, amber, or red with the reason and since when.

import { modalityName, shortClock } from "./emotions.js";
import { html } from "./vendor/preact-htm.js";

const RECENT_S = 60; // of media, for which a notice colours the lamp
const RECENT_UTTERANCES = 5;
const FAR_BEHIND_S = 5;

/** {colour, text} of how well the session is heard at the moment that is shown. */
function qualityOf({ session, isLive, feedState, info }) {
  const { started, notices, time } = session;
  if (!started) return { colour: "amber", text: "not begun" };
  const latest = session.inOrder.slice(-RECENT_UTTERANCES);
  const failed = latest.filter(({ failure }) => failure);
  const recent = notices.filter(({ start, kind }) => kind !== "speaker.merged" && start > time - RECENT_S);
  const since = ({ start }) => `since ${shortClock(start)}`;
  if (isLive && feedState[0] === "waiting") return { colour: "red", text: `no events: ${feedState[1]}` };
  if (isLive && info?.load?.lag > FAR_BEHIND_S)
    return { colour: "red", text: `${info.load.lag.toFixed(0)} s behind the source` };
  if (latest.length > 0 && failed.length === latest.length) {
    return { colour: "red", text: `no labels ${since(failed[0])}: ${failed.at(-1).failure}` };
  }
  if (recent.length > 0)
    return { colour: "amber", text: `${recent.at(-1).text} (at ${shortClock(recent.at(-1).start)})` };
  if (started.encoders.asr === null) return { colour: "amber", text: "no words: nothing turns speech into text here" };
  if (failed.length > 0) return { colour: "amber", text: `an utterance without a label: ${failed.at(-1).failure}` };
  const label = latest.findLast((utterance) => utterance.label)?.label;
  const used = label
    ? label.modalities.used
    : Object.keys(started.encoders).filter((kind) => kind === "text" || kind === "audio");
  const asr = started.encoders.asr.split(/[,;]/, 1)[0];
  return { colour: "green", text: [asr, ...used.filter((name) => name !== "text").map(modalityName)].join(", ") };
}

export function QualityLamp({ store }) {
  const { colour, text } = qualityOf(store);
  const words = { green: "Hears well", amber: "Hears with something missing", red: "Does not hear" }[colour];
  return html`
    <p id="quality" data-colour=${colour} role="status">
      <span class="light" aria-hidden="true">${{ green: "●", amber: "▲", red: "■" }[colour]}</span>
      <span class="visually-hidden">${words}: </span>${text}
    </p>
  `;
}
