// Starting a session: from this device, or from a recording.

import { createSession, stopSession, uploadRecording } from "./api.js";
import { Capture } from "./capture.js";
import { byId, element } from "./dom.js";
import { openDevices } from "./media.js";
import { percent } from "./emotions.js";

export class StartForm {
  #bar;
  #loading;
  #onStarted;
  #file = null;
  #capture = null;

  /** `loading`: tells what the server loads meanwhile; `onStarted(id)` when a session has begun. */
  constructor(bar, loading, onStarted) {
    this.#bar = bar;
    this.#loading = loading;
    this.#onStarted = onStarted;
    byId("start-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#run(() => this.#startLive());
    });
    byId("upload").addEventListener("click", () => {
      if (byId("start-form").reportValidity()) this.#run(() => this.#startRecording());
    });
    byId("file").addEventListener("change", ({ target }) => this.#choose(target.files[0] ?? null));
    this.#acceptDrops(byId("dropzone"));
    navigator.mediaDevices?.addEventListener("devicechange", listMicrophones);
    listMicrophones();
    addEventListener("beforeunload", (event) => this.#capture && event.preventDefault());
    addEventListener("pagehide", () => this.#capture?.leave());
  }

  setOptions({ record, mask }) {
    byId("record-option").hidden = !record;
    byId("mask-option").hidden = !mask;
  }

  #acceptDrops(zone) {
    const hover = (event, over) => {
      event.preventDefault();
      zone.classList.toggle("over", over);
    };
    zone.addEventListener("dragover", (event) => hover(event, true));
    zone.addEventListener("dragleave", (event) => hover(event, false));
    zone.addEventListener("drop", (event) => {
      hover(event, false);
      byId("file").value = "";
      this.#choose(event.dataTransfer.files[0] ?? null);
      say(this.#file ? `Chosen: ${this.#file.name}` : "");
    });
  }

  #choose(file) {
    this.#file = file;
    complain("");
  }

  async #run(work) {
    complain("");
    const buttons = [byId("start"), byId("upload")];
    for (const button of buttons) button.disabled = true;
    const asking = setInterval(() => this.#loading.refresh(), 1000);
    try {
      await work();
      say("");
    } catch (error) {
      say("");
      complain(error.message);
    }
    clearInterval(asking);
    for (const button of buttons) button.disabled = false;
  }

  async #startLive() {
    if (this.#capture) throw new Error("This page already listens. Stop that first.");
    const asked = wishes();
    // Before the session is created, so that a refusal leaves none behind.
    say("Opening the microphone…");
    const stream = await openDevices({ microphone: byId("microphone").value, camera: byId("camera").checked });
    listMicrophones();
    try {
      say("Starting…");
      const name = byId("participant").value.trim() || null;
      const tracks = [{ name, video: byId("camera").checked }];
      const session = await createSession({ ...asked, source: { kind: "push", tracks } });
      this.#send(session.id, stream);
      this.#onStarted(session.id);
    } catch (error) {
      for (const track of stream.getTracks()) track.stop();
      throw error;
    }
  }

  #send(id, stream) {
    const onEnd = (reason) => {
      this.#capture = null;
      this.#bar.setCapture(null);
      if (!reason) return;
      complain(`This page stopped listening: ${reason}.`);
      stopSession(id).catch(() => {});
    };
    this.#capture = new Capture(id, stream, { onState: (text) => this.#bar.setState(text), onEnd });
    this.#bar.setCapture(this.#capture);
  }

  async #startRecording() {
    if (!this.#file) throw new Error("Choose an audio or video file first.");
    const query = { name: this.#file.name, speed: byId("upload-speed").value, ...wishes() };
    const bar = byId("upload-progress");
    bar.hidden = false;
    bar.value = 0;
    try {
      const session = await uploadRecording(this.#file, query, (share) => {
        bar.value = share;
        say(share < 1 ? `Sent ${percent(share)}` : "Sent. Starting…");
      });
      this.#onStarted(session.id);
    } finally {
      bar.hidden = true;
    }
  }
}

/** What the form asks for, whatever the source. */
function wishes() {
  const asked = { consent: byId("consent").value.trim() };
  const title = byId("title").value.trim();
  const people = peopleAsked();
  if (title) asked.title = title;
  if (people) asked.people = people;
  if (byId("redact").checked) asked.redact = true;
  if (byId("mask").checked) asked.mask = true;
  if (byId("record").checked) asked.record = true;
  if (!asked.consent) throw new Error("State the consent first: who agreed to what.");
  return asked;
}

/** How many people share a microphone, as the server takes it; "" where that is to be found out. */
function peopleAsked() {
  const field = byId("people");
  const people = field.value.trim();
  const [, fewest, most] = people.match(/^([1-9]\d?)(?:-([1-9]\d?))?$/) ?? [];
  const isWrong = people !== "" && !(Number(fewest) <= Number(most ?? fewest));
  field.setAttribute("aria-invalid", isWrong);
  if (!isWrong) return people;
  field.focus();
  throw new Error(`People on one microphone: a number such as 3, or a range such as 2-4, not “${people}”.`);
}

const say = (text) => (byId("start-status").textContent = text);

function complain(text) {
  const message = byId("start-message");
  message.textContent = text;
  if (text) message.scrollIntoView({ block: "nearest" });
}

async function listMicrophones() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  const select = byId("microphone");
  const chosen = select.value;
  const named = devices.filter(({ kind, deviceId, label }) => kind === "audioinput" && label && deviceId !== "default");
  const options = named.map(({ deviceId, label }) => element("option", { value: deviceId, textContent: label }));
  select.replaceChildren(element("option", { value: "", textContent: "Default microphone" }), ...options);
  select.value = named.some(({ deviceId }) => deviceId === chosen) ? chosen : "";
}
