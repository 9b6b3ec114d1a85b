// The form that starts a session: from this device, or from a recording.

import { createSession, stopSession, uploadRecording } from "./api.js";
import { Listening } from "./capture.js";
import { ConsentFields, consentIn, consentInWords } from "./consent.js";
import { percent } from "./emotions.js";
import { openDevices, openTabSound } from "./media.js";
import { sentFiles } from "./store.js";
import { html, useEffect, useRef, useState } from "./vendor/preact-htm.js";

const ME = "Me"; // who speaks into the microphone beside a tab, unless named
const OTHERS = "The others";

export function StartForm({ options, capture, setCapture, onAsking }) {
  const form = useRef(null);
  const message = useRef(null);
  const [file, setFile] = useState(null);
  const [isBusy, setBusy] = useState(false);
  const [status, setStatus] = useState("");
  const [problem, setProblem] = useState("");
  const [isPeopleWrong, setPeopleWrong] = useState(false);
  const [share, setShare] = useState(null);
  const [isOver, setOver] = useState(false);
  const [hearsTab, setHearsTab] = useState(false);
  const microphones = useMicrophones(capture);
  useEffect(() => {
    if (problem) message.current.scrollIntoView({ block: "nearest" });
  }, [problem]);

  const run = async (work) => {
    setProblem("");
    setPeopleWrong(false);
    setBusy(true);
    // The server may have to load models first; the page says which.
    const asking = setInterval(onAsking, 1000);
    try {
      location.hash = `session=${encodeURIComponent(await work())}`;
    } catch (error) {
      setProblem(error.message);
      if (error.field) {
        setPeopleWrong(error.field === "people");
        form.current.elements[error.field].focus();
      }
    }
    clearInterval(asking);
    setStatus("");
    setBusy(false);
  };

  const startLive = async () => {
    if (capture) throw new Error("This page already listens. Stop that first.");
    const { elements } = form.current;
    const asked = wishes(elements);
    const me = { name: elements.participant.value.trim() || null, video: elements.camera.checked };
    const streams = [];
    // Before the session is created, so that a refusal leaves none behind.
    try {
      // The tab first: browsers let a page ask for it only right after a click.
      if (hearsTab) streams.push(await openTabSound());
      setStatus("Opening the microphone…");
      streams.unshift(await openDevices({ microphone: elements.microphone.value, camera: elements.camera.checked }));
      setStatus("Starting…");
      const others = { name: elements.others?.value.trim() || OTHERS, video: false };
      const tracks = hearsTab ? [{ ...me, name: me.name ?? ME }, others] : [me];
      const { id } = await createSession({ ...asked, source: { kind: "push", tracks } });
      setCapture(begin(id, streams, setCapture));
      return id;
    } catch (error) {
      for (const stream of streams) for (const track of stream.getTracks()) track.stop();
      throw error;
    }
  };

  const startRecording = async () => {
    if (!file) throw new Error("Choose an audio or video file first.");
    const { elements } = form.current;
    const asked = wishes(elements);
    const query = { name: file.name, speed: elements.speed.value, ...asked, consent: consentInWords(asked.consent) };
    setShare(0);
    try {
      const { id } = await uploadRecording(file, query, (sent) => {
        setShare(sent);
        setStatus(sent < 1 ? `Sent ${percent(sent)}` : "Sent. Starting…");
      });
      sentFiles.set(id, file);
      return id;
    } finally {
      setShare(null);
    }
  };

  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    form.current.elements.file.value = "";
    setFile(event.dataTransfer.files[0] ?? null);
  };
  const hover = (event) => {
    event.preventDefault();
    setOver(true);
  };

  return html`
    <main id="main" class="narrow" tabindex="-1">
      <h1>Start a session</h1>
      <form id="start-form" class="panel" ref=${form}
        onSubmit=${(event) => (event.preventDefault(), run(startLive))}>
        <div class="field">
          <label for="title">Title</label>
          <input id="title" type="text" maxlength="200" autocomplete="off" aria-describedby="title-hint" />
          <p id="title-hint" class="hint">What you will know the session by, such as “Call with Ann”.</p>
        </div>
        <${ConsentFields} />
        <div class="columns">
          <fieldset>
            <legend>From this device</legend>
            <div class="field">
              <label for="participant">Participant’s name</label>
              <input id="participant" type="text" maxlength="64" autocomplete="off" aria-describedby="participant-hint" />
              <p id="participant-hint" class="hint">Empty: a room with several people, told apart by their voices.</p>
            </div>
            <div class="field">
              <label for="microphone">Microphone</label>
              <select id="microphone">
                <option value="">Default microphone</option>
                ${microphones.map(({ deviceId, label }) => html`<option key=${deviceId} value=${deviceId}>${label}</option>`)}
              </select>
            </div>
            <label class="check"><input id="camera" type="checkbox" /> Use the camera too</label>
            <label class="check">
              <input id="tab" type="checkbox" checked=${hearsTab} aria-describedby="tab-hint"
                onChange=${({ target }) => setHearsTab(target.checked)} /> Hear a tab or the screen too
            </label>
            <p id="tab-hint" class="hint">For a web meeting: the browser asks which tab; tick “Also share tab audio”. Use headphones.</p>
            ${
              hearsTab &&
              html`
              <div class="field">
                <label for="others">Who is heard there</label>
                <input id="others" type="text" maxlength="64" autocomplete="off" placeholder=${OTHERS} />
              </div>`
            }
            <button id="start" type="submit" class="primary" disabled=${isBusy}>Start listening</button>
          </fieldset>
          <fieldset>
            <legend>Or drop a recording</legend>
            <div id="dropzone" class=${isOver ? "over" : ""} onDragOver=${hover} onDragLeave=${() => setOver(false)} onDrop=${drop}>
              <label for="file">Audio or video file</label>
              <input id="file" type="file" accept="audio/*,video/*,.mkv,.opus"
                onChange=${({ target }) => setFile(target.files[0] ?? null)} />
              <p class="hint">${file ? `Chosen: ${file.name}` : "Drop it here or choose it. It is played as if it were live."}</p>
            </div>
            <div class="field">
              <label for="upload-speed">Speed</label>
              <select id="upload-speed" name="speed">
                <option value="1">1 × (real time)</option>
                <option value="4">4 ×</option>
                <option value="max">as fast as possible</option>
              </select>
            </div>
            <button id="upload" type="button" disabled=${isBusy}
              onClick=${() => form.current.reportValidity() && run(startRecording)}>Upload and analyse</button>
            ${share !== null && html`<progress id="upload-progress" max="1" value=${share} aria-label="Upload progress"></progress>`}
          </fieldset>
        </div>
        <div class="field">
          <label for="people">People on one microphone</label>
          <input id="people" type="text" maxlength="5" autocomplete="off" aria-describedby="people-hint"
            aria-invalid=${String(isPeopleWrong)} />
          <p id="people-hint" class="hint">Their number if you know it: 3, or 2-4. Empty: found out by their voices.</p>
        </div>
        <div class="options">
          <label class="check"><input id="redact" type="checkbox" /> Leave the words out of all events</label>
          ${
            options?.mask &&
            html`
            <label class="check"><input id="mask" type="checkbox" /> Mask numbers, addresses and known names in the words</label>`
          }
          ${
            options?.record &&
            html`
            <label class="check"><input id="record" type="checkbox" /> Keep sound and pictures on the server</label>`
          }
        </div>
        <p id="start-message" role="alert" ref=${message}>${problem}</p>
        <p id="start-status" role="status">${status}</p>
      </form>
    </main>
  `;
}

