// The transcript as a conversation: rows in order of time, the newest at the bottom, of which those in view are there.

import { Details, summaryLine } from "./details.js";
import {
  certaintyOf,
  clock,
  cssColourOf,
  groundOf,
  modalityName,
  percent,
  shortClock,
  soundNames,
  symbolOf,
  verdictOf,
} from "./emotions.js";
import { oncePerFrame } from "./pacing.js";
import { html, useEffect, useLayoutEffect, useMemo, useReducer, useRef, useState } from "./vendor/preact-htm.js";
import { elementScroll, observeElementOffset, observeElementRect, Virtualizer } from "./vendor/virtual-core/index.js";

// What the virtualizer asks of a bundler, which this page has none of.
globalThis.process ??= { env: { NODE_ENV: "production" } };

const ROW_PX = 66;
const NEAR_END_PX = 48;
const STATE_NOTES = { live: "speaking…", heard: "being labelled…", provisional: "provisional" };

/** A virtualizer of `count` rows in the element of `box`, drawn again when what is in view changes. */
function useRows(box, count, keyOf) {
  const [, draw] = useReducer((seen) => seen + 1, 0);
  const [rows] = useState(
    () =>
      new Virtualizer({
        count: 0,
        ...behaviour(
          box,
          oncePerFrame(() => draw()),
        ),
      }),
  );
  rows.setOptions({ ...rows.options, count, getItemKey: keyOf });
  useLayoutEffect(() => rows._didMount(), []);
  useLayoutEffect(() => rows._willUpdate());
  return rows;
}

const behaviour = (box, onChange) => ({
  getScrollElement: () => box.current,
  estimateSize: () => ROW_PX,
  overscan: 4,
  scrollToFn: elementScroll,
  observeElementRect,
  observeElementOffset,
  onChange,
});

/**
 * Keep the newest row of a live session in view, or the one that is spoken in playback, until the reader moves away.
 *
 * `target`: number of the row at the moment; null where there is none to follow. Answers [isFollowing, setFollowing,
 * handlers of the scrolling element].
 */
function useFollowing(box, view, target, isAtEnd) {
  const [isFollowing, setFollowing] = useState(true);
  const isTouched = useRef(false);
  const touched = () => {
    isTouched.current = true;
    setFollowing(false);
  };
  useLayoutEffect(() => {
    if (!isFollowing || target === null) return;
    // Rows take their true heights only once they are drawn; so the end is looked for again after each drawing.
    if (!isAtEnd) view.scrollToIndex(target, { align: "center" });
    else if (box.current.scrollHeight - box.current.scrollTop - box.current.clientHeight > 1) {
      box.current.scrollTop = box.current.scrollHeight;
    }
  });
  // Who scrolls back to the end follows again; that the page scrolled there is no wish of the reader's.
  const settled = () => {
    if (isTouched.current && isAtEnd && view.isAtEnd(NEAR_END_PX)) setFollowing(true);
    isTouched.current = false;
  };
  const handlers = {
    onWheel: touched,
    onTouchMove: touched,
    onPointerDown: touched,
    onFocusCapture: touched,
    onScrollEnd: settled,
  };
  return [isFollowing, setFollowing, handlers];
}

