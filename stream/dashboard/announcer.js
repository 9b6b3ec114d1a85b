// New final labels for those who listen to the page.

import { atMostEvery } from "./pacing.js";
import { verdictOf } from "./emotions.js";

const EVERY_MS = 1000;
const BACKLOG = 20;

export class Announcer {
  #session = null;
  #told = 0;
  #say = atMostEvery(EVERY_MS, () => this.#speak());

  tell(session) {
    // History that is read all at once is not news.
    if (session !== this.#session || session.finals.length - this.#told > BACKLOG) this.#told = session.finals.length;
    this.#session = session;
    if (session.finals.length > this.#told) this.#say();
  }

  #speak() {
    const fresh = this.#session.finals.slice(this.#told);
    this.#told = this.#session.finals.length;
    if (fresh.length === 0) return;
    const { speaker, label } = this.#session.utterances.get(fresh.at(-1));
    const more = fresh.length > 1 ? `${fresh.length} labels, last ` : "";
    document.getElementById("announcer").textContent = `${more}${this.#session.nameOf(speaker)}: ${verdictOf(label)}`;
  }
}
