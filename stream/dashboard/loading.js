// What the server is loading, until the first session can be labelled.

import { getReadiness } from "./api.js";
import { byId } from "./dom.js";

const EVERY_MS = 1000;

export class Loading {
  #timer = null;

  /** Ask now, and again each second for as long as there is something to wait for. */
  async refresh() {
    clearTimeout(this.#timer);
    let loading = [];
    try {
      loading = (await getReadiness()).loading ?? [];
    } catch {
      // That the server does not answer is said elsewhere.
    }
    const text = loading.length > 0 ? `Loading ${loading.join(", ")} … Labels begin when all is there.` : "";
    if (byId("loading").textContent !== text) byId("loading").textContent = text;
    byId("loading").hidden = text === "";
    clearTimeout(this.#timer);
    if (text && !document.hidden) this.#timer = setTimeout(() => this.refresh(), EVERY_MS);
  }
}
