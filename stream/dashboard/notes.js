// Notes that people write at moments of a session.

import { addNote, removeNote } from "./api.js";
import { shortClock } from "./emotions.js";
import { html, useState } from "./vendor/preact-htm.js";

const LOOPBACK = "loopback"; // whoever uses this machine

export function NotesPanel({ store, edit, onReveal }) {
  const { annotations } = store;
  const [problem, setProblem] = useState("");
  const change = async (work) => {
    setProblem("");
    try {
      await work();
      await store.readAnnotations();
      return true;
    } catch (error) {
      setProblem(error.message);
      return false;
    }
  };
  const write = async (event) => {
    event.preventDefault();
    const { text } = event.target.elements;
    const time = store.player.isWithin ? store.player.time : store.log.duration;
    if (await change(() => addNote(store.id, { time, text: text.value }))) text.value = "";
  };
  return html`
    <section id="notes" class="panel" aria-labelledby="notes-title">
      <h2 id="notes-title">Notes</h2>
      <ul>
        ${annotations.notes.map(
          (note) => html`
          <li key=${note.id}>
            <button type="button" class="link" onClick=${() => onReveal(`note-${note.id}`)}>${shortClock(note.time)}</button>
            ${" "}${note.text} <span class="hint">${note.author === LOOPBACK ? "" : note.author}</span>
            ${
              edit &&
              html` <button type="button" class="link" aria-label="Remove the note at ${shortClock(note.time)}"
              onClick=${() => change(() => removeNote(store.id, note.id))}>Remove</button>`
            }
          </li>`,
        )}
      </ul>
      ${
        edit
          ? html`
          <form id="note-form" onSubmit=${write}>
            <label class="visually-hidden" for="note">Note at this moment</label>
            <input id="note" name="text" type="text" maxlength="2000" required autocomplete="off" placeholder="Note at this moment" />
            <button type="submit">Add</button>
          </form>`
          : annotations.notes.length === 0 && html`<p class="hint">No notes.</p>`
      }
      <p role="alert">${problem}</p>
    </section>
  `;
}
