// How a model looks, everywhere the same: a colour that colour-blind people can tell apart, and a shape for
// those who see none.

import { h, s } from "./dom.js";

const SHAPES = [
  "M6 1a5 5 0 1 0 0 10a5 5 0 1 0 0-10z",
  "M1.5 1.5h9v9h-9z",
  "M6 1l5.4 9.6h-10.8z",
  "M6 .4l5.6 5.6l-5.6 5.6l-5.6-5.6z",
  "M4 1h4v3h3v4h-3v3h-4v-3h-3v-4h3z",
  "M6 11l-5.4-9.6h10.8z",
  "M3.2 1h5.6l2.8 5l-2.8 5h-5.6l-2.8-5z",
  "M1 4h10v4h-10z",
];

const places = new Map();

/** Gives every model its look, by the order of names. */
export function learn(models) {
  for (const name of [...models].sort()) if (!places.has(name)) places.set(name, places.size);
}

export function look(model) {
  if (!places.has(model)) places.set(model, places.size);
  const place = places.get(model);
  return { colour: `var(--m${place % 8})`, shape: SHAPES[(place + Math.floor(place / 8)) % SHAPES.length] };
}

/** The mark alone, for HTML. */
export function mark(model) {
  const { colour, shape } = look(model);
  return s("svg", { class: "mark", viewBox: "0 0 12 12", "aria-hidden": "true" }, s("path", { d: shape, vars: { fill: colour } }));
}

/** The mark and the name. */
export function chip(model, text = model) {
  return h("span", { class: "chip" }, mark(model), text);
}

/** The mark within a picture. */
export function inPicture(model, x, y, size) {
  const { colour, shape } = look(model);
  const scale = size / 12;
  return s("g", { transform: `translate(${x} ${y}) scale(${scale})` }, s("path", { d: shape, vars: { fill: colour } }));
}

const ARMS = ["var(--m0)", "var(--m1)", "var(--m2)", "var(--m3)", "var(--m4)", "var(--m5)", "var(--m6)", "var(--m7)"];

/** The colour of an arm or an exit within its model, by its place in a sorted list. */
export const armColour = (place) => ARMS[place % ARMS.length];
