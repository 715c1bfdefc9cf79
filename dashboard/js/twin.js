// Twin: prediction beside observation with its error, and questions about what would happen.

import { act, post } from "./act.js";
import { fill, h, row, table } from "./dom.js";
import { Times } from "./lines.js";
import { mark } from "./marks.js";
import { state } from "./store.js";
import { percent, place, rate, time } from "./words.js";

let parts = null;
let asked = null;
let wanted = null;

export function enter(root) {
  parts = {
    seen: h("div"), plot: h("div", { class: "plot" }), errors: h("div", { class: "plot", id: "errors" }), off: h("h3"), nodes: h("div", { class: "traces" }), answer: h("section", { class: "card", "aria-label": "The answer", "aria-live": "polite" }),
    drop: h("div", { class: "drop" }, "Drag a node here, or press it: what if it were gone?"), factor: h("input", { type: "range", id: "factor", min: "-3", max: "5", step: "0.5", value: "1" }), factorText: h("output", { for: "factor" }, "× 2"),
    from: h("select", { id: "from" }), to: h("select", { id: "to" }), slow: h("input", { type: "range", id: "slow", min: "-5", max: "2", step: "1", value: "-2" }), slowText: h("output", { for: "slow" }, "a quarter of its rate"),
    delay: h("input", { type: "number", id: "delay", min: "0", max: "10000", step: "1", value: "5" }), assumed: h("div", { class: "row" }),
  };
  const factor = () => 2 ** Number(parts.factor.value);
  const slow = () => 2 ** Number(parts.slow.value);
  parts.factor.addEventListener("input", () => { parts.factorText.textContent = `× ${Number(factor().toPrecision(2))}`; });
  parts.slow.addEventListener("input", () => { parts.slowText.textContent = `× ${Number(slow().toPrecision(2))} its rate`; });
  parts.drop.addEventListener("dragover", (event) => { event.preventDefault(); parts.drop.classList.add("over"); });
  parts.drop.addEventListener("dragleave", () => parts.drop.classList.remove("over"));
  parts.drop.addEventListener("drop", (event) => {
    event.preventDefault();
    parts.drop.classList.remove("over");
    const node = event.dataTransfer.getData("text/plain");
    if (node) ask({ kind: "remove-node", node });
  });
  parts.times = new Times(parts.plot, [{ label: "observed", colour: "--accent" }, { label: "predicted", colour: "--m1", dash: [6, 3] }]);
  parts.misses = new Times(parts.errors, [{ label: "error", colour: "--accent" }, { label: "none", colour: "--soft", dash: [2, 4] }], signed,
    (low, high) => { const far = Math.max(-low, high, 0.1) * 1.12; return [-far, far]; });
  root.append(
    h("section", { class: "card", "aria-label": "What if" },
      h("header", null, h("h2", null, "What if …"), parts.assumed),
      h("div", { class: "two" },
        h("div", { class: "field" }, h("h3", null, "… a node were gone?"), parts.drop, parts.nodes),
        h("form", { class: "field", onsubmit: (event) => { event.preventDefault(); ask({ kind: "load", factor: factor() }); } },
          h("h3", null, "… the load changed?"), h("label", { for: "factor" }, "Times as many requests ", parts.factorText), parts.factor, h("div", { class: "row end" }, h("button", { type: "submit", id: "ask-load" }, "Ask"))),
        h("form", { class: "field", onsubmit: (event) => { event.preventDefault(); ask({ kind: "link", from: parts.from.value, to: parts.to.value, rate_factor: slow(), delay_ms: Number(parts.delay.value) }); } },
          h("h3", null, "… a link were slower?"),
          h("div", { class: "row" }, h("label", { for: "from" }, "Between"), parts.from, h("label", { for: "to" }, "and"), parts.to),
          h("label", { for: "slow" }, "Rate ", parts.slowText), parts.slow,
          h("div", { class: "row" }, h("label", { for: "delay" }, "Milliseconds of delay more"), parts.delay), h("div", { class: "row end" }, h("button", { type: "submit", id: "ask-link" }, "Ask"))))),
    parts.answer,
    h("section", { class: "card", "aria-label": "Prediction beside observation" }, h("header", null, h("h2", null, "How right it has been")), parts.plot, parts.off, parts.errors, parts.seen));
  show();
}

