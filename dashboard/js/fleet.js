// Fleet: the topology, what runs where, what crosses the links, what happened lately.

import { act } from "./act.js";
import { bar, fill, h, row, s, say, set, table } from "./dom.js";
import { Flow } from "./flow.js";
import { along, bow, heading, layout, order, path } from "./layout.js";
import { chip, inPicture, look, mark } from "./marks.js";
import { state } from "./store.js";
import { bytes, percent, place, plural, rate, time } from "./words.js";

let parts = null;
let traced = null;
let picked = null;
let drawn = null;
let names = [];

export function enter(root) {
  const links = s("svg", { class: "links", "aria-hidden": "true" });
  const canvas = h("canvas", { "aria-hidden": "true" });
  const nodes = s("svg", { role: "group", "aria-label": "Topology: every node is a button" });
  const picture = h("div", { class: "picture" }, links, canvas, nodes);
  parts = {
    links, nodes, picture,
    flow: new Flow(canvas),
    traces: h("div", { class: "traces", role: "group", "aria-label": "Trace an arm through the picture" }),
    legend: h("p", { class: "soft small" }),
    node: h("section", { class: "card", "aria-label": "The node that is picked", "aria-live": "off" }),
    news: h("ol", { class: "news" }),
    tables: h("section", { class: "card", "aria-label": "Nodes and links as tables" }),
    cards: new Map(),
    edges: new Map(),
  };
  root.append(
    h("div", { class: "side" },
      h("section", { class: "card", "aria-label": "Topology" },
        h("header", null, h("h2", null, "Where everything runs"), parts.legend),
        parts.traces, picture),
      h("div", { class: "two" }, parts.node,
        h("section", { class: "card", "aria-label": "What happened" }, h("header", null, h("h2", null, "What happened")), parts.news))),
    parts.tables);
  parts.watch = new ResizeObserver(() => { if (state.structure && drawn !== picture.clientWidth) structure(); });
  parts.watch.observe(picture);
}

export function leave() {
  parts.flow.stop();
  parts.watch.disconnect();
  parts = null;
  drawn = null;
}

export function goto(name) {
  if (name) picked = name;
}

/** `{model, arm, branch, hop, fragment}` of everything that a node holds, each fragment once. */
function held(structure) {
  const held = new Map(structure.nodes.map((node) => [node.node, []]));
  const known = new Set();
  for (const model of structure.models) {
    for (const arm of model.arms) {
      arm.branches.forEach((hops, branch) => hops.forEach((hop, at) => {
        const key = `${hop.node} ${hop.fragment}`;
        if (known.has(key) || !held.has(hop.node)) return;
        known.add(key);
        held.get(hop.node).push({ model: model.model, arm: arm.arm, branch, branches: arm.branches.length, at, of: hops.length, ...hop });
      }));
    }
  }
  return held;
}

export function structure() {
  const told = state.structure;
  const width = parts.picture.clientWidth;
  if (!width) return;
  drawn = width;
  names = order(told, names);
  const plan = layout(names, width);
  // Of very many links only those of a traced arm can be told apart.
  parts.picture.classList.toggle("dense", told.links.length > 80);
  parts.plan = plan;
  parts.picture.style.height = `${plan.height}px`;
  for (const svg of [parts.links, parts.nodes]) svg.setAttribute("viewBox", `0 0 ${width} ${plan.height}`);
  parts.flow.size(width, plan.height);
  const where = (name) => (name ? plan.places.get(name) : plan.center);
  parts.edges.clear();
  fill(parts.links, told.links.map((link) => {
    if (!where(link.from) || !where(link.to)) return [];
    const line = bow(where(link.from), where(link.to));
    const middle = along(line, 0.54);
    const edge = s("path", { class: "edge", d: path(line), "stroke-width": 1.2 });
    const tip = s("path", { class: "tip", d: "M-4-3.4l7.4 3.4l-7.4 3.4z", transform: `translate(${middle.x} ${middle.y}) rotate(${heading(line, 0.54)})` });
    const label = s("text", { class: "label soft", x: middle.x, y: middle.y - 8, "text-anchor": "middle" });
    parts.edges.set(`${link.from}>${link.to}`, { link, line, edge, tip, label });
    return [edge, tip, label];
  }));
  const holds = held(told);
  parts.holds = holds;
  const old = parts.cards;
  parts.cards = new Map();
  const cards = told.nodes.map((node) => card(node, holds.get(node.node), plan, old.get(node.node)));
  const { x, y } = plan.center;
  const focus = document.activeElement?.dataset?.node;
  fill(parts.nodes,
    s("g", { class: "center", transform: `translate(${x - 52} ${y - 22})` },
      s("rect", { class: "box", width: 104, height: 44, rx: 22 }),
      s("text", { x: 52, y: 20, "text-anchor": "middle", "font-weight": 650 }, "Centre"),
      s("text", { class: "center-rate", x: 52, y: 35, "text-anchor": "middle", "font-size": 11 }, "")),
    cards);
  if (focus) parts.cards.get(focus)?.group.focus();
  traces(told);
  trace();
  tables(told, holds);
  detail();
  news();
  if (state.pulse) pulse();
}