/** A capture of this device for a session; `setCapture(null, reason)` when it is over, with a reason that nobody wished. */
function begin(id, streams, setCapture) {
  const capture = new Listening(id, streams, (reason) => {
    removeEventListener("beforeunload", hold);
    removeEventListener("pagehide", leave);
    setCapture(null, reason);
    if (reason) stopSession(id).catch(() => {});
  });
  const hold = (event) => event.preventDefault();
  const leave = () => capture.leave();
  addEventListener("beforeunload", hold);
  addEventListener("pagehide", leave);
  return capture;
}

/** What the form asks for, whatever the source. Raises Error, with the `field` that is wrong. */
function wishes(elements) {
  const { title, people, redact, mask, record } = elements;
  const asked = { consent: consentIn(elements) };
  if (title.value.trim()) asked.title = title.value.trim();
  const number = peopleAsked(people.value.trim());
  if (number) asked.people = number;
  for (const [name, box] of Object.entries({ redact, mask, record })) if (box?.checked) asked[name] = true;
  return asked;
}

/** How many people share a microphone, as the server takes it; "" where that is to be found out. */
function peopleAsked(people) {
  const [, fewest, most] = people.match(/^([1-9]\d?)(?:-([1-9]\d?))?$/) ?? [];
  if (people === "" || Number(fewest) <= Number(most ?? fewest)) return people;
  const line = `People on one microphone: a number such as 3, or a range such as 2-4, not “${people}”.`;
  throw Object.assign(new Error(line), { field: "people" });
}

/** The microphones that have names: all, once the browser was allowed to use one. */
function useMicrophones(capture) {
  const [found, setFound] = useState([]);
  useEffect(() => {
    const list = async () => {
      const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
      setFound(devices.filter(({ kind, deviceId, label }) => kind === "audioinput" && label && deviceId !== "default"));
    };
    list();
    navigator.mediaDevices?.addEventListener("devicechange", list);
    return () => navigator.mediaDevices?.removeEventListener("devicechange", list);
  }, [capture]);
  return found;
}
