// Models: promises, accuracy, where time goes, what is lost, which arms and exits answer.

import { act } from "./act.js";
import { fill, figure, h, row, set, table } from "./dom.js";
import { Times, distribution, shares } from "./lines.js";
import { armColour, mark } from "./marks.js";
import { state } from "./store.js";
import { count, percent, rate, time } from "./words.js";

const SHOWN = 120;
const LOSSES = {
  not_ready: "nothing could run it", hopeless: "no arm fast enough", overloaded: "too many in flight", expired: "too late",
  unreachable: "nodes or links lost", broken: "engine or merge failed", cancelled: "client went away",
};
let cards = new Map();
let host = null;
/** Names of the models whose cards are shown; null before there were any. */
let shown = null;

export function enter(root) {
  host = root;
  cards = new Map();
  shown = null;
}

export function leave() {
  for (const card of cards.values()) card.times.leave();
}

/** After light and dark were exchanged, lines are drawn in the new colours. */
export function look() {
  for (const card of cards.values()) { card.times.width = 0; card.times.make(); }
}

export function structure() {
  const told = state.structure.models;
  const names = told.map((model) => model.model).join("\n");
  if (shown !== names) {
    leave();
    cards = new Map(told.map((model) => [model.model, card(model)]));
    fill(host, [...cards.values()].map((card) => card.root), told.length ? null : h("p", { class: "empty" }, "The repository is empty: start with --models DIR, or load a package."));
    shown = names;
  }
  for (const model of told) arms(cards.get(model.model), model);
}

function key(kind, name) {
  return h("span", { class: "key" }, h("i", { class: kind }), name);
}

function card(model) {
  const parts = {
    figures: h("dl", { class: "figures" }), state: h("span", { class: "chip" }), plot: h("div", { class: "plot" }), split: h("div"), losses: h("div", { class: "row" }),
    arms: h("div"), armsInside: h("div"), armsBelow: h("div"), shares: h("div"), sharesKey: h("div", { class: "row" }), exits: h("div"), exitsKey: h("div", { class: "row" }), hops: h("div"), tools: h("div", { class: "row" }), reason: h("p", { class: "soft" }),
  };
  parts.times = new Times(parts.plot, [
    { label: "mean", colour: "--accent" }, { label: "95th percentile", colour: "--m1", dash: [6, 3] }, { label: "forecast", colour: "--soft", dash: [2, 3] }]);
  parts.root = h("section", { class: "card", "aria-label": model.model },
    h("header", null, mark(model.model), h("h2", null, model.model), h("span", { class: "soft small" }, model.version ? `version ${model.version}` : ""), parts.state, h("span", { class: "end" }, parts.tools)),
    parts.reason,
    parts.figures, parts.losses,
    parts.pairs = h("div", { class: "pairs" },
      h("div", null, h("h3", null, "Time to the answer"), parts.plot),
      h("div", null, h("h3", null, "How it splits, last minute"), parts.split),
      h("div", null, h("h3", null, "Arms over the last two minutes"), parts.shares, parts.sharesKey, parts.exits, parts.exitsKey, parts.armsInside),
      h("div", null, h("h3", null, "Hop by hop"), h("div", { class: "row" }, key("transfer", "transfer"), key("queue", "queue"), key("compute", "compute"), key("encode", "encode")), parts.hops)),
    parts.armsBelow);
  parts.pairs.hidden = true;
  parts.armsBelow.append(parts.arms);
  return parts;
}

function arms(card, model) {
  const ready = model.state === "READY";
  set(card.state, "class", `chip ${ready ? "ok" : model.reason === "not loaded" ? "" : "bad"}`);
  card.state.textContent = ready ? "served" : model.state.toLowerCase();
  card.reason.textContent = ready ? "" : model.reason;
  fill(card.tools, model.pinned ? h("span", { class: "chip warn" }, `pinned to ${model.pinned}`) : null,
    model.pinned ? h("button", { type: "button", class: "quiet", onclick: () => act(`Let the policy choose for ${model.model}?`, "The pin is taken away.", { act: "unpin", model: model.model }) }, "Unpin") : null,
    ready
      ? h("button", { type: "button", class: "quiet", onclick: () => act(`Unload ${model.model}?`, "It is not served any more until it is loaded again. Requests for it are refused.", { act: "unload", model: model.model }, true) }, "Unload")
      : h("button", { type: "button", class: "quiet", onclick: () => act(`Load ${model.model}?`, "It is placed on the fleet and served.", { act: "load", model: model.model }) }, "Load"));
  const heads = [["arm"], ["accuracy", "num"], ["forecast now", "num"], ["way"], ["pin"]];
  card.forecasts = new Map();
  const rows = model.arms.map((arm) => {
    const forecast = h("span");
    card.forecasts.set(arm.arm, forecast);
    const way = arm.branches.map((hops) => hops.map((hop, at) => {
      const next = hops[at + 1];
      const exits = hop.exits.map((exit) => ` ${exit.exit} ≥ ${exit.threshold.toFixed(2)}`).join("");
      return `${hop.node}${exits}${next ? (next.node === hop.node || hop.codec === "raw" ? " → " : ` →${hop.codec}→ `) : ""}`;
    }).join("")).join("  ∥  ");
    return row(heads, [h("strong", null, arm.arm), arm.accuracy ? percent(arm.accuracy, 2) : "—", forecast, h("span", { class: "small" }, way),
      model.pinned === arm.arm ? "pinned" : h("button", { type: "button", class: "quiet", "aria-label": `Pin ${model.model} to ${arm.arm}`, onclick: () => act(`Pin ${model.model} to ${arm.arm}?`, "Every request takes this arm while it can answer; the policy goes on learning from it alone.", { act: "pin", model: model.model, arm: arm.arm }) }, "Pin")]);
  });
  fill(card.arms, model.arms.length ? table("Arms of the plan in force", heads, rows) : null);
}

