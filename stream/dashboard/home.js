// The first page: a wall of the sessions that go on, and a table of the past ones.

import { get, getSummary } from "./api.js";
import { EraseDialog, RenameDialog } from "./dialogs.js";
import { shortClock, valenceOf } from "./emotions.js";
import { isPlayed } from "./session.js";
import { Chip, MoodStrip } from "./strips.js";
import { html, useEffect, useReducer, useRef, useState } from "./vendor/preact-htm.js";

const EVERY_MS = 4000;
const CARD_MS = 3000; // between two looks at a card, where there are few
const LOOK_MS = 300; // between two looks at any of many, so that a token’s requests a minute last
const WINDOW_S = 300;
const DAY_MS = 86_400_000;
const PAGE = 100;
const MAX_LISTED = 1000; // what the server gives at once
const BEHIND_S = 2; // from which on a lag is worth a word

/** The directory, asked for again and again: {running, past, hasOlder, problem, showOlder(), refresh()}. */
function useSessions() {
  const [found, setFound] = useState({ running: null, past: [], hasOlder: false, problem: "" });
  const [limit, setLimit] = useState(PAGE);
  const [asked, refresh] = useReducer((count) => count + 1, 0);
  useEffect(() => {
    let timer = null;
    let isWanted = true;
    const ask = async () => {
      clearTimeout(timer);
      try {
        const [running, newest] = await Promise.all([
          get(`/sessions?running=true&limit=${MAX_LISTED}`),
          get(`/sessions?limit=${limit}`),
        ]);
        const all = [...new Map([...running.sessions, ...newest.sessions].map((each) => [each.id, each])).values()];
        all.sort((one, other) => (one.started < other.started ? 1 : -1));
        const live = all.filter(({ state }) => state === "live");
        const past = all.filter(({ state }) => state !== "live");
        const hasOlder = newest.next !== null && limit < MAX_LISTED;
        if (isWanted) setFound({ running: live, past, hasOlder, problem: "" });
      } catch (error) {
        if (isWanted) setFound((before) => ({ ...before, problem: error.message }));
      }
      if (isWanted && !document.hidden) timer = setTimeout(ask, EVERY_MS);
    };
    const back = () => document.hidden || ask();
    document.addEventListener("visibilitychange", back);
    ask();
    return () => {
      isWanted = false;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", back);
    };
  }, [limit, asked]);
  const showOlder = () => setLimit((before) => Math.min(MAX_LISTED, before + PAGE));
  return { ...found, showOlder, refresh };
}

/** A session's summary, once its element is in view; asked for again every `milliseconds`, if given. */
function useSummary(id, last, milliseconds) {
  const box = useRef(null);
  const [summary, setSummary] = useState(null);
  useEffect(() => {
    let timer = null;
    let isSeen = false;
    const ask = async () => {
      clearTimeout(timer);
      try {
        setSummary(await getSummary(id, last));
      } catch {
        // The row or card stays without it; that the server is away is said above.
      }
      if (milliseconds && isSeen) timer = setTimeout(ask, milliseconds);
    };
    const watcher = new IntersectionObserver(([entry]) => {
      const wasSeen = isSeen;
      isSeen = entry.isIntersecting;
      if (isSeen && !wasSeen && !timer) ask();
      if (isSeen || !milliseconds) return;
      clearTimeout(timer);
      timer = null;
    });
    watcher.observe(box.current);
    return () => {
      watcher.disconnect();
      isSeen = false;
      clearTimeout(timer);
    };
  }, [id, last, milliseconds]);
  return [box, summary];
}

const addressOf = ({ id }) => `#session=${encodeURIComponent(id)}`;

function presentInWords(name, present) {
  if (!present) return name;
  const { emotion, uncertain, alternative } = present;
  return `${name}: ${emotion}${uncertain && alternative ? ` or ${alternative}` : ""}`;
}

/** Names of speakers, each a chip in the colour of the present emotion. */
function Speakers({ speakers }) {
  return html`
    <ul class="chips">
      ${speakers.map(
        ({ name, present }) => html`
        <li key=${name}>
          <${Chip} emotion=${present?.emotion} text=${presentInWords(name, present)} uncertain=${present?.uncertain} />
        </li>`,
      )}
    </ul>
  `;
}

