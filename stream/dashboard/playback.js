// The controls of playback, and the picture where there is one.

import { clock } from "./emotions.js";
import { useStore } from "./pacing.js";
import { html, useEffect, useRef } from "./vendor/preact-htm.js";

const STEP_S = 5; // of an arrow key

export function Playback({ store }) {
  useStore(store);
  const { player } = store;
  const { media } = player;
  const stage = useRef(null);
  const choose = ({ target }) => target.files[0] && player.setFile(target.files[0]);
  useEffect(() => {
    if (media) stage.current.append(media);
    return () => media?.remove();
  }, [media]);
  const step = (event) => {
    const seconds = { ArrowLeft: -STEP_S, ArrowRight: STEP_S }[event.key];
    if (!seconds) return;
    event.preventDefault();
    player.seek(player.time + seconds);
  };
  const drop = (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) player.setFile(event.dataTransfer.files[0]);
  };
  return html`
    <section id="player" class="panel" aria-label="Playback" onDragOver=${(event) => event.preventDefault()} onDrop=${drop}>
      <div id="stage" ref=${stage} hidden=${!media || media.videoWidth === 0}></div>
      <button id="play" type="button" onClick=${() => player.toggle()}>${player.isPlaying ? "Pause" : "Play"}</button>
      <label for="playback-speed" class="visually-hidden">Playback speed</label>
      <select id="playback-speed" value=${player.speed} onChange=${({ target }) => player.setSpeed(Number(target.value))}>
        ${[0.5, 1, 2, 4, 16].map((speed) => html`<option key=${speed} value=${speed}>${speed} ×</option>`)}
      </select>
      <label for="scrubber" class="visually-hidden">Moment of the session</label>
      <input id="scrubber" type="range" min="0" max=${player.duration} step="0.1" value=${player.time}
        aria-valuetext="${clock(player.time)} of ${clock(player.duration)}" onKeyDown=${step}
        onInput=${({ target }) => player.seek(Number(target.value))} />
      <output id="scrubber-time" for="scrubber">${clock(player.time)} / ${clock(player.duration)}</output>
      <label class="check"><input id="as-it-stood" type="checkbox" checked=${store.isAsItStood}
        onChange=${({ target }) => store.setAsItStood(target.checked)} /> hide what came later</label>
      ${
        media
          ? html`<span class="hint" id="sound">with sound</span>`
          : html`
          <label class="link" id="sound">Open the recording to hear it
            <input id="sound-file" class="visually-hidden" type="file" accept="audio/*,video/*,.mkv,.opus" onChange=${choose} />
          </label>`
      }
      <p role="alert">${player.mediaProblem}</p>
    </section>
  `;
}
