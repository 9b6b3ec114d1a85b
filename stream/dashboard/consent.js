// Consent to a session, person by person, and a notice that asks for it.

import { html, useState } from "./vendor/preact-htm.js";

/** The names in a field, separated by commas, each once. */
const namesIn = (text) => [
  ...new Set(
    text
      .split(",")
      .map((name) => name.trim())
      .filter(Boolean),
  ),
];

/** What the fields state, as the server takes it. Raises Error, with the `field` that is wrong. */
export function consentIn({ who, agreed, how, purpose }) {
  const boxes = [agreed ?? []].flatMap((one) => (one instanceof RadioNodeList ? [...one] : one));
  const people = namesIn(who.value).map((name) => ({
    name,
    agreed: boxes.some((box) => box.value === name && box.checked),
  }));
  const wrong = (line, field) => Object.assign(new Error(line), { field });
  if (people.length === 0) throw wrong("State who takes part.", "who");
  const missing = people.filter((one) => !one.agreed).map(({ name }) => name);
  if (missing.length > 0)
    throw wrong(`${missing.join(", ")}: not agreed yet. Nobody is analysed without agreeing.`, "who");
  if (!purpose.value.trim()) throw wrong("State what the analysis is for.", "purpose");
  return { people, how: how.value.trim() || ASKED, when: new Date().toISOString(), purpose: purpose.value.trim() };
}

/** The same in one line, for what takes a statement. */
export const consentInWords = ({ people, how, when, purpose }) =>
  `${people.map(({ name }) => name).join(", ")} agreed (${how}, ${when.slice(0, 16)}Z) to: ${purpose}`.slice(0, 500);

const ASKED = "asked in the meeting";

export function ConsentFields() {
  const [names, setNames] = useState([]);
  const [purpose, setPurpose] = useState("");
  const [isCopied, setCopied] = useState(false);
  const notice = noticeFor(purpose);
  const copy = async () => {
    await navigator.clipboard.writeText(notice);
    setCopied(true);
  };
  return html`
    <fieldset id="consent">
      <legend>Consent</legend>
      <p class="hint">Nobody is analysed without being asked, and the answer stays with the session.</p>
      <div class="field">
        <label for="who">Who takes part</label>
        <input id="who" type="text" maxlength="400" required autocomplete="off" aria-describedby="who-hint" placeholder="Anna, Ben"
          onInput=${({ target }) => setNames(namesIn(target.value))} />
        <p id="who-hint" class="hint">Everybody who can be heard, separated by commas.</p>
      </div>
      ${names.map(
        (name) => html`
        <label class="check" key=${name}><input name="agreed" type="checkbox" value=${name} /> ${name} agreed</label>`,
      )}
      <div class="columns">
        <div class="field">
          <label for="how">How they were asked</label>
          <input id="how" type="text" maxlength="200" minlength="3" autocomplete="off" placeholder=${ASKED} />
        </div>
        <div class="field">
          <label for="purpose">For what</label>
          <input id="purpose" type="text" maxlength="200" minlength="3" required autocomplete="off" placeholder="to coach our support team"
            onInput=${({ target }) => setPurpose(target.value.trim())} />
        </div>
      </div>
      <details>
        <summary>A notice to paste into the meeting’s chat</summary>
        <label class="visually-hidden" for="notice">Notice</label>
        <textarea id="notice" rows="4" readonly>${notice}</textarea>
        <button type="button" onClick=${copy}>${isCopied ? "Copied" : "Copy"}</button>
      </details>
    </fieldset>
  `;
}

const noticeFor = (purpose) =>
  `I would like to have this conversation analysed by Undertone, ${purpose ? `for this: ${purpose}` : "for … (say what for)"}. ` +
  "A program listens to words and voices and says which emotion each turn seems to express; it is often wrong, and it " +
  "does not know what anybody feels. Please answer whether you agree. Without your yes it does not begin; you can end it " +
  "at any time, and have what is kept deleted.";
