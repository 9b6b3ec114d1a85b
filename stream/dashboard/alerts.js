// Alerts as they come, and the rules that raise them, which can be made here.

import { setRules } from "./api.js";
import { percent, shortClock, valenceOf } from "./emotions.js";
import { html, useEffect, useRef, useState } from "./vendor/preact-htm.js";

export function AlertsPanel({ store, edit, onReveal }) {
  const { session, annotations } = store;
  const [isMaking, setMaking] = useState(false);
  const [problem, setProblem] = useState("");
  const newest = session.alerts.slice(-20).reverse();
  const keep = async (rules) => {
    setProblem("");
    try {
      await setRules(store.id, rules);
      await store.readAnnotations();
      store.reload();
      setMaking(false);
    } catch (error) {
      setProblem(error.message);
    }
  };
  return html`
    <section id="alerts" class="panel" aria-labelledby="alerts-title">
      <header>
        <h2 id="alerts-title">Alerts ${session.alerts.length > 0 && html`<span class="count">${session.alerts.length}</span>`}</h2>
        ${edit && html`<button type="button" aria-expanded=${String(isMaking)} onClick=${() => setMaking(!isMaking)}>Make a rule</button>`}
      </header>
      <div role="log" aria-label="Alerts">
        <ul class="alert-list">
          ${newest.map(
            (alert) => html`
            <li key=${alert.id}>
              <button type="button" class="link" onClick=${() => onReveal(`utterance-${alert.utterances.at(-1)}`)}>
                ⚠ ${shortClock(alert.audio_end)} <strong>${alert.speaker}</strong>,${" "}
                ${alert.emotion} ${percent(alert.probability)} <span class="hint">${alert.rule}</span>
              </button>
            </li>`,
          )}
        </ul>
      </div>
      ${
        newest.length === 0 &&
        html`
        <p class="hint">
          ${
            annotations.rules.length > 0
              ? "No rule has been met."
              : "No rules yet. A rule raises an alert when somebody’s emotion lasts."
          }
        </p>`
      }
      ${
        annotations.rules.length > 0 &&
        html`
        <details>
          <summary>Rules: ${annotations.rules.length}</summary>
          <ul class="rules">
            ${annotations.rules.map(
              (rule) => html`
              <li key=${rule.name}>
                <strong>${rule.name}</strong> <span class="hint">${ruleInWords(rule)}</span>
                ${
                  edit &&
                  html` <button type="button" class="link" aria-label="Remove the rule ${rule.name}"
                  onClick=${() => keep(annotations.rules.filter(({ name }) => name !== rule.name))}>Remove</button>`
                }
              </li>`,
            )}
          </ul>
        </details>`
      }
      ${isMaking && html`<${RuleForm} store=${store} onCancel=${() => setMaking(false)} onMade=${(rule) => keep([...annotations.rules, rule])} />`}
      <p role="alert">${problem}</p>
    </section>
  `;
}

function ruleInWords({ emotion, speaker, above, utterances, certain }) {
  const times = utterances > 1 ? `${utterances} utterances in a row` : "an utterance";
  const who = speaker === "*" ? "anybody" : speaker;
  return `${times} of ${who}: ${emotion}${above > 0 ? ` above ${percent(above)}` : ""}${certain ? ", certain" : ""}`;
}

function RuleForm({ store, onMade, onCancel }) {
  const emotions = store.session.started?.emotions ?? [];
  const likeliest = emotions.find((name) => valenceOf(name) < 0) ?? emotions[0];
  const form = useRef(null);
  useEffect(() => form.current.scrollIntoView({ block: "nearest" }), []);
  const make = (event) => {
    event.preventDefault();
    const { emotion, speaker, utterances, above, certain } = event.target.elements;
    const who = speaker.value;
    const lasts = utterances.value > 1 ? `, ${utterances.value} in a row` : "";
    const name = `${who === "*" ? "" : `${who}: `}${emotion.value}${lasts}`;
    onMade({
      name: name.slice(0, 100),
      emotion: emotion.value,
      // A name may have characters that mean something in a pattern.
      speaker: who === "*" ? who : who.replace(/[[*?]/g, "[$&]"),
      utterances: Number(utterances.value),
      above: Number(above.value) / 100,
      certain: certain.checked,
    });
  };
  return html`
    <form id="rule-form" ref=${form} onSubmit=${make}>
      <label>Alert when
        <select name="speaker">
          <option value="*">anybody</option>
          ${store.session.speakers.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
        </select>
      </label>
      <label>shows
        <select name="emotion" value=${likeliest}>${emotions.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</select>
      </label>
      <label>for at least so many turns in a row
        <input name="utterances" type="number" min="1" max="100" value="2" />
      </label>
      <label>each at least so many per cent sure
        <input name="above" type="number" min="0" max="99" value="50" />
      </label>
      <label class="check"><input name="certain" type="checkbox" /> ignore uncertain labels</label>
      <p class="buttons">
        <button type="submit" class="primary">Save the rule</button>
        <button type="button" onClick=${onCancel}>Cancel</button>
      </p>
    </form>
  `;
}
