// Microphone and camera, and what makes the bytes that are sent of them.

const CHUNK_MS = 250;
const AUDIO = "audio/webm;codecs=opus";
const VIDEO = "video/webm;codecs=vp8,opus";

const REFUSALS = {
  NotAllowedError:
    "The browser was not allowed to use the microphone or camera. Allow it in the site’s settings, then start again.",
  NotFoundError: "No microphone was found, or no camera although one was asked for. Connect one, then start again.",
  NotReadableError: "The microphone or camera is in use by another program. Close that, then start again.",
  OverconstrainedError: "The chosen microphone is gone. Choose another one.",
};

/** Open microphone and, if wanted, camera. Raises Error with a line that says what to do. */
export async function openDevices({ microphone, camera }) {
  if (!isSecureContext || !navigator.mediaDevices) {
    throw new Error(
      "Browsers give out a microphone only over https or on localhost. Open this page at such an address.",
    );
  }
  if (camera && !records(VIDEO)) {
    throw new Error("This browser cannot record video as WebM. Start again without the camera.");
  }
  // How loud somebody speaks is part of the expression: nothing may level it.
  const audio = { channelCount: 1, echoCancellation: true, noiseSuppression: false, autoGainControl: false };
  if (microphone) audio.deviceId = { exact: microphone };
  const video = camera ? { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 15 } } : false;
  try {
    return await navigator.mediaDevices.getUserMedia({ audio, video });
  } catch (error) {
    throw new Error(REFUSALS[error.name] ?? `The microphone cannot be opened: ${error.message || error.name}.`);
  }
}

/** Open the sound of a tab or the screen, which the browser asks for. Raises Error with a line that says what to do. */
export async function openTabSound() {
  if (!navigator.mediaDevices?.getDisplayMedia)
    throw new Error("This browser cannot hear a tab. Use Chromium or Chrome on a computer.");
  // The others have to be heard as they are, and here, too.
  const audio = {
    echoCancellation: false,
    noiseSuppression: false,
    autoGainControl: false,
    suppressLocalAudioPlayback: false,
  };
  let stream;
  try {
    stream = await navigator.mediaDevices.getDisplayMedia({ video: true, audio, systemAudio: "include" });
  } catch (error) {
    const refused = "No tab or screen was shared. Start again, and choose the tab of the meeting.";
    throw new Error(
      error.name === "NotAllowedError" ? refused : `The tab cannot be heard: ${error.message || error.name}.`,
    );
  }
  for (const track of stream.getVideoTracks()) track.stop(); // browsers give sound only beside pictures
  if (stream.getAudioTracks().length > 0) return new MediaStream(stream.getAudioTracks());
  throw new Error("What was shared has no sound. Start again, choose a tab, and tick “Also share tab audio”.");
}

const records = (type) => typeof MediaRecorder !== "undefined" && MediaRecorder.isTypeSupported(type);

/** What a stream would be sent as: the query of the track's WebSocket, and `start(send)`, which answers a `stop()`. */
export function encoderOf(stream) {
  const type = stream.getVideoTracks().length > 0 ? VIDEO : AUDIO;
  if (records(type)) return { query: { format: "webm" }, start: (send) => recordWebm(stream, type, send), close() {} };
  const context = new AudioContext();
  const query = { format: "pcm", rate: context.sampleRate };
  return { query, start: (send) => capturePcm(context, stream, send), close: () => context.close() };
}

function recordWebm(stream, mimeType, send) {
  const recorder = new MediaRecorder(stream, { mimeType, audioBitsPerSecond: 64_000, videoBitsPerSecond: 400_000 });
  recorder.ondataavailable = ({ data }) => data.size > 0 && send(data);
  recorder.start(CHUNK_MS);
  return () =>
    new Promise((resolve) => {
      if (recorder.state === "inactive") return resolve();
      recorder.onstop = resolve;
      recorder.stop();
    });
}

async function startWorklet(context, source, send) {
  await context.audioWorklet.addModule("/static/pcm-worklet.js");
  const node = new AudioWorkletNode(context, "pcm", { numberOfOutputs: 0 });
  node.port.onmessage = ({ data }) => send(data);
  source.connect(node);
  await context.resume();
}

function capturePcm(context, stream, send) {
  const source = context.createMediaStreamSource(stream);
  const started = startWorklet(context, source, send);
  return async () => {
    await started;
    source.disconnect();
  };
}