export function leave() {
  parts.times.leave();
  parts.misses.leave();
  parts = null;
}

export function look() {
  for (const plot of [parts.times, parts.misses]) { plot.width = 0; plot.make(); }
}

export function goto(node) {
  wanted = node || null;
  if (wanted && state.structure) ask({ kind: "remove-node", node: wanted });
}

export function structure() {
  const { nodes, assumed, foresight } = state.structure;
  const names = nodes.filter((node) => node.state !== "lost").map((node) => node.node);
  if (parts.nodes.dataset.names !== names.join("\n")) {
    parts.nodes.dataset.names = names.join("\n");
    fill(parts.nodes, names.map((node) => h("button", { type: "button", class: "quiet grab", draggable: "true", "aria-label": `What if ${node} were gone?`,
      onclick: () => ask({ kind: "remove-node", node }), ondragstart: (event) => event.dataTransfer.setData("text/plain", node) }, node)));
    const options = () => [["", "centre"], ...names.map((name) => [name, name])].map(([value, text]) => h("option", { value }, text));
    const before = [parts.from.value, parts.to.value];
    fill(parts.from, options());
    fill(parts.to, options());
    parts.from.value = names.includes(before[0]) ? before[0] : "";
    parts.to.value = names.includes(before[1]) ? before[1] : names[0] ?? "";
  }
  fill(parts.assumed, assumed?.length
    ? [h("span", { class: "chip warn" }, `plans as if: ${assumed.join("; ")}`), h("button", { type: "button", class: "quiet", onclick: () => act("Plan by what is known again?", "What was applied from here is taken back. Drained nodes stay drained.", { act: "withdraw" }) }, "Withdraw")]
    : null, foresight ? null : h("span", { class: "chip bad" }, "this orchestrator has no twin"));
  if (wanted && !asked) ask({ kind: "remove-node", node: wanted });
}

export function pulse() {
  const all = state.pulse.twin;
  if (!all.length) {
    fill(parts.seen, h("p", { class: "empty" }, "While somebody looks and requests come, the twin predicts every ten seconds what is seen. Nothing to compare yet."));
    return;
  }
  const names = [...new Set(all.map((one) => one.model))];
  const latest = names.map((name) => all.findLast((one) => one.model === name));
  const heads = [["model"], ["whose"], ["time to the answer", "num"], ["95th", "num"], ["promises kept", "num"], ["lost", "num"], ["accuracy", "num"], ["error of the mean", "num"]];
  const rows = latest.flatMap((one) => [
    row(heads, [h("span", { class: "row" }, mark(one.model), one.model), "predicted", time(one.predicted.response_seconds.mean * 1e6), time(one.predicted.p95_seconds.mean * 1e6), percent(one.predicted.held.mean), percent(one.predicted.loss.mean), percent(one.predicted.accuracy.mean, 2), ""]),
    row(heads, ["", "observed", time(one.observed.response_seconds * 1e6), time(one.observed.p95_seconds * 1e6), percent(one.observed.held), percent(one.observed.loss), percent(one.observed.accuracy, 2), h("strong", null, signed(one.error))])]);
  fill(parts.seen, table("The last comparison of each model", heads, rows));
  const busiest = latest.reduce((a, b) => (b.observed.offered_per_second > a.observed.offered_per_second ? b : a));
  const line = all.filter((one) => one.model === busiest.model);
  parts.plot.hidden = parts.errors.hidden = parts.off.hidden = line.length < 2;
  parts.off.textContent = `Error of the mean, ${busiest.model}: above 0 the twin predicted too long a time`;
  const now = state.pulse.second;
  parts.times.update([line.map((one) => one.second - now), line.map((one) => one.observed.response_seconds), line.map((one) => one.predicted.response_seconds.mean)]);
  parts.misses.update([line.map((one) => one.second - now), line.map((one) => one.error), line.map(() => 0)]);
}

/** A share with its sign. */
function signed(share) {
  return `${share > 0 ? "+" : share < 0 ? "−" : ""}${percent(Math.abs(share))}`;
}

