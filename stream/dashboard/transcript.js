// The transcript: an article an utterance, in order of time, filled a slice a frame.
// Articles lie in chunks, and a browser lays out only chunks that are near the view.

import { fillDetails, summaryLine } from "./details.js";
import { atMostEvery, byId, element, oncePerFrame } from "./dom.js";
import { clock, cssColourOf, mark, modalityName, percent, soundNames, verdictOf } from "./emotions.js";

const SLICE_MS = 8;
const NEAR_END_PX = 48;
const CHUNK_ROWS = 25;
const SCROLL_MS = 250;
const SETTLING_FRAMES = 5;

const STATE_NOTES = { live: "speaking…", heard: "being labelled…", provisional: "provisional" };

export class Transcript {
  #session = null;
  #rows = new Map();
  #pending = new Set();
  #box = byId("transcript");
  #list = byId("utterances");
  #jump = byId("jump");
  #template = byId("utterance-template").content.firstElementChild;
  #growing = false;
  #following = false;
  #touched = false;
  #last = { top: 0, height: 0 };
  #work = oncePerFrame(() => this.#fillSlice());

  constructor() {
    this.#box.addEventListener("scroll", () => this.#onScroll(), { passive: true });
    for (const input of ["wheel", "touchmove", "keydown", "pointerdown"]) {
      this.#box.addEventListener(input, () => (this.#touched = true), { passive: true });
    }
    this.#box.addEventListener("toggle", (event) => this.#onToggle(event), true);
    this.#jump.addEventListener("click", () => this.#follow(true));
    // Rows take their true heights only once they are seen, so the end moves also without new rows.
    // Not every frame: through a long history that would lay out what is gone the next one.
    new ResizeObserver(atMostEvery(SCROLL_MS, () => this.#keepEnd())).observe(this.#list);
  }

  /** Begin with another session. */
  open(session) {
    this.#pending.clear();
    this.#rows.clear();
    this.#list.replaceChildren();
    this.#session = session;
    this.setGrowing(false);
  }

  /** Whether the session grows, live or played; then its end is kept in view until the reader scrolls up. */
  setGrowing(yes) {
    if (yes === this.#growing) return;
    this.#growing = yes;
    this.#follow(yes);
  }

  /** Show what changed in the session. */
  update() {
    this.#queue(this.#session.changed);
    this.#session.changed.clear();
  }

  /** Show another state of the same session; only rows that differ are touched. */
  replace(session) {
    this.#session = session;
    for (const [key, row] of this.#rows) {
      if (session.utterances.has(key) || session.notices.has(key)) continue;
      this.#remove(row.node);
      this.#rows.delete(key);
    }
    this.#pending.clear();
    session.changed.clear();
    for (const [number, utterance] of session.utterances) {
      if (this.#rows.get(number)?.stamp !== this.#stamp(utterance)) this.#queue([number]);
    }
    for (const id of session.notices.keys()) if (!this.#rows.has(id)) this.#queue([id]);
    this.#showEmptiness();
  }

  /** Bring an utterance into view and give it the focus. */
  reveal(number) {
    const row = this.#rows.get(number);
    if (!row) return;
    this.#follow(false);
    centre(row.node, SETTLING_FRAMES);
    row.node.focus({ preventScroll: true });
  }

  #stamp = (utterance) => `${utterance.stamp} ${this.#session.nameOf(utterance.speaker)}`;

  #queue(keys) {
    for (const key of keys) this.#pending.add(key);
    this.#work();
  }

  #fillSlice() {
    const until = performance.now() + SLICE_MS;
    for (const key of this.#pending) {
      this.#pending.delete(key);
      const utterance = this.#session.utterances.get(key);
      if (utterance) this.#showUtterance(utterance);
      else if (this.#session.notices.has(key)) this.#showNotice(key, this.#session.notices.get(key));
      if (performance.now() > until) break;
    }
    this.#showEmptiness();
    if (this.#pending.size > 0) this.#work();
  }

  #showEmptiness() {
    const empty = this.#rows.size === 0 && this.#pending.size === 0;
    byId("transcript-empty").hidden = !empty;
    this.#box.hidden = empty;
  }

  #showNotice(id, { start, text, kind }) {
    if (this.#rows.has(id)) return;
    const node = element(
      "p",
      { className: `notice ${kind.replace(".", "-")}` },
      element("time", { textContent: clock(start) }),
      " ",
      text,
    );
    this.#place(id, { node, start, stamp: id });
  }

  #showUtterance(utterance) {
    let row = this.#rows.get(utterance.number);
    if (!row) {
      const node = this.#template.cloneNode(true);
      node.id = `utterance-${utterance.number}`;
      node.dataset.utterance = utterance.number;
      row = { node, start: utterance.start };
      this.#place(utterance.number, row);
    } else if (row.start !== utterance.start) {
      row.start = utterance.start;
      this.#place(utterance.number, row);
    }
    row.stamp = this.#stamp(utterance);
    this.#fill(row.node, utterance);
  }

  #place(key, row) {
    this.#rows.set(key, row);
    this.#remove(row.node);
    row.node.start = row.start;
    let chunk = this.#list.lastElementChild;
    while (chunk && chunk.firstElementChild.start > row.start) chunk = chunk.previousElementSibling;
    let before = chunk?.lastElementChild;
    while (before && before.start > row.start) before = before.previousElementSibling;
    if (before && (before.nextElementSibling || chunk.childElementCount < CHUNK_ROWS)) return before.after(row.node);
    const fresh = element("div", { className: "chunk" }, row.node);
    if (chunk) chunk.after(fresh);
    else this.#list.prepend(fresh);
  }

  #remove(node) {
    const chunk = node.parentElement;
    node.remove();
    if (chunk?.childElementCount === 0) chunk.remove();
  }

  #fill(node, utterance) {
    const { label, failure, open } = utterance;
    const name = utterance.speaker === null ? "unknown" : this.#session.nameOf(utterance.speaker);
    const [who, words, verdict, details] = node.children;
    const [line, meter, note, modalities] = verdict.children;
    who.firstElementChild.textContent = clock(utterance.start);
    who.lastElementChild.textContent = name;
    words.replaceChildren(...wordsOf(utterance));
    words.classList.toggle("absent", !utterance.text);
    const state = stateOf(utterance);
    node.className = `utterance ${state}${label?.uncertain ? " uncertain" : ""}${details.open ? " opened" : ""}`;
    node.setAttribute("aria-label", `${clock(utterance.start)}, ${name}: ${failure ? "no label" : verdictOf(label)}`);
    node.setAttribute("aria-busy", String(Boolean(open)));
    line.children[1].textContent = failure ? "no label" : verdictOf(label);
    const share = label ? label.probabilities[label.emotion] : 0;
    meter.lastElementChild.textContent = label ? percent(share) : "";
    line.children[0].hidden = meter.hidden = !label;
    if (label) mark(line.children[0], label.emotion);
    node.style.setProperty("--emotion", label ? cssColourOf(label.emotion) : "transparent");
    node.style.setProperty("--share", `${100 * share}%`);
    note.textContent = failure ?? STATE_NOTES[state] ?? "";
    modalities.replaceChildren(...(label ? badges(label) : []));
    details.hidden = !label;
    if (!label) return;
    details.firstElementChild.textContent = summaryLine(utterance);
    if (details.open) this.#fillDetails(details, utterance);
  }

