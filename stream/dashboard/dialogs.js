// Dialogs about a session: its title and tags, its erasure.

import { eraseSession, renameSession } from "./api.js";
import { html, useEffect, useRef, useState } from "./vendor/preact-htm.js";

/** A modal dialog while it is mounted; Escape and its buttons call `onClose`. */
export function Dialog({ title, onClose, children }) {
  const box = useRef(null);
  useEffect(() => {
    box.current.showModal();
    return () => box.current?.close();
  }, []);
  return html`
    <dialog ref=${box} aria-labelledby="dialog-title" onClose=${onClose}>
      <h2 id="dialog-title">${title}</h2>
      ${children}
    </dialog>
  `;
}

/** `session`: {id, title, tags}; `onDone()` after a change. */
export function RenameDialog({ session, onDone, onClose }) {
  const [problem, setProblem] = useState("");
  const save = async (event) => {
    event.preventDefault();
    const { title, tags } = event.target.elements;
    const named = tags.value
      .split(",")
      .map((tag) => tag.trim())
      .filter(Boolean);
    try {
      await renameSession(session.id, { title: title.value.trim(), tags: named });
    } catch (error) {
      return setProblem(error.message);
    }
    onDone();
    return onClose();
  };
  return html`
    <${Dialog} title="Title and tags" onClose=${onClose}>
      <form onSubmit=${save}>
        <div class="field">
          <label for="rename-title">Title</label>
          <input id="rename-title" name="title" type="text" maxlength="200" autocomplete="off" value=${session.title ?? ""} />
        </div>
        <div class="field">
          <label for="rename-tags">Tags</label>
          <input id="rename-tags" name="tags" type="text" maxlength="800" autocomplete="off"
            value=${session.tags.join(", ")} aria-describedby="rename-tags-hint" />
          <p id="rename-tags-hint" class="hint">Separated by commas.</p>
        </div>
        <p role="alert">${problem}</p>
        <p class="buttons">
          <button type="submit" class="primary">Save</button>
          <button type="button" onClick=${onClose}>Cancel</button>
        </p>
      </form>
    <//>
  `;
}

/** Asks, erases, and shows what was removed and that a second search found nothing. */
export function EraseDialog({ session, onDone, onClose }) {
  const [done, setDone] = useState(null);
  const [problem, setProblem] = useState("");
  const [isBusy, setBusy] = useState(false);
  const erase = async () => {
    setBusy(true);
    setProblem("");
    try {
      setDone(await eraseSession(session.id));
      onDone();
    } catch (error) {
      setProblem(error.message);
    }
    setBusy(false);
  };
  const name = session.title ?? session.id;
  if (done) {
    const left = linesOf(done.left);
    return html`
      <${Dialog} title="Deleted" onClose=${onClose}>
        <p id="erased" role="status">
          ${
            left.length === 0
              ? `All that was kept of “${name}” is removed. A second search found nothing.`
              : "A second search still found:"
          }
        </p>
        ${left.length > 0 && html`<ul class="proof">${left.map((line) => html`<li><code>${line}</code></li>`)}</ul>`}
        <details open>
          <summary>Removed: ${linesOf(done.removed).length} ${linesOf(done.removed).length === 1 ? "thing" : "things"}</summary>
          <ul class="proof">${linesOf(done.removed).map((line) => html`<li><code>${line}</code></li>`)}</ul>
        </details>
        <p class="buttons"><button type="button" class="primary" onClick=${onClose}>Close</button></p>
      <//>
    `;
  }
  return html`
    <${Dialog} title="Delete this session?" onClose=${onClose}>
      <p>
        “${name}”: its events, labels, notes, alerts and recordings, on this machine and all nodes of its cluster. This
        cannot be undone. What was exported or sent elsewhere is not reached.
      </p>
      <p role="alert">${problem}</p>
      <p class="buttons">
        <button type="button" class="danger" disabled=${isBusy} onClick=${erase}>${isBusy ? "Deleting…" : "Delete"}</button>
        <button type="button" onClick=${onClose}>Cancel</button>
      </p>
    <//>
  `;
}

function linesOf({ keys, entries, files }) {
  const shared = Object.entries(entries).flatMap(([key, members]) => members.map((member) => `${key} ${member}`));
  return [...keys, ...shared, ...files];
}
