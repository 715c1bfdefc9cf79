// The page: which view is shown, whether what it shows is fresh, and whether all is well.

import { fill, say } from "./dom.js";
import { listen, state, verdict } from "./store.js";
import { start } from "./stream.js";
import { askForToken, ask, forgetToken, takeToken, token } from "./act.js";
import * as fleet from "./fleet.js";
import * as models from "./models.js";
import * as decisions from "./decisions.js";
import * as twin from "./twin.js";
import * as requests from "./requests.js";

const views = { fleet, models, decisions, twin, requests };
const main = document.getElementById("view");
let shown = null;

function show() {
  const [name, ...rest] = location.hash.slice(1).split("/");
  const view = views[name] ?? fleet;
  const key = views[name] ? name : "fleet";
  if (shown !== view) {
    shown?.leave?.();
    fill(main);
    shown = view;
    view.enter(main);
    document.title = `SplitPlace · ${key}`;
    for (const link of document.querySelectorAll(".views a")) {
      if (link.hash === `#${key}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }
  view.goto?.(rest.map(decodeURIComponent).join("/"));
  if (state.structure) view.structure?.();
  if (state.pulse) view.pulse?.();
}

function judge() {
  const { level, text, why } = verdict();
  document.querySelector(".verdict").className = `verdict ${level}`;
  say(document.getElementById("verdict"), text);
  say(document.getElementById("verdict-why"), why);
}

function link() {
  const sign = document.getElementById("link");
  const seconds = Math.round((Date.now() - state.heard) / 1000);
  const words = { live: "live", connecting: "connecting", stale: `stale for ${seconds} s` };
  say(sign, words[state.link]);
  sign.className = `link ${state.link}`;
  document.body.classList.toggle("stale", state.link === "stale");
}

function key() {
  say(document.getElementById("key"), token() ? "May act" : "Read only");
}

listen((what) => {
  if (what === "link") return link();
  if (what === "structure" || what === "pulse") judge();
  if (what === "pulse") link();
  if (!document.hidden) shown?.[what]?.();
});
setInterval(() => { if (state.link === "stale") link(); }, 1000);

takeToken();
const chosen = localStorage.getItem("splitplace-look");
if (chosen) document.documentElement.dataset.look = chosen;
document.getElementById("look").addEventListener("click", () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.look ?? (dark ? "dark" : "light");
  const next = now === "dark" ? "light" : "dark";
  document.documentElement.dataset.look = next;
  localStorage.setItem("splitplace-look", next);
  shown?.look?.();
});
document.getElementById("key").addEventListener("click", async () => {
  if (!token()) return askForToken();
  if (await ask("Give the token back?", "This tab will only look from then on.", "Give it back")) forgetToken();
});
window.addEventListener("token", key);
window.addEventListener("hashchange", show);
document.addEventListener("visibilitychange", () => { if (!document.hidden) show(); });
key();
judge();
show();
start();