function Card({ session, every }) {
  const [box, summary] = useSummary(session.id, WINDOW_S, every);
  const { load } = session;
  const alerts = summary?.alerts ?? [];
  return html`
    <li ref=${box} class="panel card" data-session=${session.id}>
      <h3><a href=${addressOf(session)}>${session.title ?? session.id}</a></h3>
      <p class="when"><${Clock} session=${session} />
        ${load && load.lag > BEHIND_S && html` <span class="behind">${load.lag.toFixed(0)} s behind</span>`}
        ${load?.given_up > 0 && html` <span class="behind">overloaded</span>`}
        ${alerts.length > 0 && html` <span class="alerted">⚠ ${alertsInWords(alerts)}</span>`}
      </p>
      <p class="headline">${summary ? upsetIn(summary.speakers) : ""}</p>
      <${Speakers} speakers=${summary?.speakers ?? []} />
      <${MoodStrip} mood=${summary?.mood ?? []} height=${44} />
      <p class="said">${lastWords(summary)}</p>
    </li>
  `;
}

function alertsInWords(alerts) {
  const { audio_end: end, speaker, emotion } = alerts.at(-1);
  return `${alerts.length} ${alerts.length === 1 ? "alert" : "alerts"}, last ${shortClock(end)} ${speaker}, ${emotion}`;
}

/** How long it goes on, and whether somebody is listened to. */
function Clock({ session }) {
  const length = shortClock(session.duration ?? 0);
  return isPlayed(session.sources)
    ? html`<span>▶ ${length}, a recording</span>`
    : html`<span class="live">● ${length}</span>`;
}

/** Who is upset, in a sentence, as the session's own page says it. */
function upsetIn(speakers) {
  if (speakers.length === 0) return "";
  const upset = speakers.filter(({ present }) => present && valenceOf(present.emotion) < 0);
  const [sure, unsure] = [false, true].map((uncertain) =>
    upset.filter(({ present }) => present.uncertain === uncertain),
  );
  const told =
    sure.length > 0 ? `Upset: ${sure.map(({ name, present }) => `${name} (${present.emotion})`).join(", ")}.` : "";
  const perhaps = unsure.length > 0 ? `Perhaps upset: ${unsure.map(({ name }) => name).join(", ")}.` : "";
  return `${told} ${perhaps}`.trim() || "Nobody is upset.";
}

function lastWords(summary) {
  if (!summary) return html`<span class="hint">Reading…</span>`;
  if (!summary.last) return html`<span class="hint">Nothing has been said in the last five minutes.</span>`;
  const { speaker, text } = summary.last;
  return html`<strong>${speaker}:</strong> ${text === null ? "words withheld" : text || "no words understood"}`;
}

function PastRow({ session, may, onRename, onErase }) {
  const [box, summary] = useSummary(session.id, null, 0);
  const started = new Date(session.started).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  return html`
    <tr ref=${box} data-session=${session.id}>
      <th scope="row">
        <a href=${addressOf(session)} title=${session.consent ? `Consent: ${session.consent}` : "No consent stated"}>
          ${session.title ?? session.id}
        </a>
        ${session.state === "lost" && html` <span class="behind">lost</span>`}
        ${session.recorded && html` <span class="hint">recorded</span>`}
      </th>
      <td class="date">${started}</td>
      <td class="length">${session.duration === null ? "…" : shortClock(session.duration)}</td>
      <td class="who">${(summary?.speakers ?? []).map(({ name }) => name).join(", ")}</td>
      <td class="strip-cell">${summary && html`<${MoodStrip} mood=${summary.mood} height=${24} />`}</td>
      <td class="tags">${session.tags.map((tag) => html`<span class="tag" key=${tag}>${tag}</span>`)}</td>
      <td class="actions">
        ${
          may("edit") &&
          html`
          <button type="button" onClick=${() => onRename(session)} aria-label="Rename ${session.title ?? session.id}">Rename</button>`
        }
        ${
          may("admin") &&
          html`
          <button type="button" onClick=${() => onErase(session)} aria-label="Delete ${session.title ?? session.id}">Delete</button>`
        }
      </td>
    </tr>
  `;
}

