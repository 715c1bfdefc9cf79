// What is known, and whoever wants to be told. Keeps the last minutes of every model, and notices what
// changed between two structures.

import { learn } from "./marks.js";
import { list, percent, place, plural } from "./words.js";

const KEEP = 600;
const NEWS = 12;

export const state = { structure: null, pulse: null, bounds: [], points: new Map(), news: [], link: "connecting", heard: 0 };
const listeners = new Set();

export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function tell(what) {
  for (const listener of listeners) listener(what);
}

export function history(told) {
  state.bounds = told.bounds;
  for (const [model, points] of Object.entries(told.models)) state.points.set(model, points.slice(-KEEP));
  tell("history");
}

export function structure(told) {
  learn(told.models.map((model) => model.model));
  if (state.structure) notice(state.structure, told);
  state.structure = told;
  tell("structure");
}

export function pulse(told) {
  state.pulse = told;
  for (const [model, seen] of Object.entries(told.models)) {
    if (!seen.latest) continue;
    const points = state.points.get(model) ?? [];
    if (!points.length || points.at(-1).t < seen.latest.t) points.push(seen.latest);
    if (points.length > KEEP) points.splice(0, points.length - KEEP);
    state.points.set(model, points);
  }
  tell("pulse");
}

export function linked(link) {
  if (state.link === link) return;
  state.link = link;
  tell("link");
}

/** Nodes of an arm in order, each branch for itself. */
export const ways = (arm) => arm.branches.map((hops) => hops.map((hop) => hop.node));

function news(kind, text) {
  state.news.unshift({ kind, text, at: Date.now() });
  state.news.length = Math.min(state.news.length, NEWS);
}

function notice(before, after) {
  const was = new Map(before.nodes.map((node) => [node.node, node.state]));
  for (const node of after.nodes) {
    const old = was.get(node.node);
    if (old === node.state) continue;
    if (node.state === "lost") news("bad", `${node.node} is lost`);
    else if (node.state === "alive") news("ok", old ? `${node.node} is back` : `${node.node} joined`);
    else news("warn", `${node.node} is ${node.state}`);
  }
  if (before.generation === after.generation) return;
  const arms = (told) => new Map(told.models.flatMap((model) => model.arms.map((arm) => [`${model.model} ${arm.arm}`, JSON.stringify(ways(arm))])));
  const [old, now] = [arms(before), arms(after)];
  const moved = [...now].filter(([name, way]) => old.has(name) && old.get(name) !== way).map(([name]) => name);
  const gone = [...old.keys()].filter((name) => !now.has(name));
  const come = [...now.keys()].filter((name) => !old.has(name));
  const parts = [];
  if (moved.length) parts.push(`${list(short(moved))} moved`);
  if (come.length) parts.push(`${list(short(come))} placed`);
  if (gone.length) parts.push(`${list(short(gone))} given up`);
  news("plan", `Plan ${after.generation}: ${parts.join("; ") || "the same places"}`);
}

const short = (names) => (names.length > 4 ? [...names.slice(0, 3), `${names.length - 3} more`] : names);

/** Is it well? A level, a sentence, and the reasons. */
export function verdict() {
  const { structure: told, pulse: seen } = state;
  if (!told) return { level: "wait", text: "Asking the orchestrator.", why: "" };
  const away = told.nodes.filter((node) => node.state === "lost").map((node) => node.node);
  const served = told.models.filter((model) => model.state === "READY");
  const broken = told.models.filter((model) => model.state !== "READY" && model.reason !== "not loaded");
  const sums = { answered: 0, held: 0, lost: 0, rate: 0 };
  for (const model of Object.values(seen?.models ?? {})) {
    if (!model.ended) continue;
    sums.answered += model.answered;
    sums.held += (model.held ?? 0) * model.answered;
    sums.lost += model.ended - model.answered;
    sums.rate += model.rate;
  }
  const held = sums.answered ? sums.held / sums.answered : null;
  const lost = sums.answered + sums.lost ? sums.lost / (sums.answered + sums.lost) : 0;
  const alive = told.nodes.length - away.length;
  const facts = [`${plural(served.length, "model")} on ${plural(alive, "node")}`, `plan ${told.generation}`,
    `${sums.rate < 10 ? sums.rate.toFixed(1) : sums.rate.toFixed(0)} requests a second`];
  if (held !== null) facts.push(`${percent(held)} of promises kept in the last minute`);
  if (told.assumed?.length) facts.push(`planning as if: ${told.assumed.join("; ")}`);
  const why = facts.join(" · ");
  if (told.draining) return { level: "warn", text: "The orchestrator is leaving.", why };
  if (!told.nodes.length) return { level: "bad", text: "No node is connected.", why: "Start a worker, and everything will be placed on it." };
  if (broken.length) return { level: "bad", text: `${list(short(broken.map((model) => model.model)))} cannot be served.`, why: broken[0].reason };
  if (!served.length) return { level: "warn", text: "No model is served.", why };
  if (lost > 0.01) return { level: "bad", text: `${percent(lost)} of the requests get no answer.`, why };
  if (away.length) return { level: "warn", text: `${list(short(away.map(place)))} ${away.length > 1 ? "are" : "is"} lost; everything is served by the rest.`, why };
  if (held !== null && held < 0.9) return { level: "warn", text: `Only ${percent(held)} of the promises are kept.`, why };
  return { level: "ok", text: "All is well.", why };
}
