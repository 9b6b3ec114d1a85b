// Playback of a session that is over: a moment, and the clock that moves it, which is the sound's where there is any.

import { oncePerFrame } from "./pacing.js";

const LEAST_LASTING_MS = 60_000; // of an address; one that fails sooner has not expired

export class Player {
  time = 0;
  duration = 0;
  speed = 1;
  isOffered = false;
  isPlaying = false;
  /** How often somebody chose a moment. */
  sought = 0;
  /** <video> element with sound, and pictures if there are any; null: there is none to be heard. */
  media = null;
  mediaProblem = "";
  #before = 0;
  #renewed = -Infinity;
  #next = oncePerFrame((now) => this.#tick(now));

  /** `onChange()` for every new moment, and when playback begins and stops. */
  constructor(onChange) {
    this.onChange = onChange;
  }

  /** Offer playback of a session of this length, standing at its end. */
  offer(duration) {
    if (this.isOffered && duration === this.duration) return;
    const wasAtEnd = !this.isOffered || this.time >= this.duration;
    Object.assign(this, { duration, isOffered: true });
    if (wasAtEnd && !this.isPlaying) this.time = duration;
  }

  withdraw() {
    this.pause();
    this.isOffered = false;
  }

  /** Whether an earlier moment than the end is shown. */
  get isWithin() {
    return this.isOffered && this.time < this.duration;
  }

  /** Play this address, or nothing, with the session from now on; `renew()` answers another when it has expired. */
  setMedia(address, renew = null) {
    if (this.media?.src.startsWith("blob:")) URL.revokeObjectURL(this.media.src);
    this.media?.pause();
    this.media?.removeAttribute("src");
    this.media = null;
    this.mediaProblem = "";
    if (!address) return;
    const media = Object.assign(document.createElement("video"), { preload: "auto", playsInline: true, src: address });
    media.onerror = () => this.#lost(renew);
    media.onloadedmetadata = () => {
      media.currentTime = Math.min(this.time, media.duration || 0);
      this.onChange();
    };
    this.media = media;
    this.onChange();
  }

  async #lost(renew) {
    const wasPlaying = this.isPlaying;
    this.pause();
    this.media = null;
    const isExpired = renew && performance.now() - this.#renewed > LEAST_LASTING_MS;
    this.mediaProblem = isExpired ? "" : "This browser cannot play the sound of the recording.";
    this.onChange();
    if (!isExpired) return;
    this.#renewed = performance.now();
    this.setMedia(await renew(), renew);
    if (wasPlaying) this.#play();
  }

  setFile(file) {
    this.setMedia(URL.createObjectURL(file));
  }

  setProblem(problem) {
    this.mediaProblem = problem;
    this.onChange();
  }

  setSpeed(speed) {
    this.speed = speed;
    if (this.media) this.media.playbackRate = speed;
    this.onChange();
  }

  seek(seconds) {
    this.sought += 1;
    this.time = Math.max(0, Math.min(seconds, this.duration));
    if (this.media?.readyState > 0) this.media.currentTime = this.time;
    this.onChange();
  }

  toggle() {
    if (this.isPlaying) this.pause();
    else this.#play();
  }

  pause() {
    if (!this.isPlaying) return;
    this.isPlaying = false;
    this.media?.pause();
    this.onChange();
  }

  #play() {
    if (this.time >= this.duration) this.seek(0);
    this.isPlaying = true;
    this.#before = performance.now();
    if (this.media) {
      this.media.playbackRate = this.speed;
      this.media.play().catch(() => {
        this.mediaProblem = "The browser does not let this page play sound.";
        this.pause();
      });
    }
    this.onChange();
    this.#next();
  }

  #tick(now) {
    if (!this.isPlaying) return;
    const passed = Math.max(0, now - this.#before) / 1000;
    this.#before = now;
    // The sound leads; where it is over before the session, the page's own clock goes on.
    const isLed = this.media && !this.media.ended;
    this.time = Math.min(this.duration, isLed ? this.media.currentTime : this.time + passed * this.speed);
    this.onChange();
    if (this.time >= this.duration) this.pause();
    else this.#next();
  }
}