/** `reveal`: {key, at} asks for a row to be shown and given the focus. */
export function Transcript({ store, rows, reveal, empty, onReveal, edit }) {
  const box = useRef(null);
  const [opened, setOpened] = useState(() => new Set());
  const keyOf = (place) => rows[place].key;
  const view = useRows(box, rows.length, keyOf);
  const current = store.current && `utterance-${store.current.number}`;
  const isMoving = store.isLive || store.player.isPlaying;
  const target = followed(store, rows, current);
  const [isFollowing, setFollowing, handlers] = useFollowing(box, view, target, store.isLive);
  useEffect(() => setFollowing(true), [store.player.isPlaying, store.player.sought]);
  useEffect(() => {
    const place = reveal ? rows.findIndex(({ key }) => key === reveal.key) : -1;
    if (place < 0) return;
    setFollowing(false);
    view.scrollToIndex(place, { align: "center" });
    focusSoon(box.current, reveal.key, 30);
  }, [reveal]);
  const toggle = (key) => {
    setFollowing(false);
    setOpened((before) => new Set(before.has(key) ? [...before].filter((one) => one !== key) : [...before, key]));
  };
  // The browser's own way there would stop where the heights of rows turn out to be others than guessed.
  const move = (event) => {
    if (event.target !== box.current) return;
    if (["ArrowUp", "ArrowDown", "PageUp", "PageDown", "Home", "End", " "].includes(event.key)) setFollowing(false);
    const ends = { Home: () => view.scrollToIndex(0), End: () => view.scrollToEnd() };
    if (!Object.hasOwn(ends, event.key)) return;
    event.preventDefault();
    ends[event.key]();
  };
  const measured = (node) => node && view.measureElement(node);
  return html`
    <div id="conversation" class="panel">
      <header>
        <h2 id="transcript-title">Transcript</h2>
        <span class="hint">${absenceOf(store.session)}</span>
        ${
          isMoving &&
          !isFollowing &&
          html`
          <button id="jump" type="button" onClick=${() => setFollowing(true)}>${store.isLive ? "Jump to the newest" : "Follow the playback"}</button>`
        }
      </header>
      <div id="transcript" ref=${box} role="region" tabindex="0" aria-labelledby="transcript-title" hidden=${rows.length === 0}
        data-rows=${rows.length} onKeyDown=${move} ...${handlers}>
        <div style=${{ height: `${view.getTotalSize()}px`, position: "relative" }}>
          ${view.getVirtualItems().map(({ index, key, start }) => {
            const row = rows[index];
            return (
              row &&
              html`
              <div key=${key} data-index=${index} ref=${measured} class="row ${key === current ? "current" : ""}"
                style=${{ transform: `translateY(${start}px)` }}>
                <${Row} store=${store} row=${row} stamp=${stampOf(store, row)} isOpen=${opened.has(key)} onToggle=${toggle}
                  onReveal=${onReveal} edit=${edit} />
              </div>`
            );
          })}
        </div>
      </div>
      ${rows.length === 0 && html`<div id="transcript-empty" class="empty" role="status">${empty}</div>`}
    </div>
  `;
}

/** Number of the row that is to be kept in view; null: none. */
function followed(store, rows, current) {
  if (rows.length === 0) return null;
  if (store.isLive) return rows.length - 1;
  const place = current ? rows.findIndex(({ key }) => key === current) : -1;
  return place >= 0 ? place : null;
}

/** What the whole session does without, once for all rows. */
function absenceOf({ started }) {
  const encoders = started?.encoders ?? {};
  const names = ["text", "audio", "visual"].filter((name) => !encoders[name]).map(modalityName);
  const used = ["text", "audio", "visual"].filter((name) => encoders[name]).map(modalityName);
  return started && names.length > 0 ? `No ${names.join(", no ")}: labels rest on ${used.join(" and ")}.` : "";
}

/** The row is drawn some frames after it was asked for; then it gets the focus. */
function focusSoon(box, key, frames) {
  const node = box?.querySelector(`[id="${CSS.escape(key)}"]`);
  if (node) node.focus({ preventScroll: true });
  else if (frames > 0) requestAnimationFrame(() => focusSoon(box, key, frames - 1));
}

const stampOf = ({ session, annotations }, { utterance, key }) =>
  utterance
    ? `${utterance.stamp} ${session.nameOf(utterance.speaker)} ${correctionOf(annotations, utterance)?.emotion ?? ""}`
    : key;

const correctionOf = ({ corrections }, { number }) => corrections.find(({ utterance }) => utterance === number);