function card(node, fragments, plan, before) {
  const { w, h: high, tight } = plan.size;
  const { x, y } = plan.places.get(node.node);
  const size = tight ? 6.4 : 13;
  const gap = tight ? 2 : 3;
  const room = Math.floor((w - 18) / (size + gap));
  const rows = tight ? 1 : 2;
  const most = room * rows;
  const shown = fragments.length > most ? fragments.slice(0, most - 2) : fragments;
  const top = tight ? 44 : high - 17 - (fragments.length > room ? 15 : 0);
  // Few fragments have names; many are marks alone.
  const named = !tight && w > 170 && fragments.length <= 2;
  const chips = shown.map((fragment, at) => {
    if (named) {
      const y = high - 13 - (fragments.length - 1 - at) * 17;
      const chip = s("g", null, inPicture(fragment.model, 10, y - 10, 11), s("text", { class: "fragment", x: 27, y }, cut(`${fragment.arm}${fragment.of > 1 ? ` ${fragment.at + 1} of ${fragment.of}` : ""}${fragment.branches > 1 ? ` ∥${fragment.branch + 1}` : ""}`, 22), " "));
      if (before && !before.fragments.has(fragment.fragment)) chip.setAttribute("class", "arrive");
      return chip;
    }
    const chip = inPicture(fragment.model, 10 + (at % room) * (size + gap), top + Math.floor(at / room) * (size + 2), size);
    if (before && !before.fragments.has(fragment.fragment)) chip.firstChild.setAttribute("class", "arrive");
    return chip;
  });
  const level = (at) => s("rect", { class: "level", x: tight ? 10 : 42, y: at, width: tight ? w - 20 : w - 88, height: 5, rx: 2.5, vars: { "transform-box": "fill-box", "transform-origin": "left" } });
  const track = (at) => s("rect", { class: "track", x: tight ? 10 : 42, y: at, width: tight ? w - 20 : w - 88, height: 5, rx: 2.5 });
  const [cpu, memory] = tight ? [level(25), level(33)] : [level(33), level(48)];
  const texts = { cpu: s("text", { class: "fine", x: w - 10, y: 39, "text-anchor": "end" }), memory: s("text", { class: "fine", x: w - 10, y: 54, "text-anchor": "end" }), queue: s("text", { class: "fine state", x: w - 10, y: tight ? 16 : 20, "text-anchor": "end" }) };
  const group = s("g", {
    class: `node ${node.state}`, transform: `translate(${x - w / 2} ${y - high / 2})`, tabindex: "0", role: "button", "data-node": node.node,
    onclick: () => pick(node.node),
    onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pick(node.node); } },
  },
  s("rect", { class: "box", width: w, height: high, rx: tight ? 8 : 12 }),
  s("text", { class: "name", x: 10, y: tight ? 16 : 21 }, `${cut(node.node, tight ? 9 : w > 150 ? 15 : 11)} `),
  texts.queue,
  tight ? [] : [s("text", { class: "fine", x: 10, y: 39 }, "CPU "), texts.cpu, s("text", { class: "fine", x: 10, y: 54 }, "Mem "), texts.memory],
  track(tight ? 25 : 33), cpu, track(tight ? 33 : 48), memory,
  chips,
  shown.length < fragments.length ? s("text", { class: "fine", x: w - 10, y: top + (rows - 1) * (size + 2) + size - 2, "text-anchor": "end" }, `+${fragments.length - shown.length}`) : null);
  parts.cards.set(node.node, { node, group, cpu, memory, texts, fragments: new Set(fragments.map((fragment) => fragment.fragment)) });
  return group;
}

