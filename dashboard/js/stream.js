// The live stream, with a growing pause between attempts and a clear word when what is seen is old.

import { history, linked, pulse, state, structure } from "./store.js";

const STALE_MS = 4000;
const FIRST_MS = 500;
const MOST_MS = 15000;
let wait = FIRST_MS;
let source = null;

export function start() {
  open();
  setInterval(() => {
    if (state.heard && Date.now() - state.heard > STALE_MS) linked("stale");
  }, 500);
}

function heard() {
  state.heard = Date.now();
  linked("live");
  wait = FIRST_MS;
}

function on(name, take) {
  source.addEventListener(name, (event) => {
    take(JSON.parse(event.data));
    heard();
  });
}

function open() {
  source = new EventSource("/dashboard/events");
  on("history", history);
  on("structure", structure);
  on("pulse", pulse);
  source.addEventListener("error", () => {
    source.close();
    if (state.heard === 0) linked("connecting");
    // Not all pages at the same instant.
    setTimeout(open, wait * (0.5 + Math.random()));
    wait = Math.min(wait * 2, MOST_MS);
  });
}
