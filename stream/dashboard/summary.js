// The line that sums a session up.

import { byId, element } from "./dom.js";
import { clock, milliseconds } from "./emotions.js";
import { recentLatencies } from "./session.js";

const NAMES = {
  asr: "speech to text",
  text: "words",
  audio: "voice",
  visual: "face",
  speaker: "speakers",
  vad: "speech detection",
};
const EXPECTED = ["asr", "audio"]; // of every source; most have no pictures, and need no encoder of speakers
const SHORT = 28;

export class Summary {
  #line = "";
  #encoders = "";

  /** `info`: the session's description by the server. `time`: media seconds shown. */
  show(info, session, live) {
    const items = summaryItems(info, session, live);
    const line = JSON.stringify(items);
    if (line !== this.#line) byId("summary").replaceChildren(...items.map(item));
    this.#line = line;
    const encoders = JSON.stringify(session.started?.encoders ?? {});
    if (encoders !== this.#encoders) showEncoders(session.started);
    this.#encoders = encoders;
  }
}

function summaryItems(info, session, live) {
  const { started, ended, failures } = session;
  const reason = ended?.reason ?? (live ? null : info?.reason);
  const state = live ? "live" : (info?.state === "lost" ? "lost" : "ended") + (reason ? `: ${reason}` : "");
  const spoken = [...session.utterances.values()].filter((utterance) => !utterance.open).length;
  const items = [
    ["State", state, live ? "live" : ""],
    ["Media time", clock(session.time)],
    ["Utterances", failures > 0 ? `${spoken} (${failures} without label)` : String(spoken)],
    ["Label after end of utterance", latencies(recentLatencies(session))],
    ["Consent", started ? (started.consent ?? "none stated") : (info?.consent ?? "…")],
  ];
  if (started?.recorded) items.push(["Sound and pictures", "recorded", "badge-item"]);
  if (started?.redacted) items.push(["Words", "withheld", "badge-item"]);
  else if (started?.masked) items.push(["Words", "masked", "badge-item"]);
  return items;
}

function item([name, text, kind = ""]) {
  const value = element("dd", { textContent: text, className: kind, title: text });
  const slug = name.toLowerCase().replaceAll(" ", "-");
  return element("div", { id: `summary-${slug}` }, element("dt", { textContent: name }), value);
}

function latencies(seconds) {
  if (seconds.length === 0) return "…";
  const sorted = Float64Array.from(seconds).sort();
  const at = (share) => milliseconds(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]);
  return `${at(0.5)} median, ${at(0.95)} at 95 %`;
}

function showEncoders(started) {
  const encoders = Object.entries(started?.encoders ?? {});
  const nameOf = (kind) => NAMES[kind] ?? kind;
  const present = encoders.filter(([, what]) => what !== null);
  const used = present.map(([kind, what]) => `${nameOf(kind)} by ${shortened(what)}`);
  const missing = encoders.filter(([kind, what]) => what === null && EXPECTED.includes(kind));
  byId("encoders").hidden = encoders.length === 0;
  const absent = missing.map(([kind]) => `, no ${nameOf(kind)}`).join("");
  byId("encoders-line").textContent = used.join(", ") + absent;
  const rows = encoders.flatMap(([kind, what]) => [
    element("dt", { textContent: nameOf(kind) }),
    element("dd", { textContent: what ?? "none", className: what === null ? "absent" : "" }),
  ]);
  const checkpoint = element("dd", { textContent: started?.checkpoint ?? "" });
  byId("encoders-list").replaceChildren(...rows, element("dt", { textContent: "checkpoint" }), checkpoint);
}

function shortened(what) {
  const first = what.split(/[,;]/, 1)[0];
  return first.length > SHORT ? `${first.slice(0, SHORT - 1)}…` : first;
}
