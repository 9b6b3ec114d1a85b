// How emotions and times are named and coloured.

import { APPEARANCES, UNKNOWN } from "../appearance.js";

const MODALITY_NAMES = { text: "words", audio: "voice", visual: "face" };

/** Valence, symbol and colours of an emotion. */
const appearance = (emotion) => (Object.hasOwn(APPEARANCES, emotion) ? APPEARANCES[emotion] : UNKNOWN);

export const symbolOf = (emotion) => appearance(emotion).symbol;

/** The colour of an emotion in the page's theme, "#rrggbb". */
export const colourOf = (emotion) => appearance(emotion)[document.documentElement.dataset.theme];

/** The colour of an emotion as a CSS value that follows the theme. */
export function cssColourOf(emotion) {
  const { light, dark } = appearance(emotion);
  return `light-dark(${light}, ${dark})`;
}

/** CSS properties that give an element an emotion's colour as its ground, and an ink that reads on it. */
export function groundOf(emotion) {
  const { light, dark } = appearance(emotion);
  return { "--emotion": cssColourOf(emotion), "--ink": `light-dark(${ink(light)}, ${ink(dark)})` };
}

/** The pattern that tells an emotion apart where a symbol has no room. */
export const patternOf = (emotion) => appearance(emotion).pattern;

export const valenceOf = (emotion) => appearance(emotion).valence;

/** Black or white, whichever reads better on a colour "#rrggbb". */
export function ink(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => (parseInt(colour.slice(at, at + 2), 16) / 255) ** 2.2);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 ? "#000" : "#fff";
}

/** Share of positive less share of negative emotions, −1 ... 1. */
export function valence(probabilities) {
  let sum = 0;
  for (const [name, share] of Object.entries(probabilities)) {
    sum += appearance(name).valence * share;
  }
  return sum;
}

/** The emotions of a label with their probabilities, likeliest first. */
export function ranked(probabilities) {
  return Object.entries(probabilities).sort((one, other) => other[1] - one[1]);
}

/** The emotion in words; where it is uncertain, with the runner-up. */
export function verdictOf(label) {
  if (!label) return "";
  if (!label.uncertain) return label.emotion;
  const runnerUp = ranked(label.probabilities).find(([name]) => name !== label.emotion);
  return `uncertain: ${label.emotion}${runnerUp ? ` or ${runnerUp[0]}` : ""}`;
}

/** Probability of the label's emotion, and of the runner-up where the label is uncertain. */
export function certaintyOf({ emotion, probabilities, uncertain }) {
  const second = ranked(probabilities).find(([name]) => name !== emotion);
  return uncertain && second
    ? `${Math.round(100 * probabilities[emotion])} / ${percent(second[1])}`
    : percent(probabilities[emotion]);
}

/** What a modality is called on the page. */
export const modalityName = (modality) => MODALITY_NAMES[modality] ?? modality;

/** The sounds of a voice that are no words, each kind once, in order of time. */
export const soundNames = (voice) => [...new Set((voice?.sounds ?? []).map(({ sound }) => sound))];

/** Media time as m:ss.s, or h:mm:ss from an hour on. */
export function clock(seconds) {
  const tenths = Math.round(seconds * 10);
  const minutes = Math.floor(tenths / 600);
  const rest = (tenths % 600) / 10;
  if (minutes < 60) return `${minutes}:${rest.toFixed(1).padStart(4, "0")}`;
  const [mm, ss] = [minutes % 60, Math.floor(rest)].map((part) => String(part).padStart(2, "0"));
  return `${Math.floor(minutes / 60)}:${mm}:${ss}`;
}

/** Media time as m:ss, or h:mm:ss from an hour on. */
export function shortClock(seconds) {
  const whole = Math.floor(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const ss = String(rest).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${ss}` : `${minutes}:${ss}`;
}

export const percent = (share) => `${Math.round(100 * share)} %`;
export const milliseconds = (seconds) => `${Math.round(1000 * seconds)} ms`;