/** Whether a session has all the words of a search in its title, id, tags, sources or date. */
function fits(session, search, days) {
  if (days && new Date(session.started) < Date.now() - days * DAY_MS) return false;
  const { id, title, tags, sources, consent, started } = session;
  const date = new Date(started).toLocaleDateString([], { dateStyle: "medium" });
  const text = [id, title ?? "", ...tags, ...sources, consent ?? "", date, started.slice(0, 10)]
    .join(" ")
    .toLowerCase();
  return search
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(word));
}

export function Home({ may }) {
  const { running, past, hasOlder, problem, showOlder, refresh } = useSessions();
  const [search, setSearch] = useState("");
  const [days, setDays] = useState(0);
  const [renamed, setRenamed] = useState(null);
  const [erased, setErased] = useState(null);
  // A search goes through all that the server lists, not only through the page that is shown.
  useEffect(() => {
    if (search && hasOlder) showOlder();
  }, [search, hasOlder, past.length]);
  const shown = past.filter((session) => fits(session, search, days));
  const every = Math.max(CARD_MS, LOOK_MS * (running?.length ?? 0));
  const hasNone = running?.length === 0 && past.length === 0;
  return html`
    <main id="main" class="home" tabindex="-1">
      <h1 class="visually-hidden">Sessions</h1>
      <p role="alert">${problem}</p>
      ${running === null && !problem && html`<p class="hint" role="status">Reading the list of sessions…</p>`}
      ${
        hasNone &&
        html`
        <section class="panel empty" id="sessions-empty">
          <h2>No sessions yet</h2>
          <p>Listen to a microphone, or drop in a recording; what is found shows here.</p>
          <p>${
            may("ingest")
              ? html`<a class="button primary" href="#new">Start a session</a>`
              : "Your access token may watch sessions, not start them."
          }</p>
        </section>`
      }
      ${
        running?.length > 0 &&
        html`
        <section aria-labelledby="live-title">
          <h2 id="live-title">Live now <span class="hint">mood of the last five minutes</span></h2>
          <ul id="wall">${running.map((session) => html`<${Card} key=${session.id} session=${session} every=${every} />`)}</ul>
        </section>`
      }
      ${
        past.length > 0 &&
        html`
        <section aria-labelledby="past-title" class="panel">
          <header>
            <h2 id="past-title">Past sessions</h2>
            <label class="visually-hidden" for="days">When</label>
            <select id="days" value=${days} onChange=${({ target }) => setDays(Number(target.value))}>
              <option value="0">any time</option>
              <option value="1">last 24 hours</option>
              <option value="7">last 7 days</option>
              <option value="30">last 30 days</option>
            </select>
            <label class="visually-hidden" for="search">Search titles, tags and dates</label>
            <input id="search" type="search" placeholder="Search titles, tags, dates" value=${search}
              onInput=${({ target }) => setSearch(target.value)} />
          </header>
          <div class="scroll" role="region" tabindex="0" aria-label="Table of past sessions">
            <table id="past">
              <thead><tr>
                <th scope="col">Title</th><th scope="col">Date</th><th scope="col">Length</th><th scope="col">Speakers</th>
                <th scope="col">Mood</th><th scope="col">Tags</th><td></td>
              </tr></thead>
              <tbody>
                ${shown.map(
                  (session) => html`
                  <${PastRow} key=${session.id} session=${session} may=${may} onRename=${setRenamed} onErase=${setErased} />`,
                )}
              </tbody>
            </table>
          </div>
          <p role="status" class="hint">${shown.length > 0 ? "" : search ? `No session has “${search}”.` : "No session in this time."}</p>
          ${hasOlder && html`<button id="sessions-more" type="button" class="link" onClick=${showOlder}>Show older sessions</button>`}
        </section>`
      }
      ${renamed && html`<${RenameDialog} session=${renamed} onDone=${refresh} onClose=${() => setRenamed(null)} />`}
      ${erased && html`<${EraseDialog} session=${erased} onDone=${refresh} onClose=${() => setErased(null)} />`}
    </main>
  `;
}