function Row({ store, row, stamp, isOpen, onToggle, onReveal, edit }) {
  return useMemo(() => {
    const { utterance, notice, alert, note } = row;
    if (utterance) {
      const correction = correctionOf(store.annotations, utterance);
      const toggle = () => onToggle(row.key);
      return html`<${UtteranceRow} ...${{ store, utterance, correction, isOpen, toggle, onReveal, edit }} />`;
    }
    if (alert) {
      return html`<p id=${row.key} tabindex="-1" class="notice alert">
        <time>${shortClock(row.start)}</time> <strong>⚠ ${alert.rule}</strong>: ${alert.speaker},
        ${" "}${alert.emotion} ${percent(alert.probability)}</p>`;
    }
    if (note)
      return html`<p id=${row.key} tabindex="-1" class="notice note"><time>${shortClock(note.time)}</time> ✎ ${note.text}</p>`;
    return html`<p id=${row.key} tabindex="-1" class="notice ${notice.kind.replace(".", "-")}">
      <time>${shortClock(notice.start)}</time> ${notice.text}</p>`;
  }, [row, stamp, isOpen]);
}

function UtteranceRow({ store, utterance, correction, isOpen, toggle, onReveal, edit }) {
  const { session } = store;
  const { number, start, label, failure, open, text } = utterance;
  const name = utterance.speaker === null ? "unknown" : session.nameOf(utterance.speaker);
  const state = stateOf(utterance);
  const verdict = failure ? "no label" : verdictOf(label);
  const style = label
    ? { "--emotion": cssColourOf(label.emotion), "--share": `${100 * label.probabilities[label.emotion]}%` }
    : {};
  return html`
    <article class="utterance ${state} ${label?.uncertain ? "uncertain" : ""}" id="utterance-${number}" tabindex="-1" style=${style}
      aria-label="${clock(start)}, ${name}: ${verdict}" aria-busy=${String(Boolean(open))}>
      <p class="who"><time>${shortClock(start)}</time> <strong class="speaker">${name}</strong></p>
      <p class="words ${text ? "" : "absent"}">${wordsOf(utterance)}</p>
      <div class="label">
        <p class="verdict">
          ${label && html`<span class="swatch" aria-hidden="true" style=${groundOf(label.emotion)}>${symbolOf(label.emotion)}</span>`}
          <span class="emotion">${verdict}</span>
          ${label && html`<span class="percent">${certaintyOf(label)}</span>`}
        </p>
        ${correction && html`<p class="corrected">corrected: ${correction.emotion}</p>`}
        ${(failure ?? STATE_NOTES[state]) && html`<p class="state">${failure ?? STATE_NOTES[state]}</p>`}
        ${label && html`<p class="modalities">${badges(label, session.started)}</p>`}
      </div>
      ${
        label &&
        html`
        <details open=${isOpen}>
          <summary onClick=${(event) => (event.preventDefault(), toggle())}>${summaryLine(utterance)}</summary>
          ${isOpen && html`<${Details} store=${store} utterance=${utterance} correction=${correction} onReveal=${onReveal} edit=${edit} />`}
        </details>`
      }
    </article>
  `;
}

function stateOf({ failure, open, label }) {
  if (failure) return "failed";
  if (open) return "live";
  if (!label) return "heard";
  return label.final ? "final" : "provisional";
}

/** The words; of an utterance that goes on, those that may still change in an element of their own. */
function wordsOf({ text, stable = "", open }) {
  if (text === null) return "words withheld";
  if (!open) return text || "no words understood";
  const settled = text.startsWith(stable) ? stable : "";
  return html`${settled}<span class="unstable">${text ? text.slice(settled.length) : "…"}</span>`;
}

/** Sounds that are no words, and what this label, unlike the session, had to do without. */
function badges({ modalities, visual, voice }, started) {
  const sounds = soundNames(voice).map((sound) => html`<span key=${sound} class="badge sound">${sound}</span>`);
  const missing = modalities.missing
    .filter((name) => started?.encoders[name] !== null)
    .map((name) => {
      const why = modalities.reasons?.[name] ?? (name === "visual" && visual?.reason ? visual.reason : "");
      return html`
      <span key=${name} class="badge missing" title=${why} role="img"
        aria-label="missing: ${modalityName(name)}${why ? ` (${why})` : ""}">${modalityName(name)}</span>`;
    });
  return [...sounds, ...missing];
}
