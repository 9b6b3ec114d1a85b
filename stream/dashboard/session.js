// What a session's events say: the log of them, and the state that they make.

import { valence } from "./emotions.js";

const TYPES = new Set([
  "session.started",
  "session.ended",
  "utterance.partial",
  "utterance",
  "emotion",
  "utterance.failed",
  "speaker.merged",
  "lag",
  "degraded",
  "events.missed",
  "alert",
]);

const MEDIA_FILE = /\.(aac|aiff?|avi|flac|m4a|mkv|mov|mp[34]|oga|ogg|opus|wav|webm|wma|wmv)$/i;
const RECENT_S = 60; // of media, of whose labels the latency is shown

const mediaTime = (event) => event.audio_end ?? event.audio_time ?? event.duration ?? 0;

/** All events of a session, each with the media time by which it had come. */
export class EventLog {
  events = [];
  times = [];

  add(event) {
    this.events.push(event);
    // A final label is about the past; it came no earlier than what came before it.
    this.times.push(Math.max(this.duration, mediaTime(event)));
  }

  /** Media time of the last event, in seconds. */
  get duration() {
    return this.times.at(-1) ?? 0;
  }

  /** How many events had come by a media time. */
  countAt(seconds) {
    let low = 0;
    let high = this.times.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.times[middle] <= seconds) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** The state of a session after some of its events. */
export class Session {
  started = null;
  ended = null;
  time = 0;
  applied = 0;
  failures = 0;
  finals = [];
  /** [media time, seconds] of each provisional label, in order */
  latencies = [];
  /** number -> utterance */
  utterances = new Map();
  /** Notices of lag, degradation and merged speakers: {id, start, text, kind} */
  notices = [];
  alerts = [];
  /** Utterances, notices and alerts in order of time: {key, start, utterance | notice | alert} */
  rows = [];
  #merged = new Map();
  #ordered = null;
  #speakers = null;

  apply(event) {
    this.applied += 1;
    this.#ordered = this.#speakers = null;
    this.time = Math.max(this.time, mediaTime(event));
    if (TYPES.has(event.type)) this[event.type](event);
  }

  /** The name a speaker goes by now. */
  nameOf(speaker) {
    let name = speaker;
    for (let steps = 0; this.#merged.has(name) && steps < 32; steps += 1) name = this.#merged.get(name);
    return name;
  }

  /** Everybody heard so far, in order of appearance. */
  get speakers() {
    if (this.#speakers) return this.#speakers;
    const names = new Set();
    for (const { speaker } of this.utterances.values()) if (speaker !== null) names.add(this.nameOf(speaker));
    this.#speakers = [...names];
    return this.#speakers;
  }

  /** The utterances in order of time. */
  get inOrder() {
    this.#ordered ??= this.rows.flatMap(({ utterance }) => (utterance ? [utterance] : []));
    return this.#ordered;
  }

  "session.started"(event) {
    this.started = event;
  }

  "session.ended"(event) {
    this.ended = event;
  }

  "utterance.partial"(event) {
    this.#update(event, { text: event.text, stable: event.stable, open: true });
  }

  utterance(event) {
    this.#update(event, { text: event.text, open: false });
  }

  emotion(event) {
    const known = this.utterances.get(event.utterance);
    if (known?.label?.final && !event.final) return;
    const hasInfluences = Object.keys(event.influences).length > 0;
    this.#update(event, {
      text: event.text,
      open: event.trigger === "interval",
      label: event,
      valence: valence(event.probabilities),
      // A final label repeats neither; both belong to the provisional one.
      influences: hasInfluences ? event.influences : (known?.influences ?? {}),
      latency: event.latency ?? known?.latency ?? null,
    });
    if (event.latency) this.latencies.push([event.audio_end, labelLatency(event.latency)]);
    if (event.final) this.finals.push(event.utterance);
  }

  "utterance.failed"(event) {
    this.failures += 1;
    this.#update(event, { failure: event.reason, open: false });
  }

  "speaker.merged"(event) {
    if (this.nameOf(event.into) !== event.speaker) this.#merged.set(event.speaker, event.into);
    this.#notice(event, this.time, `${event.speaker} is ${event.into}: taken for two, they are one speaker`);
  }

  lag(event) {
    this.#notice(event, event.audio_time, `${event.seconds.toFixed(1)} s behind the source`);
  }

  degraded(event) {
    this.#notice(event, event.audio_time, event.reason);
  }

  "events.missed"(event) {
    const number = event.count === null ? "some events, perhaps," : `${event.count} events`;
    this.#notice(event, this.time, `${number} were removed from Redis before they were read`);
  }

  alert(event) {
    this.alerts.push(event);
    this.#place({ key: event.id, start: event.audio_end, alert: event });
  }

  #update(event, fields) {
    const number = event.utterance;
    const known = this.utterances.get(number) ?? { number, label: null, influences: {}, latency: null, failure: null };
    const { speaker, audio_start: start, audio_end: end, id } = event;
    if (known.start !== undefined && known.start !== start) this.rows.splice(this.#indexOf(known), 1);
    const isPlaced = known.start === start;
    this.utterances.set(number, Object.assign(known, { speaker, start, end, stamp: id }, fields));
    if (!isPlaced) this.#place({ key: `utterance-${number}`, start, utterance: known });
  }

  #notice(event, start, text) {
    const notice = { id: event.id, start, text, kind: event.type };
    this.notices.push(notice);
    this.#place({ key: event.id, start, notice });
  }

  /** Put a row behind all that do not begin later; from the end, where nearly all go. */
  #place(row) {
    let at = this.rows.length;
    while (at > 0 && this.rows[at - 1].start > row.start) at -= 1;
    this.rows.splice(at, 0, row);
  }

  #indexOf(utterance) {
    return this.rows.findLastIndex((row) => row.utterance === utterance);
  }
}

/** Whether the source is a file that is played, and nobody is listened to. `sources`: names, as the session tells them. */
export const isPlayed = ([first = ""]) => MEDIA_FILE.test(first) && !first.includes("://");

/** Latencies of the labels of the last minute. */
export const recentLatencies = ({ latencies, time }) =>
  latencies.filter(([end]) => end > time - RECENT_S).map(([, seconds]) => seconds);

/** Seconds from the endpoint to the label, without the end-silence that was waited for. */
export const labelLatency = ({ queue, asr, encode, graph, publish }) => queue + asr + encode + graph + publish;
