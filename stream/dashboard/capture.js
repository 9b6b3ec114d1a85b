// Sending a stream as a track of a session, over as many connections as it takes.

import { backOff, getSession, openTrack } from "./api.js";
import { encoderOf } from "./media.js";

const MOST_BUFFERED_BYTES = 2 ** 21;
const FAREWELL_MS = 3000;

/** What this page sends to a session: a track for each stream. */
export class Listening {
  state = "";
  onState = () => {};
  #captures = [];

  /** `streams`: by number of the track; `onEnd(reason | null)` once, when nothing more is sent. */
  constructor(session, streams, onEnd) {
    this.session = session;
    /** The camera, if it is used; it is shown to whoever it films. */
    this.pictures = streams.find((stream) => stream.getVideoTracks().length > 0) ?? null;
    this.#captures = streams.map(
      (stream, track) =>
        new Capture(session, stream, {
          track,
          onState: () => this.#tell(),
          onEnd: (reason) => {
            this.#captures = this.#captures.filter((one) => one.track !== track);
            if (this.#captures.length === 0) onEnd(reason);
            else this.#tell();
          },
        }),
    );
  }

  /** Send what is left, end the tracks and let go of the devices. */
  async stop() {
    await Promise.all(this.#captures.map((capture) => capture.stop()));
  }

  /** End the tracks at once, as the page goes away. */
  leave() {
    for (const capture of this.#captures) capture.leave();
  }

  #tell() {
    this.state = [...new Set(this.#captures.map(({ state }) => state))].join("; ");
    this.onState(this.state);
  }
}

class Capture {
  #encoder;
  #socket = null;
  #stopRecording = null;
  #attempt = 0;
  #timer = null;
  #over = false;
  /** How the sending goes, in words. */
  state = "";

  /** `onState()` when that changes; `onEnd(reason | null)` once, when nothing more is sent. */
  constructor(session, stream, { track, onState, onEnd }) {
    Object.assign(this, { session, stream, track, onState, onEnd });
    this.#encoder = encoderOf(stream);
    for (const each of stream.getTracks())
      each.onended = () => this.stop("the microphone, camera or tab was disconnected");
    this.#connect();
  }

  /** Send what is left, end the track and let go of the devices. */
  async stop(reason = null) {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    await this.#stopRecording?.();
    for (const each of this.stream.getTracks()) {
      each.onended = null;
      each.stop();
    }
    this.#encoder.close();
    await closed(this.#socket);
    this.onEnd(reason);
  }

  /** End the track at once, as the page goes away. */
  leave() {
    this.#over = true;
    this.#socket.close(1000);
  }

  #say(state) {
    this.state = state;
    this.onState();
  }

  #connect() {
    this.#say("connecting…");
    const socket = openTrack(this.session, this.track, this.#encoder.query);
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data), socket);
    socket.onclose = ({ code, reason }) => this.#lost(socket, code, reason);
  }

  #receive(message, socket) {
    if (message.type === "error") this.#say(message.message);
    if (message.type !== "ready" || this.#over) return;
    this.#attempt = 0;
    this.#say("sending");
    // A recorder's first chunk holds the header: every connection needs a recorder of its own.
    this.#stopRecording = this.#encoder.start((chunk) => {
      if (socket.readyState !== WebSocket.OPEN) return;
      // What does not get through now would only come later and later; begin anew instead.
      if (socket.bufferedAmount > MOST_BUFFERED_BYTES) socket.close(4000, "too slow");
      else socket.send(chunk);
    });
  }

  async #lost(socket, code, reason) {
    if (this.#over || socket !== this.#socket) return;
    this.#stopRecording?.();
    this.#stopRecording = null;
    if (code === 1000) return this.stop(reason || "the session is over");
    try {
      const { state } = await getSession(this.session);
      if (state !== "live") return this.stop("the session is over");
    } catch (error) {
      if ([401, 403, 404].includes(error.status)) return this.stop(error.message);
    }
    if (this.#over) return;
    const seconds = backOff(this.#attempt);
    this.#attempt += 1;
    this.#say(`connection lost, trying again in ${seconds} s`);
    this.#timer = setTimeout(() => this.#connect(), 1000 * seconds);
  }
}

/** Close a socket, and wait until what it holds is sent. */
function closed(socket) {
  if (socket.readyState === WebSocket.CLOSED) return null;
  return new Promise((resolve) => {
    socket.addEventListener("close", resolve);
    setTimeout(resolve, FAREWELL_MS);
    socket.close(1000);
  });
}
