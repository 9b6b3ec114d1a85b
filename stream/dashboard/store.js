// One session as the page shows it: its events up to a moment, what people wrote about it, and the clock of playback.

import { EventFeed, getSession, getSummary, mediaAddress, readAnnotations } from "./api.js";
import { Axis } from "./axis.js";
import { Announcer } from "./announcer.js";
import { oncePerFrame } from "./pacing.js";
import { Player } from "./player.js";
import { EventLog, isPlayed, Session } from "./session.js";

/** Files that this page sent, by session, so that they can be played when it is over. */
export const sentFiles = new Map();

const RECENT_S = 300;
const EVERY_MS = 5000;
const NOTHING_WRITTEN = { title: null, tags: [], notes: [], corrections: [], rules: [] };

export class SessionStore {
  info = null;
  log = new EventLog();
  session = new Session();
  annotations = NOTHING_WRITTEN;
  summary = null;
  summaryProblem = "";
  /** Summary of the last five minutes of a live session. */
  recent = null;
  /** ["connecting" | "connected" | "waiting" | "closed" | "failed", text] */
  feedState = ["connecting", "connecting…"];
  problem = "";
  isAbsent = false;
  /** Speaker whose mood is shown; null: everybody's. */
  focus = null;
  /** Whether playback shows the session as it stood then, without what came later. */
  isAsItStood = false;
  #feed = null;
  #asking = null;
  #listeners = new Set();
  #isOpen = true;
  #announcer = new Announcer();
  #announce = oncePerFrame(() => this.#show());

  constructor(id) {
    this.id = id;
    this.axis = new Axis(() => this.changed());
    this.player = new Player(() => this.changed());
    this.#open();
  }

  get title() {
    return this.annotations.title ?? this.info?.title ?? this.id;
  }

  get isLive() {
    return this.info?.state === "live" && this.log.events.at(-1)?.type !== "session.ended";
  }

  /** Whether events come that have not been read yet, so that an empty session may fill. */
  get isReading() {
    return this.info === null || (this.log.events.length === 0 && this.feedState[0] !== "closed" && !this.problem);
  }

  /** Whether the source is a file that is played, and nobody is listened to now. */
  get isRecording() {
    return isPlayed(this.session.started?.sources ?? this.info?.sources ?? []);
  }

  /** `listener()` after changes, once a frame at most; answers what ends it. */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  changed() {
    this.#announce();
  }

  close() {
    this.#isOpen = false;
    clearInterval(this.#asking);
    this.#feed?.close();
    this.player.pause();
    this.player.setMedia(null);
    this.#listeners.clear();
  }

  /** Read the events again from the first, such as with other alert rules. */
  reload() {
    this.#feed?.close();
    this.log = new EventLog();
    this.session = new Session();
    this.#follow();
  }

  async refresh() {
    this.info = await getSession(this.id);
    this.changed();
  }

  async readAnnotations() {
    this.annotations = await readAnnotations(this.id);
    this.changed();
  }

  setAsItStood(yes) {
    this.isAsItStood = yes;
    this.changed();
  }

  /** Go to a moment: the clock of playback, and the timeline. */
  goTo(seconds) {
    if (this.player.isOffered) this.player.seek(seconds);
    this.axis.reveal(seconds);
  }

  /** Media seconds of the moment that is looked at: the newest of a live session. */
  get moment() {
    return this.player.isWithin ? this.player.time : this.log.duration;
  }

  /** The utterance at the moment of playback; null at the end, or of a live session. */
  get current() {
    if (!this.player.isWithin) return null;
    return this.session.inOrder.findLast(({ start }) => start <= this.player.time + 0.05) ?? null;
  }

  setFocus(speaker) {
    this.focus = this.focus === speaker ? null : speaker;
    this.changed();
  }

  async #open() {
    try {
      this.info = await getSession(this.id);
      this.annotations = await readAnnotations(this.id);
    } catch (error) {
      this.problem = error.message;
      this.isAbsent = error.status === 404;
      if (error.status === 0) setTimeout(() => this.#isOpen && this.#open(), 2000);
      return this.changed();
    }
    this.problem = "";
    if (!this.#isOpen) return;
    this.#follow();
    this.#asking = setInterval(() => document.hidden || this.#lookAround(), EVERY_MS);
    this.#lookAround();
    this.changed();
  }

  /** What no event says: the last minutes in sum, and how far behind a live session is. */
  async #lookAround() {
    if (!this.isLive) return clearInterval(this.#asking);
    try {
      [this.recent, this.info] = await Promise.all([getSummary(this.id, RECENT_S), getSession(this.id)]);
      this.changed();
    } catch {
      // That the server is away is said elsewhere.
    }
  }

  #follow() {
    this.#feed = new EventFeed(
      this.id,
      (event) => this.#receive(event),
      (...state) => this.#onFeed(state),
    );
  }

  #receive(event) {
    this.log.add(event);
    this.changed();
  }

  async #onFeed(state) {
    this.feedState = state;
    if (state[0] === "failed") this.problem = state[1];
    this.changed();
    if (state[0] !== "closed") return;
    await this.refresh().catch(() => {});
    await this.#sumUp().catch((error) => {
      this.summaryProblem = `No summary: ${error.message}`;
      this.changed();
    });
    await this.#findMedia().catch((error) => this.player.setProblem(`No sound: ${error.message}`));
  }

  async #sumUp() {
    this.summary = await getSummary(this.id);
    this.changed();
  }

  async #findMedia() {
    if (sentFiles.has(this.id)) return this.player.setFile(sentFiles.get(this.id));
    if (!this.info?.recorded) return null;
    const address = () => mediaAddress(this.id, (problem) => this.#isOpen && this.player.setProblem(problem));
    return this.player.setMedia(await address(), address);
  }

  /** Bring the state to the moment that is to be shown, and have it drawn. */
  #show() {
    if (!this.#isOpen) return;
    const { events, duration } = this.log;
    const { player } = this;
    if (this.isLive) player.withdraw();
    else if (events.length > 0) player.offer(duration);
    const target = this.isAsItStood && player.isWithin ? this.log.countAt(player.time) : events.length;
    if (target < this.session.applied) this.session = new Session();
    while (this.session.applied < target) this.session.apply(events[this.session.applied]);
    if (this.isLive || player.isPlaying) this.#announcer.tell(this.session);
    this.axis.grow(duration);
    for (const listener of this.#listeners) listener();
  }
}