const cut = (name, most) => (name.length > most ? `${name.slice(0, most - 1)}…` : name);

export function pulse() {
  if (!parts?.plan) return;
  const { pulse: seen } = state;
  for (const { node, cpu, memory, texts } of parts.cards.values()) {
    const now = seen.nodes[node.node] ?? {};
    const gone = node.state === "lost";
    const used = gone ? 0 : (now.memory_used_bytes ?? 0) / Math.max(1, node.memory_bytes);
    const busy = gone ? 0 : now.busy ?? 0;
    level(cpu, busy);
    level(memory, used);
    // Read aloud as one text: each part ends with a space, which is not drawn.
    say(texts.cpu, gone ? "" : `${percent(busy, 0)} `);
    say(texts.memory, gone ? "" : `${percent(used, 0)} `);
    say(texts.queue, node.state !== "alive" ? `${node.state} ` : now.queued ? `${now.queued}${parts.plan.size.tight ? "" : " wait"} ` : "");
  }
  const uses = new Map(seen.links.map(([from, to, frames, load]) => [`${from}>${to}`, { frames, load }]));
  const most = Math.max(1, ...[...uses.values()].map((use) => use.frames));
  const lanes = [];
  const colour = getComputedStyle(parts.picture);
  const [plain, marked] = [colour.getPropertyValue("--accent").trim(), traced ? getComputedStyle(document.documentElement).getPropertyValue(look(traced.model).colour.slice(4, -1)).trim() : ""];
  let arriving = 0;
  for (const [key, { link, line, edge, label }] of parts.edges) {
    const use = uses.get(key);
    set(edge, "stroke-width", use ? (1.2 + 2.6 * Math.sqrt(use.frames / most)).toFixed(1) : 1.2);
    edge.classList.toggle("busy", Boolean(use));
    if (!link.from) arriving += use?.frames ?? 0;
    const on = edge.classList.contains("on");
    const shown = on || (!traced && parts.edges.size <= 9 && parts.picture.clientWidth > 640);
    say(label, shown && use && (on || use.load >= 1e3) ? `${bytes(use.load)}/s` : "");
    if (use && (!traced || on)) lanes.push({ key, bow: line, rate: use.frames, colour: on ? marked : plain });
  }
  lanes.sort((a, b) => b.rate - a.rate);
  parts.flow.follow(lanes.slice(0, 160));
  say(parts.nodes.querySelector(".center-rate"), arriving ? `${rate(arriving)} frames` : "");
  const per = parts.flow.per;
  say(parts.legend, parts.flow.still.matches ? "Wider links carry more frames." : per > 1.05 ? `A dot is ${per.toFixed(per < 10 ? 1 : 0)} frames.` : "A dot is a frame.");
  for (const update of parts.live ?? []) update(seen);
  if ([...parts.tables.querySelectorAll("details")].some((fold) => fold.open)) for (const update of parts.tableUpdates) update(seen);
  news();
}

function level(rect, share) {
  const value = Math.max(0.004, Math.min(1, share));
  rect.style.transform = `scaleX(${value.toFixed(3)})`;
  set(rect, "class", value > 0.95 ? "level full" : value > 0.75 ? "level hot" : "level");
}

