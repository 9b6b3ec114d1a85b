// Patterns of emotions on a canvas: what tells colours apart where a symbol has no room, and the hatching of uncertainty.

import { colourOf, ink, patternOf } from "./emotions.js";

const TILE = 8;
const PAINTERS = {
  plain: () => {},
  dots: (pen) =>
    [
      [2, 2],
      [6, 6],
    ].forEach(([x, y]) => dot(pen, x, y, 1.2)),
  circles: (pen) => ring(pen, 4, 4, 2.4),
  horizontal: (pen) => pen.fillRect(0, 3, TILE, 1.6),
  vertical: (pen) => pen.fillRect(3, 0, 1.6, TILE),
  grid: (pen) => (pen.fillRect(0, 3, TILE, 1.2), pen.fillRect(3, 0, 1.2, TILE)),
  checks: (pen) => (pen.fillRect(0, 0, 4, 4), pen.fillRect(4, 4, 4, 4)),
  diamonds: (pen) => diamond(pen, 4, 4, 2.6),
};
const made = new Map();

function tile(paint) {
  const canvas = Object.assign(document.createElement("canvas"), { width: TILE, height: TILE });
  paint(canvas.getContext("2d"));
  return canvas;
}

const dot = (pen, x, y, radius) => (pen.beginPath(), pen.arc(x, y, radius, 0, 7), pen.fill());
const ring = (pen, x, y, radius) => (pen.beginPath(), pen.arc(x, y, radius, 0, 7), pen.stroke());

function diamond(pen, x, y, reach) {
  pen.beginPath();
  for (const [dx, dy] of [
    [0, -reach],
    [reach, 0],
    [0, reach],
    [-reach, 0],
  ])
    pen.lineTo(x + dx, y + dy);
  pen.fill();
}

function kept(context, name, paint) {
  if (!made.has(name)) made.set(name, context.createPattern(tile(paint), "repeat"));
  return made.get(name);
}

/** The pattern of an emotion on its colour in the page's theme, for `fillStyle`. */
export function emotionPattern(context, emotion) {
  const [colour, pattern] = [colourOf(emotion), patternOf(emotion)];
  return kept(context, `${colour} ${pattern}`, (pen) => {
    pen.fillStyle = colour;
    pen.fillRect(0, 0, TILE, TILE);
    pen.globalAlpha = 0.45;
    pen.fillStyle = pen.strokeStyle = ink(colour);
    PAINTERS[pattern](pen);
  });
}

/** Slanted white lines over a colour: the label is uncertain. */
export function hatching(context, colour) {
  return kept(context, `hatching ${colour}`, (pen) => {
    pen.strokeStyle = ink(colour) === "#000" ? "rgb(255 255 255 / 75%)" : "rgb(255 255 255 / 60%)";
    pen.lineWidth = 2;
    for (const offset of [-TILE, 0, TILE]) {
      pen.moveTo(offset, TILE);
      pen.lineTo(offset + TILE, 0);
    }
    pen.stroke();
  });
}