  #fillDetails(details, utterance) {
    fillDetails(details, utterance, this.#session, (number) => this.reveal(number));
  }

  #onToggle({ target }) {
    const node = target.closest(".utterance");
    const utterance = this.#session.utterances.get(Number(node.dataset.utterance));
    node.classList.toggle("opened", target.open);
    if (target.open && utterance) this.#fillDetails(target, utterance);
  }

  #onScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.#box;
    const atEnd = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    // Rows that take their true heights move the view too; that is no wish of the reader's.
    const meant = this.#touched || scrollHeight === this.#last.height;
    if (atEnd) this.#following = this.#growing;
    else if (meant && scrollTop < this.#last.top - 1) this.#following = false;
    this.#last = { top: scrollTop, height: scrollHeight };
    this.#showJump();
  }

  #follow(yes) {
    this.#following = yes;
    this.#showJump();
    this.#keepEnd();
  }

  #showJump() {
    this.#jump.hidden = !this.#growing || this.#following;
  }

  #keepEnd() {
    if (!this.#following) return;
    this.#box.scrollTop = this.#box.scrollHeight;
    this.#touched = false;
    this.#last = { top: this.#box.scrollTop, height: this.#box.scrollHeight };
  }
}

/** Bring a node to the middle; again for some frames, for heights above it are estimates until they are laid out. */
function centre(node, frames) {
  node.scrollIntoView({ block: "center" });
  if (frames > 0) requestAnimationFrame(() => centre(node, frames - 1));
}

function stateOf({ failure, open, label }) {
  if (failure) return "failed";
  if (open) return "live";
  if (!label) return "heard";
  return label.final ? "final" : "provisional";
}

/** The words; of an utterance that goes on, those that may still change in an element of their own. */
function wordsOf({ text, stable = "", open }) {
  if (text === null) return ["words withheld"];
  if (!open) return [text || "no words understood"];
  const settled = text.startsWith(stable) ? stable : "";
  return [settled, element("span", { className: "unstable", textContent: text ? text.slice(settled.length) : "…" })];
}

function badges({ modalities, visual, voice }) {
  const badge = (name, className) => element("span", { className, textContent: modalityName(name) });
  const used = modalities.used.map((name) => badge(name, "badge"));
  const missing = modalities.missing.map((name) => {
    const title = modalities.reasons?.[name] ?? (name === "visual" && visual?.reason ? visual.reason : "");
    const struck = Object.assign(badge(name, "badge missing"), { title });
    struck.setAttribute("role", "img");
    struck.setAttribute("aria-label", `missing: ${modalityName(name)}${title ? ` (${title})` : ""}`);
    return struck;
  });
  const sounds = soundNames(voice).map((textContent) => element("span", { className: "badge sound", textContent }));
  return [...sounds, ...used, ...missing];
}
