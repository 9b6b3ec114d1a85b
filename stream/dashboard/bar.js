// The bar that says that this page's microphone is analysed, and stops it.

import { getSession, stopSession } from "./api.js";
import { html, useEffect, useRef, useState } from "./vendor/preact-htm.js";

/** Stop the capture of this page, if it is the session's, and the session. Answers what went wrong, or "". */
export async function stopAnalysis(id, capture) {
  try {
    if (capture?.session === id) await capture.stop();
    if ((await getSession(id)).state === "live") await stopSession(id);
  } catch (error) {
    // 404 and 409: it is over already, which was the wish.
    if (![404, 409].includes(error.status)) return `It was not stopped: ${error.message}`;
  }
  return "";
}

export function AnalysisBar({ capture }) {
  const [state, setState] = useState(capture.state);
  const [problem, setProblem] = useState("");
  const picture = useRef(null);
  useEffect(() => {
    capture.onState = setState;
    if (capture.pictures) {
      picture.current.srcObject = capture.pictures;
      picture.current.play();
    }
  }, [capture]);
  const stop = async ({ currentTarget }) => {
    currentTarget.disabled = true;
    setProblem(await stopAnalysis(capture.session, capture));
  };
  return html`
    <section id="analysis-bar" aria-label="Analysis in progress">
      <span class="lamp" aria-hidden="true"></span>
      <p id="analysis-status" role="status">
        ${problem || html`You are being analysed, through this device: ${state}. <a href="#session=${capture.session}">Show it</a>`}
      </p>
      <video id="self-view" ref=${picture} aria-label="Your camera" muted playsinline hidden=${!capture.pictures}></video>
      <button id="stop" type="button" onClick=${stop}>Stop listening</button>
    </section>
  `;
}
