// Requests: one by its number with its waterfall, the slowest, the lost.

import { fill, h, row, s, table } from "./dom.js";
import { mark } from "./marks.js";
import { state } from "./store.js";
import { clock, percent, place, time } from "./words.js";

let parts = null;
let order = "newest";
let model = "";
let open = null;
let last = 0;

export function enter(root) {
  parts = {
    id: h("input", { id: "request", inputmode: "numeric", autocomplete: "off", placeholder: "the number that an answer names" }), list: h("div"), one: h("section", { class: "card", "aria-label": "One request", "aria-live": "polite" }),
    model: h("select", { id: "of", onchange: (event) => { model = event.target.value; load(); } }),
  };
  const orders = ["newest", "slowest", "lost"].map((name) => h("button", { type: "button", class: "quiet", "aria-pressed": String(order === name), onclick: (event) => {
    order = name;
    for (const other of event.target.parentElement.children) other.setAttribute("aria-pressed", String(other === event.target));
    load();
  } }, name));
  root.append(h("div", { class: "beside" },
    h("section", { class: "card", "aria-label": "Requests" },
      h("header", null, h("h2", null, "Requests"),
        h("form", { class: "row", role: "search", onsubmit: (event) => { event.preventDefault(); if (parts.id.value.trim()) location.hash = `#requests/${parts.id.value.trim()}`; } },
          h("label", { for: "request", class: "soft small" }, "Find"), parts.id, h("button", { type: "submit", class: "quiet" }, "Find")),
        h("div", { class: "traces", role: "group", "aria-label": "Order" }, orders),
        h("label", { for: "of", class: "soft small" }, "Model"), parts.model),
      parts.list),
    parts.one));
  detail();
  load();
}

export function leave() { parts = null; }

export function structure() {
  const names = state.structure.models.map((one) => one.model);
  fill(parts.model, h("option", { value: "" }, "all"), names.map((name) => h("option", { value: name }, name)));
  parts.model.value = model;
}

export function pulse() {
  if (Date.now() - last > 3000 && !parts.list.matches(":hover") && !parts.list.contains(document.activeElement)) load();
}

export async function goto(id) {
  if (!id) return;
  const answer = await fetch(`/dashboard/requests/${encodeURIComponent(id)}`);
  const told = await answer.json();
  open = answer.ok ? told : { unknown: told.error };
  if (parts) { parts.id.value = id; detail(); parts.one.scrollIntoView({ block: "nearest" }); }
}

async function load() {
  last = Date.now();
  const asked = new URLSearchParams({ order, model, count: "40" });
  const { requests } = await (await fetch(`/dashboard/requests?${asked}`)).json();
  if (!parts) return;
  const heads = [["ended"], ["request"], ["model"], ["arm"], ["promised", "num"], ["took", "num"], ["outcome"]];
  const rows = requests.map((one) => row(heads, [clock(one.unix_ms), h("a", { href: `#requests/${one.id}` }, one.id), h("span", { class: "row" }, mark(one.model), one.model), one.arm || "—", time(one.sla_us), time(one.response_us), outcome(one)]));
  fill(parts.list, rows.length ? table(order === "slowest" ? "The slowest of those remembered" : "Newest first", heads, rows) : h("p", { class: "empty" }, order === "lost" ? "None was lost." : "None yet."));
}

function outcome(one) {
  return h("span", { class: `chip ${one.held ? "ok" : one.ending === "answered" ? "warn" : "bad"}` }, one.held ? "kept" : one.ending === "answered" ? "late" : one.ending);
}

function detail() {
  if (!open) return fill(parts.one, h("header", null, h("h2", null, "One request")), h("p", { class: "soft" }, "Pick one, or look for the number that an answer names as splitplace_request."));
  if (open.unknown) return fill(parts.one, h("header", null, h("h2", null, "Not remembered")), h("p", null, open.unknown));
  const facts = [["model", open.model], ["arm", open.arm || "—"], ["exit", open.exit || "—"], ["why", `${open.reason || "—"}, in context ${open.context || "—"}, with probability ${percent(open.propensity, 0)}`], ["plan", open.generation], ["attempts", open.attempts], ["promised", time(open.sla_us)], ["forecast", time(open.predicted_us)], ["took", time(open.response_us)], ...(open.trace ? [["trace", open.trace]] : [])];
  fill(parts.one,
    h("header", null, h("h2", null, `Request ${open.id}`), outcome(open)),
    h("dl", { class: "figures" }, facts.map(([name, value]) => h("div", { class: "figure" }, h("dt", null, name), h("dd", null, h("small", null, String(value)))))),
    open.error ? h("p", { class: "worse" }, open.error) : null,
    open.missing.length ? h("p", { class: "worse" }, `Left out of the merge, because late or lost: branch ${open.missing.join(", ")}`) : null,
    open.hops.length ? [h("h3", null, "Hop by hop"), h("div", { class: "row" }, ["transfer", "queue", "compute", "encode"].map((kind) => h("span", { class: "key" }, h("i", { class: kind }), kind))), h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Waterfall" }, waterfall(open))] : null);
}

/** Every hop after the one before it, each branch from the beginning. */
function waterfall(one) {
  const kinds = [["transfer", "transfer_us"], ["queue", "queue_us"], ["compute", "compute_us"], ["encode", "encode_us"]];
  const ends = new Map();
  const rows = one.hops.map((hop) => {
    let at = ends.get(hop.branch) ?? 0;
    const from = at;
    const parts = kinds.map(([kind, field]) => { const part = { kind, at, us: hop[field] }; at += hop[field]; return part; });
    ends.set(hop.branch, at);
    return { hop, parts, from, to: at };
  });
  const whole = Math.max(one.response_us, ...ends.values(), one.sla_us < one.response_us * 2 ? one.sla_us : 0, 1);
  const [left, width, tall] = [92, 560, 26];
  const x = (us) => left + (us / whole) * (width - left - 70);
  const many = new Set(one.hops.map((hop) => hop.branch)).size > 1;
  return s("svg", { viewBox: `0 0 ${width} ${rows.length * tall + 30}`, width: "100%", "min-width": 480, role: "img", "aria-label": `Waterfall: ${rows.map(({ hop, from, to }) => `${place(hop.node)} from ${time(from)} to ${time(to)}`).join("; ")}` },
    one.sla_us <= whole ? [s("line", { x1: x(one.sla_us), x2: x(one.sla_us), y1: 0, y2: rows.length * tall + 6, vars: { stroke: "var(--bad)", "stroke-dasharray": "4 3" } }), s("text", { x: x(one.sla_us), y: rows.length * tall + 22, "text-anchor": "middle", class: "soft" }, `promised ${time(one.sla_us)}`)] : null,
    rows.map(({ hop, parts, to }, at) => [
      s("text", { x: left - 10, y: at * tall + 18, "text-anchor": "end" }, `${many ? `∥${hop.branch} ` : ""}${hop.node || "back"}`),
      parts.map((part) => s("rect", { class: part.kind, x: x(part.at), y: at * tall + 6, width: Math.max(part.us ? 1 : 0, x(part.at + part.us) - x(part.at)), height: 15, rx: 2 }, s("title", null, `${part.kind} ${time(part.us)}${part.kind === "transfer" && hop.codec !== "raw" ? ` as ${hop.codec}` : ""}`))),
      s("text", { class: "soft", x: x(to) + 6, y: at * tall + 18 }, time(to))]));
}
