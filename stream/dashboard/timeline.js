// The timeline across the bottom: a lane a speaker, the mood below, and an overview of the whole session with a brush.

import { bindBrush, bindGestures } from "./axis.js";
import { groundOf, percent, shortClock, symbolOf, verdictOf } from "./emotions.js";
import { LaneChart, LEFT, RIGHT } from "./lanes.js";
import { MoodChart } from "./moodchart.js";
import { atMostEvery, useStore } from "./pacing.js";
import { moodLine } from "./series.js";
import { MoodStrip } from "./strips.js";
import { html, useEffect, useMemo, useRef, useState } from "./vendor/preact-htm.js";

const NARROW_PX = 640; // of a window in which the timeline would take too much of what is read

export function Timeline({ store, theme, onReveal }) {
  const [isOpen, setOpen] = useState(innerWidth > NARROW_PX);
  const emotions = store.session.started?.emotions ?? [];
  return html`
    <section id="timeline" class="panel" aria-labelledby="timeline-title">
      <header>
        <h2 id="timeline-title">Timeline</h2>
        <${Legend} emotions=${emotions} />
        <label class="focus">Mood of
          <select id="focus" value=${store.focus ?? ""} onChange=${({ target }) => store.setFocus(target.value || null)}>
            <option value="">everybody</option>
            ${store.session.speakers.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
          </select>
        </label>
        <div role="group" aria-label="Zoom of the timeline" class="buttons">
          <button id="zoom-out" type="button" aria-label="Zoom out" onClick=${() => store.axis.zoom(2)}>−</button>
          <button id="zoom-in" type="button" aria-label="Zoom in" onClick=${() => store.axis.zoom(0.5)}>+</button>
          <button id="zoom-all" type="button" onClick=${() => store.axis.reset()}>All</button>
        </div>
        <button type="button" aria-expanded=${String(isOpen)} aria-controls="charts" onClick=${() => setOpen(!isOpen)}>
          ${isOpen ? "Hide" : "Show"}
        </button>
      </header>
      ${isOpen && html`<${Charts} store=${store} theme=${theme} onReveal=${onReveal} />`}
      <details id="timeline-text"><summary>As a table</summary><${SpeechTable} store=${store} emotions=${emotions} /></details>
    </section>
  `;
}

function Legend({ emotions }) {
  return html`
    <ul id="legend" aria-label="Colours">
      ${emotions.map(
        (name) => html`
        <li key=${name}><span class="swatch" aria-hidden="true" style=${groundOf(name)}>${symbolOf(name)}</span>${name}</li>`,
      )}
      <li><span class="swatch hatched" aria-hidden="true"></span>uncertain</li>
    </ul>
  `;
}

function Charts({ store, theme, onReveal }) {
  const [box, lanesBox, moodBox, band, playhead] = [
    useRef(null),
    useRef(null),
    useRef(null),
    useRef(null),
    useRef(null),
  ];
  const charts = useRef(null);
  useEffect(() => {
    const lanes = new LaneChart(lanesBox.current, store);
    const mood = new MoodChart(moodBox.current, store);
    charts.current = { lanes, mood };
    const plot = () => ({ left: LEFT, width: box.current.clientWidth - LEFT - RIGHT });
    const draw = () => {
      lanes.draw();
      mood.draw();
    };
    // While the axis moves every frame is drawn; what events add need not be.
    const drawSometimes = atMostEvery(150, draw);
    let shown = "";
    const follow = () => {
      const part = `${store.axis.start} ${store.axis.end}`;
      if (part === shown || store.log.duration === store.axis.end) drawSometimes();
      else draw();
      shown = part;
      placePlayhead(playhead.current, store, plot());
    };
    const sizes = new ResizeObserver(draw);
    sizes.observe(box.current);
    const end = store.subscribe(follow);
    follow();
    return () => {
      end();
      sizes.disconnect();
      lanes.destroy();
      mood.destroy();
    };
  }, [store, theme]);
  useEffect(() => {
    const plot = () => ({ left: LEFT, width: box.current.clientWidth - LEFT - RIGHT });
    const show = (utterance) => utterance && onReveal(`utterance-${utterance.number}`);
    const laneAt = (event) => event.clientY - lanesBox.current.getBoundingClientRect().top;
    bindGestures(box.current, store.axis, band.current, {
      plot,
      onClick: (seconds, event) => {
        show(charts.current.lanes.at(seconds, laneAt(event)));
        store.goTo(seconds);
      },
      onEnter: () => show(store.session.inOrder.find(({ end }) => end > store.axis.start)),
    });
    lanesBox.current.addEventListener("mousemove", (event) => {
      const x = event.clientX - box.current.getBoundingClientRect().left;
      const { start, end } = store.axis;
      const seconds = start + ((x - LEFT) / Math.max(1, plot().width)) * (end - start);
      const utterance = charts.current.lanes.at(seconds, laneAt(event));
      lanesBox.current.title = utterance ? describe(store, utterance) : "";
    });
  }, [store]);
  return html`
    <div id="charts" ref=${box} role="application" tabindex="0" aria-describedby="charts-keys" aria-label="Timeline of emotions and mood">
      <div id="lanes" ref=${lanesBox} role="img" aria-label="Emotions of each speaker over time"></div>
      <div id="mood" ref=${moodBox} role="img" aria-label="Mood over time: share of positive less share of negative emotions"></div>
      <div id="playhead" ref=${playhead} hidden></div>
      <div id="selection" ref=${band} hidden></div>
    </div>
    <${Overview} store=${store} />
    <p id="charts-keys" class="visually-hidden">
      Click or tap: to the utterance. Drag, pinch or Ctrl + wheel: zoom. Keys: + − 0 zoom, arrows move, Enter: first utterance.
    </p>
  `;
}

