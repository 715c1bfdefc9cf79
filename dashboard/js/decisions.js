// Decisions: what the policy knows, what it took lately and why, the plan and what would change it.

import { fill, h, row, s, table } from "./dom.js";
import { mark } from "./marks.js";
import { state } from "./store.js";
import { clock, count, percent, time } from "./words.js";

let parts = null;

export function enter(root) {
  parts = { bandit: h("div"), last: h("div"), plan: h("div", { class: "prose" }), policy: h("span", { class: "chip" }), numbers: h("div"), explored: h("p", { class: "soft" }) };
  root.append(
    h("section", { class: "card", "aria-label": "The bandit" }, h("header", null, h("h2", null, "What each arm is worth"), parts.policy), parts.explored, parts.bandit),
    h("section", { class: "card", "aria-label": "The last decisions" }, h("header", null, h("h2", null, "The last decisions")), parts.last),
    h("section", { class: "card", "aria-label": "The plan" }, h("header", null, h("h2", null, "The plan, its runner-up, and what would change it")), parts.plan),
    h("section", { class: "card", "aria-label": "The policy's own numbers" }, h("details", null, h("summary", null, "The policy's own numbers"), parts.numbers)));
}

export function structure() {
  const told = state.structure;
  parts.policy.textContent = `policy ${told.policy}`;
  const sentences = split(told.explanation);
  const used = [...new Set(told.models.flatMap((model) => model.arms.flatMap((arm) => arm.branches.flatMap((hops) => hops.map((hop) => hop.node)))))].sort();
  fill(parts.plan,
    explained(told.generation, sentences),
    h("p", null, "Arms move when a node joins, leaves or is lost, when models change, or when other places would make them clearly faster together. Ask the twin: ",
      used.slice(0, 12).flatMap((node, at) => [at ? ", " : "", h("a", { href: `#twin/${encodeURIComponent(node)}` }, `without ${node}`)]), "."));
}

const PLACED = /^(?:(\S+): )?(\S+) on (.+) in (.+?) \((.+?); without (.+?): (?:nowhere|on (.+) in (.+))\)$/;

/** What the planner says of each arm as a table: where it runs, and the runner-up. What else it says in its words. */
function explained(generation, sentences) {
  const heads = [["model"], ["arm"], ["runs on"], ["forecast", "num"], ["by"], ["runner-up: without"], ["it would run on"], ["forecast", "num"]];
  const [rows, rest] = [[], []];
  let model = "";
  for (const sentence of sentences) {
    const found = PLACED.exec(sentence);
    if (!found) { rest.push(sentence); continue; }
    const [, of, arm, way, forecast, source, without, other, then] = found;
    model = of ?? model;
    rows.push(row(heads, [h("span", { class: "row" }, mark(model), model), h("strong", null, arm), way.replaceAll(" | ", "  ∥  "), forecast, source, without,
      other ? other.replaceAll(" | ", "  ∥  ") : h("strong", { class: "worse" }, "nowhere"), then ?? "—"]));
  }
  return [rows.length ? table(`Plan ${generation}, by the planner's forecasts for one request alone`, heads, rows) : h("p", { class: "soft" }, `Plan ${generation}.`),
    rest.length ? h("ul", null, rest.map((sentence) => h("li", null, sentence))) : null];
}

/** Sentences and their parts, but nothing within brackets is torn apart. */
function split(text) {
  const parts = [];
  let [depth, part] = [0, ""];
  for (let at = 0; at < text.length; at += 1) {
    const letter = text[at];
    if (letter === "(") depth += 1;
    if (letter === ")") depth -= 1;
    const ends = depth === 0 && (letter === ";" || letter === ".") && (at + 1 === text.length || text[at + 1] === " ");
    if (!ends) part += letter;
    if (ends || at + 1 === text.length) {
      if (part.trim()) parts.push(part.trim());
      part = "";
    }
  }
  return parts;
}

const REASONS = { best: ["ok", "best"], explored: ["warn", "explored"], fallback: ["bad", "fallback"], fixed: ["", "fixed"] };

function reward(one) {
  const width = 150;
  const x = (value) => Math.max(0, Math.min(1, value)) * width;
  const half = one.confidence ?? 0;
  const words = `${one.reward.toFixed(3)}${one.confidence === null ? "" : ` ± ${half.toFixed(3)}`}`;
  return h("span", { class: "row" },
    s("svg", { width, height: 14, viewBox: `0 0 ${width} 14`, role: "img", "aria-label": `mean reward ${words}` },
      s("line", { x1: 0, x2: width, y1: 7, y2: 7, vars: { stroke: "var(--faint)", "stroke-width": "6", "stroke-linecap": "round" } }),
      s("line", { x1: x(one.reward - half), x2: x(one.reward + half), y1: 7, y2: 7, vars: { stroke: "var(--accent)", "stroke-width": "3" } }),
      s("circle", { cx: x(one.reward), cy: 7, r: 4, vars: { fill: "var(--accent)" } })),
    h("span", null, words));
}

export function pulse() {
  const { bandit, decisions, policy } = state.pulse;
  const heads = [["model"], ["context"], ["arm"], ["taken", "num"], ["to learn", "num"], ["promises kept", "num"], ["mean reward, 95 % interval"], ["propensity", "num"]];
  const rows = bandit.map((one) => row(heads, [h("span", { class: "row" }, mark(one.model), one.model), one.context, h("strong", null, one.arm), count(one.count),
    one.explored ? h("span", { class: "chip warn" }, `${count(one.explored)} (${percent(one.explored / one.count)})`) : "0", percent(one.held), reward(one), percent(one.propensity, 0)]));
  const [all, learnt] = bandit.reduce(([all, learnt], one) => [all + one.count, learnt + one.explored], [0, 0]);
  parts.explored.textContent = all ? `${count(all)} decisions since the start, ${percent(learnt / all)} of them to learn. A reward is half the promise kept, half the accuracy.` : "";
  fill(parts.bandit, rows.length ? table("By model, context and arm", heads, rows) : h("p", { class: "empty" }, "No decision has ended yet: send a request."));
  const lastHeads = [["ended"], ["model"], ["arm"], ["context"], ["why"], ["propensity", "num"], ["promised", "num"], ["forecast", "num"], ["took", "num"], ["outcome"]];
  const last = decisions.map((one) => {
    const [kind, word] = REASONS[one.reason] ?? ["", one.reason || "—"];
    return row(lastHeads, [h("a", { href: `#requests/${one.id}` }, clock(one.unix_ms)), h("span", { class: "row" }, mark(one.model), one.model), one.arm || "—", one.context || "—",
      h("span", { class: `chip ${kind}` }, word), percent(one.propensity, 0), time(one.sla_us), time(one.predicted_us), time(one.response_us),
      h("span", { class: `chip ${one.held ? "ok" : one.ending === "answered" ? "warn" : "bad"}` }, one.held ? "kept" : one.ending === "answered" ? "late" : one.ending)]);
  });
  // A list that moves under the pointer cannot be read.
  if (!parts.last.matches(":hover") && !parts.last.contains(document.activeElement)) fill(parts.last, last.length ? table("Newest first; it stands still under the pointer", lastHeads, last) : h("p", { class: "empty" }, "None yet."));
  const numberHeads = [["name"], ["value", "num"]];
  fill(parts.numbers, table("As the policy names them", numberHeads, Object.entries(policy).map(([name, value]) => row(numberHeads, [h("code", null, name), Number(value.toPrecision(5)).toString()]))));
}
