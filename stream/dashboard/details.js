// What a label rests on: all probabilities, modalities, earlier utterances, and how long it took.

import { element } from "./dom.js";
import { clock, cssColourOf, milliseconds, modalityName, percent, ranked } from "./emotions.js";
import { labelLatency } from "./session.js";

const EXCERPT = 60;
const EXCITED_FROM = 1 / 3; // arousal, -1 ... 1, in three equal parts

/** The line that opens the details. */
export const summaryLine = ({ latency }) =>
  latency ? `Details, label ${milliseconds(labelLatency(latency))} after the end` : "Details";

/** Fill an opened disclosure. `jump` goes to an utterance by its number. */
export function fillDetails(details, utterance, session, jump) {
  const { label, latency, influences } = utterance;
  const parts = [
    part("Probabilities", bars(ranked(label.probabilities), cssColourOf)),
    part("Rests on", bars(ranked(label.contribution).map(([name, share]) => [modalityName(name), share]))),
  ];
  const ranking = ranked(influences);
  if (ranking.length > 0) {
    const items = ranking.map(([number, share]) => influence(Number(number), share, session, jump));
    parts.push(part("Influenced by", element("ul", { className: "influences" }, ...items)));
  }
  const voice = label.voice && voiceLine(label.voice);
  if (voice) parts.push(part("Heard", element("p", { textContent: voice })));
  if (label.visual) parts.push(part("Seen", element("p", { textContent: sightLine(label.visual) })));
  if (latency) parts.push(part("Latency", element("p", { textContent: latencyLine(latency) })));
  const sentiment = `${label.sentiment}; revision ${label.revision}${label.final ? ", final" : ""}`;
  parts.push(part("Sentiment", element("p", { textContent: sentiment })));
  const content = element("div", { className: "why" }, ...parts);
  details.replaceChildren(details.firstElementChild, content);
}

const part = (title, content) => element("section", {}, element("h4", { textContent: title }), content);

function bars(shares, colourOf = () => null) {
  const rows = shares.map(([name, share]) => {
    const bar = element("span", { className: "bar" }, element("span"));
    bar.style.setProperty("--share", `${100 * share}%`);
    const colour = colourOf(name);
    if (colour) bar.style.setProperty("--emotion", colour);
    bar.setAttribute("aria-hidden", "true");
    const [title, value] = [name, percent(share)].map((textContent) => element("span", { textContent }));
    return element("li", {}, title, bar, value);
  });
  return element("ul", { className: "shares" }, ...rows);
}

function influence(number, share, session, jump) {
  const earlier = session.utterances.get(number);
  if (!earlier) return element("li", { textContent: `utterance ${number}, ${percent(share)}` });
  const words = earlier.text ?? "words withheld";
  const excerpt = words.length > EXCERPT ? `${words.slice(0, EXCERPT)}…` : words;
  const text = `${percent(share)}  ${clock(earlier.start)} ${session.nameOf(earlier.speaker)}: ${excerpt}`;
  const link = element("button", { type: "button", className: "link", textContent: text, onclick: () => jump(number) });
  link.setAttribute("aria-label", `Go to the utterance at ${clock(earlier.start)}: ${text}`);
  return element("li", {}, link);
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
  return [said, heard].map((parts) => parts.join(", ")).filter(Boolean).join("; ");
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
