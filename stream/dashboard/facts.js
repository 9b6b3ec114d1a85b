// What a session is, for those who want to know: id, consent, encoders, latency.

import { clock, milliseconds } from "./emotions.js";
import { useStore } from "./pacing.js";
import { recentLatencies } from "./session.js";
import { html } from "./vendor/preact-htm.js";

const ENCODER_NAMES = {
  asr: "speech to text",
  text: "words",
  audio: "voice",
  visual: "face",
  speaker: "speakers",
  vad: "speech detection",
};

export function Facts({ store }) {
  useStore(store, 500);
  const { info, session, id } = store;
  const { started, failures } = session;
  const labelled = [...session.utterances.values()].filter(({ open }) => !open).length;
  const rows = [
    ["Session", id],
    ["Started", started ? new Date(started.time).toLocaleString() : "…"],
    ["Length", clock(session.time)],
    ["Utterances", failures > 0 ? `${labelled} (${failures} without label)` : String(labelled)],
    ["Label after end of utterance", latencies(recentLatencies(session))],
    ["Consent", started ? (started.consent ?? "none stated") : (info?.consent ?? "…")],
    ["Sources", (started?.sources ?? info?.sources ?? []).join(", ")],
    ["Words", started?.redacted ? "withheld" : started?.masked ? "masked" : "kept"],
    ["Sound and pictures", started?.recorded ? "recorded" : "not recorded"],
    ["Kept until", info?.kept_until ? new Date(info.kept_until).toLocaleString() : "…"],
    ...Object.entries(started?.encoders ?? {}).map(([kind, what]) => [ENCODER_NAMES[kind] ?? kind, what ?? "none"]),
    ["Checkpoint", started?.checkpoint ?? "…"],
  ];
  return html`<dl id="facts">${rows.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function latencies(seconds) {
  if (seconds.length === 0) return "…";
  const sorted = Float64Array.from(seconds).sort();
  const at = (share) => milliseconds(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]);
  return `${at(0.5)} median, ${at(0.95)} at 95 %`;
}