async function ask(question) {
  asked = { question, waiting: true };
  show();
  const { ok, told } = await post("/dashboard/what-if", question);
  if (asked.question !== question) return;
  asked = ok ? { question, told } : { question, error: told.error };
  if (parts) show();
}

function words(question) {
  if (question.kind === "remove-node") return `${question.node} were gone`;
  if (question.kind === "load") return `${Number(question.factor.toPrecision(2))} times as many requests came`;
  return `the link between ${place(question.from)} and ${place(question.to)} had ${Number(question.rate_factor.toPrecision(2))} times its rate and ${question.delay_ms} ms more delay`;
}

function figure(one, text) {
  return `${text(one.mean)}${one.half_width ? ` ± ${text(one.half_width)}` : ""}`;
}

function show() {
  if (!asked) return fill(parts.answer, h("header", null, h("h2", null, "The answer")), h("p", { class: "soft" }, "Ask something above. The production planner makes the plan for the changed fleet; the twin runs the present load through both, on the same random numbers."));
  const title = h("header", null, h("h2", null, `If ${words(asked.question)}`));
  if (asked.waiting) return fill(parts.answer, title, h("p", { class: "soft" }, "Planning and simulating …"));
  if (asked.error) return fill(parts.answer, title, h("p", null, h("span", { class: "chip bad" }, "no answer"), " ", asked.error));
  const { before, after, moves, unplaced, explanation, assumed, took_seconds } = asked.told;
  const heads = [["model"], ["world"], ["answers", "num"], ["time to the answer", "num"], ["95th", "num"], ["promises kept", "num"], ["lost", "num"], ["accuracy", "num"]];
  const ms = (seconds) => time(seconds * 1e6);
  const share = (value) => percent(value, 1);
  const cells = (one) => [figure(one.answers_per_second, rate), figure(one.response_seconds, ms), figure(one.p95_seconds, ms), figure(one.held, share), figure(one.loss, share), figure(one.accuracy, (value) => percent(value, 2))];
  const judged = (was, now, text, less) => {
    const [a, b] = [text(was), text(now)];
    return a === b ? b : h("strong", { class: (less ? now < was : now > was) ? "better" : "worse" }, b);
  };
  const rows = Object.entries(after.models).flatMap(([model, now]) => {
    const was = before.models[model];
    return [
      row(heads, [h("span", { class: "row" }, mark(model), model), "as it is", ...cells(was)]),
      row(heads, ["", h("strong", null, "then"), judged(was.answers_per_second.mean, now.answers_per_second.mean, rate), judged(was.response_seconds.mean, now.response_seconds.mean, ms, true), judged(was.p95_seconds.mean, now.p95_seconds.mean, ms, true),
        judged(was.held.mean, now.held.mean, share), judged(was.loss.mean, now.loss.mean, share, true), judged(was.accuracy.mean, now.accuracy.mean, (value) => percent(value, 2))])];
  });
  const way = (ways) => (ways.length ? ways.map((hops) => hops.join(" → ")).join("  ∥  ") : h("strong", { class: "worse" }, "nowhere"));
  const moveHeads = [["what would move"], ["from"], ["to"]];
  fill(parts.answer, title,
    assumed ? h("p", { class: "soft" }, `Assumed: ${assumed}.`) : null,
    table("Predicted, with half the 95 % interval", heads, rows, { id: "what-if-table" }),
    moves.length ? table("", moveHeads, moves.map((move) => row(moveHeads, [h("span", { class: "row" }, mark(move.model), `${move.model} · ${move.arm}`), way(move.before), way(move.after)]))) : h("p", { class: "soft" }, "Nothing would move."),
    h("details", null, h("summary", null, "Why that plan"), h("p", { class: "prose" }, explanation), Object.entries(unplaced).map(([model, why]) => h("p", { class: "prose" }, `${model} would not have: ${why.join("; ")}`))),
    h("div", { class: "row end" }, h("span", { class: "soft small" }, `${after.runs} runs of each, ${took_seconds.toFixed(1)} s`),
      h("button", { type: "button", onclick: () => act("Apply this as a plan?", `From now on plans are made as if ${words(asked.question)}${asked.question.kind === "remove-node" ? ": it is drained" : ""}.`, { act: "apply", question: asked.question }, true) }, "Apply as a plan")));
}