function placePlayhead(node, { player, isLive, log, axis }, { left, width }) {
  const seconds = player.isWithin ? player.time : isLive ? log.duration : null;
  node.hidden = seconds === null || seconds < axis.start || seconds > axis.end;
  if (!node.hidden)
    node.style.transform = `translateX(${left + ((seconds - axis.start) / (axis.end - axis.start)) * width}px)`;
}

/** The mood of the whole session in one strip, and the part of it that is shown above. */
function Overview({ store }) {
  useStore(store, 300);
  const box = useRef(null);
  const { axis, session } = store;
  useEffect(() => bindBrush(box.current, axis, () => ({ left: 0, width: box.current.clientWidth })), [axis]);
  const mood = useMemo(() => {
    const [, means] = moodLine(session.inOrder, 0, axis.duration);
    return means.map((valence) => ({ valence }));
  }, [session, session.applied, axis.duration]);
  const part = {
    left: `${(100 * axis.start) / axis.duration}%`,
    width: `${(100 * (axis.end - axis.start)) / axis.duration}%`,
  };
  return html`
    <div id="overview" ref=${box} title="Drag to move or choose the part that is shown">
      <${MoodStrip} mood=${mood} height=${22} />
      <div id="brush" style=${part}></div>
    </div>
  `;
}

/** An utterance in one line. */
function describe({ session }, { start, speaker, label, failure }) {
  const judged = label ? `${verdictOf(label)}, ${percent(label.probabilities[label.emotion])}` : "…";
  return `${shortClock(start)} ${session.nameOf(speaker)}: ${failure ? "no label" : judged}`;
}

/** The same as a table: seconds of each emotion. */
function SpeechTable({ store, emotions }) {
  useStore(store, 1000);
  const totals = new Map();
  for (const { speaker, start, end, label } of store.session.utterances.values()) {
    const name = store.session.nameOf(speaker) ?? "unknown";
    if (!totals.has(name)) totals.set(name, { spoken: 0, uncertain: 0, seconds: {} });
    const total = totals.get(name);
    total.spoken += end - start;
    if (!label) continue;
    if (label.uncertain) total.uncertain += end - start;
    total.seconds[label.emotion] = (total.seconds[label.emotion] ?? 0) + end - start;
  }
  return html`
    <div class="scroll" role="region" tabindex="0" aria-label="Timeline as a table">
      <table id="timeline-table">
        <caption>Seconds of speech by speaker and emotion</caption>
        <thead><tr>${["Speaker", "Speech", ...emotions, "of it uncertain"].map((name) => html`<th scope="col" key=${name}>${name}</th>`)}</tr></thead>
        <tbody>
          ${[...totals].map(
            ([name, { spoken, uncertain, seconds }]) => html`
            <tr key=${name}>
              <th scope="row">${name}</th><td>${spoken.toFixed(1)}</td>
              ${emotions.map((emotion) => html`<td key=${emotion}>${(seconds[emotion] ?? 0).toFixed(1)}</td>`)}
              <td>${uncertain.toFixed(1)}</td>
            </tr>`,
          )}
        </tbody>
      </table>
    </div>
  `;
}
