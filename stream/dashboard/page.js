// One session: its header, the transcript, what stands beside it, and the timeline below.

import { AfterPanel } from "./after.js";
import { download } from "./api.js";
import { AlertsPanel } from "./alerts.js";
import { AttentionPanel } from "./attention.js";
import { stopAnalysis } from "./bar.js";
import { Dialog, EraseDialog, RenameDialog } from "./dialogs.js";
import { Facts } from "./facts.js";
import { shortClock } from "./emotions.js";
import { NotesPanel } from "./notes.js";
import { headline, NowPanel } from "./now.js";
import { useStore } from "./pacing.js";
import { Playback } from "./playback.js";
import { QualityLamp } from "./quality.js";
import { directionOf, RecentPanel } from "./recent.js";
import { SessionStore } from "./store.js";
import { Timeline } from "./timeline.js";
import { Transcript } from "./transcript.js";
import { html, useEffect, useMemo, useRef, useState } from "./vendor/preact-htm.js";

const REASONS = { "end of source": "its source ended" };
const DRAWN_MS = 80; // between two drawings of all but playback and charts

export function SessionPage({ id, moment, may, options, capture, ready, theme }) {
  const store = useMemo(() => new SessionStore(id), [id]);
  const [reveal, setReveal] = useState(null);
  const [dialog, setDialog] = useState(null);
  const [problem, setProblem] = useState("");
  const isErased = useRef(false);
  useEffect(() => {
    scrollTo(0, 0);
    return () => store.close();
  }, [store]);
  useStore(store, DRAWN_MS);
  useMoment(store, moment, setReveal);
  useEffect(() => {
    document.title = `${store.title} · Undertone`;
  }, [store.title]);
  if (store.isAbsent) return html`<${Absent} problem=${store.problem} />`;

  const { session, isLive, player, annotations } = store;
  const rows = withNotes(session.rows, annotations.notes);
  const show = (key) => {
    const row = rows.find((each) => each.key === key);
    if (row) store.goTo(row.start);
    setReveal({ key, at: performance.now() });
  };
  const stop = async () => {
    setDialog(null);
    setProblem(await stopAnalysis(id, capture));
  };
  const save = (kind) => download(id, kind).catch((error) => setProblem(`No export: ${error.message}`));
  const named = { id, title: annotations.title ?? store.info?.title ?? null, tags: annotations.tags };
  return html`
    <main id="main" class="session" tabindex="-1">
      <header id="session-header">
        <h1 id="session-title">${store.title}</h1>
        <p id="session-state" class=${isLive && !store.isRecording ? "live" : ""}>${stateInWords(store)}</p>
        <${QualityLamp} store=${store} />
        <div class="buttons">
          ${isLive && may("ingest") && html`<button id="stop-session" type="button" onClick=${() => setDialog("stop")}>Stop</button>`}
          <${Menu} id="export" label="Export">
            ${(options?.exports ?? []).map(
              (kind) => html`
              <button key=${kind.format} id="export-${kind.format}" type="button" onClick=${() => save(kind)}>${kind.title || kind.format}</button>`,
            )}
          <//>
          <${Menu} id="more" label="⋯" title="More">
            ${may("edit") && html`<button id="rename" type="button" onClick=${() => setDialog("rename")}>Title and tags…</button>`}
            ${may("admin") && !isLive && html`<button id="erase" type="button" onClick=${() => setDialog("erase")}>Delete…</button>`}
            <${Facts} store=${store} />
          <//>
        </div>
        ${annotations.tags.length > 0 && html`<p class="tags">${annotations.tags.map((tag) => html`<span class="tag" key=${tag}>${tag}</span>`)}</p>`}
        <p id="headline" role="status">${headline(store)}${isLive && store.recent ? ` ${directionOf(store.recent.mood)}` : ""}</p>
        ${isLive && !capture && html`<p id="analysis-status" role="status" class="hint">${analysisInWords(store)}</p>`}
        <p id="session-message" role="alert">${problem || store.problem}</p>
        ${store.feedState[0] === "waiting" && html`<p id="connection" role="status" class="strip failed">${store.feedState[1]}</p>`}
      </header>
      ${player.isOffered && html`<${Playback} store=${store} />`}
      <div id="columns">
        <${Transcript} store=${store} rows=${rows} reveal=${reveal} onReveal=${show} edit=${may("edit")}
          empty=${emptiness(store, ready)} />
        <div id="beside">
          ${
            isLive || player.isPlaying || store.isAsItStood
              ? html`<${NowPanel} store=${store} />`
              : html`<${AfterPanel} store=${store} onReveal=${show} />`
          }
          ${isLive && html`<${RecentPanel} store=${store} onReveal=${show} />`}
          <${AlertsPanel} store=${store} edit=${may("edit")} onReveal=${show} />
          <${NotesPanel} store=${store} edit=${may("edit")} onReveal=${show} />
          <${AttentionPanel} store=${store} />
        </div>
      </div>
      <${Timeline} store=${store} theme=${theme} onReveal=${show} />
      ${
        dialog === "stop" &&
        html`
        <${Dialog} title="Stop this session?" onClose=${() => setDialog(null)}>
          <p>It ends for everybody. What was said so far is still labelled.</p>
          <p class="buttons">
            <button id="stop-now" type="button" class="danger" onClick=${stop}>Stop it</button>
            <button type="button" onClick=${() => setDialog(null)}>Go on</button>
          </p>
        <//>`
      }
      ${
        dialog === "rename" &&
        html`
        <${RenameDialog} session=${named} onDone=${() => store.readAnnotations()} onClose=${() => setDialog(null)} />`
      }
      ${
        dialog === "erase" &&
        html`
        <${EraseDialog} session=${named} onDone=${() => (isErased.current = true)}
          onClose=${() => (isErased.current ? (location.hash = "home") : setDialog(null))} />`
      }
    </main>
  `;
}

/** Show the moment that the address names, once the session has come that far. */
function useMoment(store, moment, setReveal) {
  const isThere = store.log.duration >= moment;
  useEffect(() => {
    if (!isThere) return;
    const last = store.session.inOrder.findLast(({ start }) => start <= moment + 0.05);
    if (last) setReveal({ key: `utterance-${last.number}`, at: performance.now() });
    store.goTo(moment);
  }, [isThere, moment]);
}

function withNotes(rows, notes) {
  if (notes.length === 0) return rows;
  const written = notes.map((note) => ({ key: `note-${note.id}`, start: note.time, note }));
  return [...rows, ...written].sort((one, other) => one.start - other.start);
}

/** A button with what it opens, which a click beside it or Escape closes. */
function Menu({ id, label, title = label, children }) {
  return html`
    <button id="${id}-button" type="button" popovertarget="${id}-menu" aria-label=${title} title=${title}>
      ${label}${label === title ? " ▾" : ""}
    </button>
    <div id="${id}-menu" class="menu" popover="auto" role="group" aria-label=${title}>${children}</div>
  `;
}

function Absent({ problem }) {
  return html`
    <main id="main" class="narrow" tabindex="-1">
      <section class="panel empty">
        <h1>This session is not there</h1>
        <p id="session-message" role="alert">${problem}</p>
        <p class="hint">Its events may have expired, or somebody deleted it.</p>
        <p><a class="button primary" href="#home">All sessions</a></p>
      </section>
    </main>
  `;
}

/** "● 12:41" of a session that goes on; of others their length, and why they ended. */
function stateInWords({ isLive, isRecording, info, session, log }) {
  if (!info) return "…";
  const length = shortClock(Math.max(log.duration, isLive ? (info.duration ?? 0) : 0));
  if (isLive) return `${isRecording ? "▶" : "●"} ${length}`;
  const reason = REASONS[session.ended?.reason ?? info.reason] ?? session.ended?.reason ?? info.reason;
  if (info.state === "lost" && !session.ended) return `${length}, lost: it gives no sign of life`;
  return `${length}, ended${reason ? `: ${reason}` : ""}`;
}

const analysisInWords = ({ isRecording }) =>
  isRecording
    ? "A recording is being analysed. Nobody is listened to."
    : "This page does not listen, but the session does: whoever can be heard in it is analysed.";

/** What stands where there are no words. */
function emptiness({ isReading, isLive, session, log, player, problem }, ready) {
  if (problem) return "Nothing can be shown.";
  if (isReading) return "Reading the session…";
  if (player.isWithin) return "Nothing has been said yet at this moment.";
  if (!isLive) return `No speech was found in ${shortClock(log.duration)} of sound.`;
  const loading = ready?.loading ?? [];
  if (loading.length > 0) return `Loading ${loading.join(", ")}. Labels begin when all is there.`;
  return session.started ? "Listening. Nothing has been said yet." : "The session begins…";
}