function traces(told) {
  const all = told.models.flatMap((model) => model.arms.map((arm) => ({ model: model.model, arm: arm.arm })));
  if (traced && !all.some((one) => one.model === traced.model && one.arm === traced.arm)) traced = null;
  const shown = all.length > 12 ? [] : all;
  const models = told.models.map((model) => model.model);
  fill(parts.traces, shown.length ? null : models.slice(0, 24).map((model) => chip(model)), shown.map((one) => h("button", {
    type: "button", class: "quiet", "aria-pressed": String(traced?.model === one.model && traced?.arm === one.arm),
    onclick: () => {
      traced = traced?.model === one.model && traced?.arm === one.arm ? null : one;
      traces(told);
      trace();
      pulse();
    },
  }, mark(one.model), `${one.model} · ${one.arm}`)),
  all.length > shown.length ? select(all) : null);
}

function select(all) {
  const groups = [...new Set(all.map((one) => one.model))].map((model) => h("optgroup", { label: model }, all.map((one, at) => (one.model === model ? h("option", { value: at }, `${one.model} · ${one.arm}`) : null))));
  const chosen = h("select", { "aria-label": "Trace an arm", onchange: () => { traced = all[chosen.value] ?? null; trace(); pulse(); } }, h("option", { value: "" }, `Trace one of ${all.length} arms`), groups);
  const at = all.findIndex((one) => traced && one.model === traced.model && one.arm === traced.arm);
  chosen.value = at < 0 ? "" : at;
  return chosen;
}

/** Shows the ways of the traced arm: its links, its nodes with the number of the step. */
function trace() {
  const { structure: told } = state;
  parts.picture.classList.toggle("tracing", Boolean(traced));
  const steps = new Map();
  const on = new Set();
  if (traced) {
    parts.picture.style.setProperty("--trace", look(traced.model).colour);
    const arm = told.models.find((model) => model.model === traced.model)?.arms.find((arm) => arm.arm === traced.arm);
    for (const hops of arm?.branches ?? []) {
      let from = "";
      hops.forEach((hop, at) => {
        on.add(`${from}>${hop.node}`);
        if (!steps.has(hop.node)) steps.set(hop.node, []);
        steps.get(hop.node).push(arm.branches.length > 1 ? "∥" : at + 1);
        from = hop.node;
      });
      on.add(`${from}>`);
    }
  }
  for (const [key, { edge, tip }] of parts.edges) for (const part of [edge, tip]) part.classList.toggle("on", on.has(key));
  for (const [name, { group }] of parts.cards) {
    group.classList.toggle("on", steps.has(name));
    group.querySelectorAll(".step, .step-text").forEach((old) => old.remove());
    const told = steps.get(name);
    if (told) group.append(s("circle", { class: "step", cx: 2, cy: 2, r: 10 }), s("text", { class: "step-text", x: 2, y: 6 }, String(told[0])));
  }
}

function pick(name) {
  picked = picked === name ? null : name;
  detail();
}

function detail() {
  for (const [name, { group }] of parts.cards) group.classList.toggle("picked", name === picked);
  const told = state.structure;
  const node = told.nodes.find((node) => node.node === picked);
  parts.live = [];
  if (!node) {
    fill(parts.node, h("header", null, h("h2", null, "A node")), h("p", { class: "soft" }, "Pick one in the picture to see what it holds and what may be done."));
    return;
  }
  const holds = parts.holds.get(node.node);
  const figures = h("dl", { class: "figures" });
  const heads = [["fragment"], ["time", "num"], ["memory", "num"]];
  const rows = holds.map((one) => row(heads, [
    h("span", { class: "row" }, mark(one.model), h("span", null, `${one.model} · ${one.arm}`, h("span", { class: "soft small" }, one.of > 1 ? ` ${one.at + 1} of ${one.of}` : ""))),
    time(one.service_us), bytes(one.memory_bytes)]));
  const draining = node.state === "draining";
  fill(parts.node,
    h("header", null, h("h2", null, node.node), h("span", { class: `chip ${node.state === "alive" ? "ok" : node.state === "lost" ? "bad" : "warn"}` }, node.state)),
    figures,
    h("p", { class: "soft small" }, `${plural(node.cores, "core")} of ${(node.macs_per_second / 1e9).toFixed(2)} GMAC/s${node.emulated ? `, emulated at ${percent(node.speed_share, 0)}` : ""} · ${node.address}`),
    holds.length ? table("Fragments that it holds", heads, rows) : h("p", { class: "empty" }, "It holds no fragments."),
    h("div", { class: "row end" },
      h("a", { href: `#twin/${encodeURIComponent(node.node)}` }, "What if it were gone?"),
      node.state === "lost" ? null : h("button", {
        type: "button", class: "quiet",
        onclick: () => (draining
          ? act(`Count on ${node.node} again?`, "The next plan may place fragments on it.", { act: "undrain", node: node.node })
          : act(`Drain ${node.node}?`, "Its fragments move to other nodes first; then it gets no new work. What it has, it finishes.", { act: "drain", node: node.node }, true)),
      }, draining ? "Count on it again" : "Drain")));
  parts.live.push((seen) => {
    const now = seen.nodes[node.node] ?? {};
    fill(figures, [["CPU", percent(now.busy, 0)], ["memory", bytes(now.memory_used_bytes)], ["waiting", now.queued ?? 0], ["computed", rate(now.computed_per_second)]]
      .map(([name, value]) => h("div", { class: "figure" }, h("dt", null, name), h("dd", null, String(value)))));
  });
  if (state.pulse) parts.live[0](state.pulse);
}

