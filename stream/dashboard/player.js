// Playback of a past session: a moment, and the clock that moves it.

import { byId, oncePerFrame } from "./dom.js";
import { clock } from "./emotions.js";

export class Player {
  time = 0;
  #duration = 0;
  #playing = false;
  #before = 0;
  #scrubber = byId("scrubber");
  #button = byId("play");
  #next = oncePerFrame((now) => this.#tick(now));

  /** `onSeek(seconds)` for every new moment; `onPlaying(yes)` when playback begins and stops. */
  constructor(onSeek, onPlaying) {
    this.onSeek = onSeek;
    this.onPlaying = onPlaying;
    this.#scrubber.addEventListener("input", () => this.seek(Number(this.#scrubber.value)));
    this.#button.addEventListener("click", () => (this.#playing ? this.pause() : this.#play()));
  }

  get playing() {
    return this.#playing;
  }

  get speed() {
    return Number(byId("playback-speed").value);
  }

  /** Offer playback of a session of this length, standing at its end. */
  offer(duration) {
    this.#duration = duration;
    this.#scrubber.max = String(duration);
    byId("player").hidden = false;
    if (!this.#playing) this.#show(duration);
  }

  withdraw() {
    this.pause();
    this.#duration = 0;
    byId("player").hidden = true;
  }

  pause() {
    if (!this.#playing) return;
    this.#playing = false;
    this.#button.textContent = "Play";
    this.onPlaying(false);
  }

  seek(seconds) {
    this.#show(Math.min(seconds, this.#duration));
    this.onSeek(this.time);
  }

  /** Whether an earlier moment than the end is shown. */
  get within() {
    return !byId("player").hidden && this.time < this.#duration;
  }

  #play() {
    if (this.time >= this.#duration) this.seek(0);
    this.#playing = true;
    this.#before = performance.now();
    this.#button.textContent = "Pause";
    this.onPlaying(true);
    this.#next();
  }

  #tick(now) {
    if (!this.#playing) return;
    const passed = Math.max(0, now - this.#before) / 1000;
    this.#before = now;
    this.seek(this.time + passed * this.speed);
    if (this.time >= this.#duration) this.pause();
    else this.#next();
  }

  #show(seconds) {
    this.time = seconds;
    this.#scrubber.value = String(seconds);
    this.#scrubber.setAttribute("aria-valuetext", `${clock(seconds)} of ${clock(this.#duration)}`);
    byId("scrubber-time").textContent = `${clock(seconds)} / ${clock(this.#duration)}`;
  }
}
