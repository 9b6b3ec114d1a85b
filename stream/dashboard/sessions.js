// The list of sessions, live ones first.

import { get } from "./api.js";
import { byId, element } from "./dom.js";
import { clock } from "./emotions.js";

const EVERY_MS = 4000;
const PAGE = 100;
const MAX_LISTED = 1000; // what the server gives at once

export class SessionList {
  #sessions = [];
  #shown = "";
  #current = null;
  #timer = null;
  #limit = PAGE;

  /** `onUpdate(sessions)` for every answer; `onState(state, text)` says how the server is reached. */
  constructor(onUpdate, onState) {
    this.onUpdate = onUpdate;
    this.onState = onState;
    byId("sessions-more").addEventListener("click", () => {
      this.#limit = Math.min(MAX_LISTED, this.#limit + PAGE);
      this.refresh();
    });
    document.addEventListener("visibilitychange", () => document.hidden || this.refresh());
  }

  async refresh() {
    clearTimeout(this.#timer);
    try {
      const [running, newest] = await Promise.all([
        get(`/sessions?running=true&limit=${MAX_LISTED}`),
        get(`/sessions?limit=${this.#limit}`),
      ]);
      this.#sessions = [...new Map([...running.sessions, ...newest.sessions].map((each) => [each.id, each])).values()];
      byId("sessions-more").hidden = newest.next === null || this.#limit === MAX_LISTED;
      this.onState("connected", "connected");
      this.#show();
      this.onUpdate(this.#sessions);
    } catch (error) {
      this.onState(error.status === 0 ? "waiting" : "failed", error.message);
    }
    clearTimeout(this.#timer);
    if (!document.hidden) this.#timer = setTimeout(() => this.refresh(), EVERY_MS);
  }

  setCurrent(id) {
    this.#current = id;
    this.#show();
  }

  #show() {
    const live = (session) => session.state === "live";
    this.#sessions.sort((a, b) => live(b) - live(a) || (a.started < b.started ? 1 : a.started > b.started ? -1 : 0));
    const sorted = this.#sessions;
    // An unchanged list is left alone, or the focus would get lost.
    const shown = JSON.stringify([sorted, this.#current]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    const focused = document.activeElement?.closest("#session-list a")?.hash;
    byId("session-list").replaceChildren(...sorted.map((session) => entry(session, this.#current)));
    byId("sessions-empty").hidden = sorted.length > 0;
    if (focused) [...byId("session-list").querySelectorAll("a")].find(({ hash }) => hash === focused)?.focus();
  }
}

function entry(session, current) {
  const { id, title, state, started, duration, consent, recorded } = session;
  const when = new Date(started).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  const length = duration === null || duration === undefined ? "" : `, ${clock(duration)}`;
  const agreed = consent ? `Consent: ${consent}` : "No consent stated";
  const link = element(
    "a",
    { href: `#session=${encodeURIComponent(id)}` },
    element("span", { className: `state ${state}`, textContent: state }),
    element("strong", { textContent: title ?? id, title: id }),
    element("span", { className: "when", textContent: `${when}${length}${recorded ? ", recorded" : ""}` }),
    element("span", { className: "consent", textContent: agreed, title: agreed }),
  );
  if (id === current) link.setAttribute("aria-current", "page");
  return element("li", {}, link);
}