function tables(told, holds) {
  const heads = [["node"], ["state"], ["CPU"], ["memory"], ["waiting", "num"], ["fragments", "num"]];
  const updates = [];
  const rows = told.nodes.map((node) => {
    const cells = { cpu: h("span"), memory: h("span"), queue: h("span") };
    updates.push((seen) => {
      const now = seen.nodes[node.node] ?? {};
      const used = (now.memory_used_bytes ?? 0) / Math.max(1, node.memory_bytes);
      fill(cells.cpu, bar(now.busy, `CPU ${percent(now.busy, 0)}`));
      fill(cells.memory, bar(used, `memory ${percent(used, 0)}`));
      say(cells.queue, now.queued ?? 0);
    });
    return row(heads, [node.node, node.state, cells.cpu, cells.memory, cells.queue, holds.get(node.node).length]);
  });
  const linkHeads = [["from"], ["to"], ["rate", "num"], ["delay", "num"], ["frames", "num"], ["use", "num"], ["of its rate", "num"]];
  const links = told.links.map((link) => {
    const cells = [h("span"), h("span"), h("span")];
    updates.push((seen) => {
      const use = seen.links.find(([from, to]) => from === link.from && to === link.to);
      say(cells[0], use ? rate(use[2]) : "0/s");
      say(cells[1], use ? `${bytes(use[3])}/s` : "0 B/s");
      say(cells[2], link.rate_bytes_per_second ? percent((use?.[3] ?? 0) / link.rate_bytes_per_second) : "—");
    });
    return row(linkHeads, [place(link.from), place(link.to), link.rate_bytes_per_second ? `${bytes(link.rate_bytes_per_second)}/s` : "no limit", link.assumed ? "not measured" : time(link.delay_us), ...cells]);
  });
  const folds = [
    h("details", null, h("summary", null, `Nodes as a table (${told.nodes.length})`), table("Nodes, live", heads, rows)),
    h("details", null, h("summary", null, `Links as a table (${told.links.length})`), table("Links that some arm uses, live", linkHeads, links)),
  ];
  parts.tables.querySelectorAll("details").forEach((old, at) => { folds[at].open = old.open; });
  fill(parts.tables, folds);
  // Nobody reads a table that is folded.
  parts.tableUpdates = updates;
  for (const fold of folds) fold.addEventListener("toggle", () => { if (fold.open && state.pulse) for (const update of updates) update(state.pulse); });
}

function news() {
  const { news } = state;
  if (parts.newsSeen === news[0] && parts.news.childElementCount) return;
  parts.newsSeen = news[0];
  fill(parts.news, news.length
    ? news.map((one) => h("li", null, h("span", { class: `chip ${one.kind}` }, { ok: "joined", bad: "lost", warn: "leaving", plan: "plan" }[one.kind]), " ", one.text, h("time", null, new Date(one.at).toLocaleTimeString("en-GB"))))
    : h("li", { class: "soft" }, "Nothing since this page was opened."));
}
