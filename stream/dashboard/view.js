// One session: its events, and all that shows them.

import { download, EventFeed, getSession } from "./api.js";
import { Axis, bindGestures } from "./axis.js";
import { Announcer } from "./announcer.js";
import { atMostEvery, byId, element, oncePerFrame } from "./dom.js";
import { mark } from "./emotions.js";
import { InfluenceGraph } from "./influence.js";
import { Player } from "./player.js";
import { EventLog, Session } from "./session.js";
import { Summary } from "./summary.js";
import { Timeline } from "./timeline.js";
import { Transcript } from "./transcript.js";
import { Trend } from "./trend.js";

export class SessionView {
  id = null;
  #info = null;
  #feed = null;
  #log = new EventLog();
  #session = new Session();
  #transcript = new Transcript();
  #axis = new Axis(() => this.#drawCharts());
  #timeline = new Timeline(this.#axis);
  #trend = new Trend(this.#axis);
  #influence = new InfluenceGraph();
  #summary = new Summary();
  #announcer = new Announcer();
  #player = new Player(
    () => this.#advance(),
    () => this.#advance(),
  );
  #advance = oncePerFrame(() => this.#show());
  #sumUp = atMostEvery(400, () => this.#showSlowly());

  /** `onState(state, text)` says how events arrive; `onLive(id | null)` which live session is shown. */
  constructor(onState, onLive) {
    this.onState = onState;
    this.onLive = onLive;
    this.#useSession(this.#session);
    this.#bindCharts();
  }

  get live() {
    return this.#info?.state === "live" && this.#log.events.at(-1)?.type !== "session.ended";
  }

  setExports(exports) {
    const buttons = exports.map((kind) => {
      const text = kind.title || kind.format;
      const onclick = () => download(this.id, kind).catch((error) => complain(`No export: ${error.message}`));
      return element("button", { type: "button", id: `export-${kind.format}`, textContent: text, onclick });
    });
    byId("exports").replaceChildren(...buttons);
  }

  async open(id) {
    this.close();
    this.id = id;
    this.#showTitle();
    byId("session-view").hidden = false;
    setAbsent(false);
    complain("");
    try {
      this.#info = await getSession(id);
    } catch (error) {
      if (this.id === id) {
        complain(error.message);
        setAbsent(error.status !== 0);
      }
      if (error.status !== 0) return;
    }
    if (this.id !== id) return;
    this.#showTitle();
    this.#feed = new EventFeed(id, (event) => this.#receive(event), (state, text) => this.#onFeed(state, text));
    this.#advance();
  }

  close() {
    this.#feed?.close();
    this.#feed = null;
    this.#player.withdraw();
    this.id = null;
    this.#info = null;
    this.#log = new EventLog();
    this.#session = new Session();
    this.#transcript.open(this.#session);
    this.#useSession(this.#session);
    this.#axis.reset(0);
    byId("session-view").hidden = true;
    this.onLive(null);
  }

  /** News of the session from the list of all. */
  updateInfo(info) {
    this.#info = info;
    this.#showTitle();
    this.#sumUp();
    this.#advance();
  }

  #showTitle() {
    const text = this.#info?.title ?? `Session ${this.id}`;
    if (byId("session-title").textContent !== text) byId("session-title").textContent = text;
  }

  #bindCharts() {
    const reveal = (utterance) => utterance && this.#transcript.reveal(utterance.number);
    const box = byId("charts");
    const lane = (event) => event.clientY - byId("timeline").getBoundingClientRect().top;
    bindGestures(box, this.#axis, byId("selection"), {
      onClick: (x, event) => reveal(this.#timeline.at(x, lane(event))),
      onEnter: () => reveal(this.#timeline.first()),
    });
    byId("timeline").addEventListener("mousemove", (event) => {
      const utterance = this.#timeline.at(event.offsetX, event.offsetY);
      byId("timeline").title = utterance ? this.#timeline.describe(utterance) : "";
    });
    byId("zoom-in").addEventListener("click", () => this.#axis.zoom(0.5));
    byId("zoom-out").addEventListener("click", () => this.#axis.zoom(2));
    byId("zoom-all").addEventListener("click", () => this.#axis.reset());
  }

  #onFeed(state, text) {
    if (state === "failed") complain(text);
    this.onState(state, text);
  }

  #receive(event) {
    this.#log.add(event);
    if (event.type === "session.started") showLegend(event.emotions);
    this.#advance();
  }

  #useSession(session) {
    this.#session = session;
    this.#timeline.session = session;
    this.#trend.session = session;
  }

  /** Bring the state to the moment that is to be shown, and draw it. */
  #show() {
    if (this.id === null) return;
    const { events, duration } = this.#log;
    if (this.live) this.#player.withdraw();
    else if (events.length > 0 && !this.#player.within) this.#player.offer(duration);
    const target = this.#player.within ? this.#log.countAt(this.#player.time) : events.length;
    const rewound = target < this.#session.applied;
    if (rewound) this.#useSession(new Session());
    while (this.#session.applied < target) this.#session.apply(events[this.#session.applied]);
    if (this.live || this.#player.playing) this.#announcer.tell(this.#session);
    this.#transcript.setGrowing(this.live || this.#player.playing);
    if (rewound) this.#transcript.replace(this.#session);
    else this.#transcript.update();
    this.#timeline.cursor = this.#trend.cursor = this.#player.within ? this.#player.time : null;
    this.#axis.grow(duration);
    this.#drawCharts();
    this.onLive(this.live ? this.id : null);
    this.#sumUp();
  }

  #drawCharts() {
    this.#timeline.redraw();
    this.#trend.redraw();
  }

  /** What need not follow every frame. */
  #showSlowly() {
    if (this.id === null) return;
    this.#summary.show(this.#info, this.#session, this.live);
    this.#influence.show(this.#session);
    this.#timeline.showTable();
  }
}

/** The symbols and colours of a checkpoint's emotions. */
function showLegend(emotions) {
  const items = emotions.map((name) => {
    const swatch = element("span", { className: "swatch" });
    swatch.setAttribute("aria-hidden", "true");
    mark(swatch, name);
    return element("li", {}, swatch, name);
  });
  const unsure = element("li", {}, element("span", { className: "swatch hatched" }), "uncertain");
  byId("legend").replaceChildren(...items, unsure);
}

/** Where there is no such session there is nothing to show but the message. */
const setAbsent = (absent) => byId("session-view").classList.toggle("absent", absent);
const complain = (text) => (byId("session-message").textContent = text);