export function pulse() {
  for (const [name, card] of cards) one(card, state.pulse.models[name], state.points.get(name) ?? []);
}

function one(card, seen, points) {
  if (!seen) return;
  for (const [arm, cell] of card.forecasts ?? []) cell.textContent = seen.forecasts[arm] === null || seen.forecasts[arm] === undefined ? "not available" : time(seen.forecasts[arm]);
  const lost = seen.lost ?? {};
  const losses = Object.entries(lost).filter(([, number]) => number);
  fill(card.figures, [
    figure("promises kept", percent(seen.held), seen.answered ? `of ${count(seen.answered)}` : ""),
    figure("requests", rate(seen.rate ?? 0)),
    figure("median", time(seen.p50_us)), figure("95th", time(seen.p95_us)), figure("99th", time(seen.p99_us)),
    figure("accuracy, validated", percent(seen.accuracy_validated, 2)),
    figure("from feedback", percent(seen.accuracy_feedback, 2), seen.feedback_samples ? `of ${count(seen.feedback_samples)}` : ""),
    figure("as the network's end", percent(seen.accuracy_audited, 2), seen.audited ? `by ${count(seen.audited)} audited` : ""),
  ]);
  fill(card.losses, losses.length
    ? losses.map(([reason, number]) => h("span", { class: "chip bad" }, `${count(number)} ${LOSSES[reason] ?? reason}`))
    : h("span", { class: "soft small" }, seen.ended ? "Nothing was lost in the last minute." : "Nobody asks for it now."));
  const last = points.slice(-SHOWN);
  // Without answers there is nothing to draw.
  const empty = !last.some((point) => point.ended);
  if (card.pairs.hidden !== empty) {
    card.pairs.hidden = empty;
    (empty ? card.armsBelow : card.armsInside).append(card.arms);
  }
  if (empty) return;
  const now = last.at(-1)?.t ?? 0;
  card.times.update([last.map((point) => point.t - now), last.map((point) => point.mean_seconds), last.map((point) => point.p95_seconds), last.map((point) => point.predicted_seconds)]);
  if (seen.parts) distribution(card.split, state.bounds, [
    { name: "queue", kind: "queue", counts: seen.parts.queue }, { name: "compute", kind: "compute", counts: seen.parts.compute }, { name: "transfer", kind: "transfer", counts: seen.parts.transfer }]);
  else fill(card.split, h("p", { class: "empty" }, "No answers yet."));
  overTime(card.shares, card.sharesKey, last, "arms", "Share of the answers by arm");
  overTime(card.exits, card.exitsKey, last, "exits", "Share of the answers by exit");
  hops(card.hops, seen.hops ?? []);
}

function overTime(host, keys, points, of, label) {
  const names = [...new Set(points.flatMap((point) => Object.keys(point[of])))].sort();
  if (of === "exits" && names.length < 2) return fill(host), fill(keys);
  shares(host, points.map((point) => point[of]), names, armColour, label);
  fill(keys, names.map((name, at) => h("span", { class: "key" }, h("i", { vars: { background: armColour(at) } }), name)));
}

function hops(host, all) {
  if (!all.length) return fill(host, h("p", { class: "empty" }, "No answers yet."));
  const byArm = Map.groupBy ? Map.groupBy(all, (hop) => hop.arm) : group(all);
  const whole = (hop) => hop.transfer_us + hop.queue_us + hop.compute_us + hop.encode_us;
  const most = Math.max(...all.map(whole), 1);
  const heads = [["hop"], ["where the time goes"], ["mean", "num"]];
  const rows = [...byArm].flatMap(([arm, steps]) => steps.sort((a, b) => a.branch - b.branch || a.hop - b.hop).map((hop) => {
    const parts = [["transfer", hop.transfer_us], ["queue", hop.queue_us], ["compute", hop.compute_us], ["encode", hop.encode_us]];
    const words = parts.map(([name, us]) => `${name} ${time(us)}`).join(", ");
    return row(heads, [`${arm}${hop.branch ? ` ∥${hop.branch}` : ""} ${hop.node ? `${hop.hop + 1} ${hop.node}` : "back"}`,
      h("span", { class: "stack", role: "img", "aria-label": words, title: words }, parts.map(([kind, us]) => h("i", { class: kind, vars: { width: `${(us / most) * 100}%` } }))), time(whole(hop))]);
  }));
  fill(host, table("Means, newer answers counting more", heads, rows));
}

function group(all) {
  const groups = new Map();
  for (const hop of all) {
    if (!groups.has(hop.arm)) groups.set(hop.arm, []);
    groups.get(hop.arm).push(hop);
  }
  return groups;
}
