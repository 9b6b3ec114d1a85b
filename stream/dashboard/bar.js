// The bar that says that analysis is on, and stops it.

import { stopSession } from "./api.js";
import { byId } from "./dom.js";

export class AnalysisBar {
  #capture = null;
  #state = "";
  #shown = null;
  #problem = "";

  constructor() {
    byId("stop").addEventListener("click", () => this.#stop());
  }

  /** The capture of this page, or null. */
  setCapture(capture) {
    this.#capture = capture;
    this.#problem = "";
    const picture = byId("self-view");
    const hasPicture = capture !== null && capture.stream.getVideoTracks().length > 0;
    picture.srcObject = hasPicture ? capture.stream : null;
    picture.hidden = !hasPicture;
    if (hasPicture) picture.play();
    this.#show();
  }

  setState(text) {
    this.#state = text;
    this.#show();
  }

  /** The live session that the page shows, or null. */
  setShown(id) {
    if (id === this.#shown) return;
    this.#shown = id;
    this.#problem = "";
    this.#show();
  }

  #show() {
    const on = this.#capture !== null || this.#shown !== null;
    byId("analysis-bar").hidden = !on;
    document.body.classList.toggle("analysed", on);
    byId("analysis-status").textContent = on ? this.#text() : "";
  }

  #text() {
    if (this.#problem) return this.#problem;
    const told = "You are being analysed";
    if (this.#capture) return `${told}, through this device, in session ${this.#capture.session}: ${this.#state}`;
    return `${told} if you can be heard in session ${this.#shown}, which is live`;
  }

  async #stop() {
    const id = this.#capture?.session ?? this.#shown;
    byId("stop").disabled = true;
    try {
      await this.#capture?.stop();
      await stopSession(id);
    } catch (error) {
      // 404 and 409: it is over already, which was the wish.
      if (![404, 409].includes(error.status)) this.#problem = `Session ${id} was not stopped: ${error.message}`;
    }
    byId("stop").disabled = false;
    this.#show();
  }
}
