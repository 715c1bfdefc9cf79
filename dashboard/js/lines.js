// Lines over time (uPlot), stacked shares, and distributions: the drawings that views share.

import uPlot from "/dashboard/vendor/uplot/uPlot.esm.js";
import { fill, h, s } from "./dom.js";
import { time } from "./words.js";

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A plot over seconds, of times unless told otherwise. `series` are `{label, colour, dash}`; `update(rows)` takes columns;
    `words` says a value, `range` what of y is shown, by the least and the largest value. */
export class Times {
  constructor(host, series, words = (seconds) => time(seconds * 1e6), range = (_, high) => [0, Math.max(high, 1e-3) * 1.12]) {
    this.host = host;
    this.series = series;
    this.words = words;
    this.range = range;
    this.watch = new ResizeObserver(() => this.make());
    this.watch.observe(host);
  }

  make() {
    const width = this.host.clientWidth;
    if (!width) return;
    if (this.plot && this.width === width) return;
    this.width = width;
    this.plot?.destroy();
    const axis = { stroke: css("--soft"), grid: { stroke: css("--faint"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    this.plot = new uPlot({
      width, height: 190, cursor: { y: false, drag: { x: false, y: false } }, legend: { live: true },
      padding: [10, 18, 4, 0],
      scales: { x: { time: false }, y: { range: (_, low, high) => this.range(low ?? 0, high ?? 0) } },
      axes: [
        { ...axis, values: (_, marks) => marks.map((mark) => (mark === 0 ? "now" : `${mark} s`)), size: 26 },
        { ...axis, values: (_, marks) => marks.map(this.words), size: 62 },
      ],
      series: [{ label: "ago", value: (_, value) => (value === null ? "" : `${value} s`) }, ...this.series.map((one) => ({
        label: one.label, stroke: css(one.colour), width: 1.8, dash: one.dash, spanGaps: true, points: { show: false },
        value: (_, value) => (value === null ? "—" : this.words(value)),
      }))],
    }, this.data ?? [[], ...this.series.map(() => [])], this.host);
  }

  update(data) {
    this.data = data;
    if (!this.plot) this.make();
    this.plot?.setData(data);
  }

  leave() {
    this.watch.disconnect();
    this.plot?.destroy();
  }
}

/** Shares over time, one area each, stacked to the whole. `points` are `{name: count}`. */
export function shares(host, points, names, colour, label) {
  const [width, high] = [300, 56];
  const count = points.length;
  if (!count || !names.length) return fill(host, h("p", { class: "empty" }, "No answers yet."));
  const step = width / Math.max(1, count);
  let below = points.map(() => 0);
  const totals = points.map((point) => names.reduce((sum, name) => sum + (point[name] ?? 0), 0));
  const areas = names.map((name, at) => {
    const now = points.map((point, i) => below[i] + (totals[i] ? (point[name] ?? 0) / totals[i] : 0));
    const up = now.map((value, i) => `${(i * step).toFixed(1)} ${(high * (1 - value)).toFixed(1)}H${((i + 1) * step).toFixed(1)}`).join("L");
    const down = [...below.keys()].reverse().map((i) => `${((i + 1) * step).toFixed(1)} ${(high * (1 - below[i])).toFixed(1)}H${(i * step).toFixed(1)}`).join("L");
    below = now;
    return s("path", { d: `M${up}L${down}Z`, vars: { fill: colour(at) } });
  });
  fill(host, s("svg", { viewBox: `0 0 ${width} ${high}`, width: "100%", height: high, preserveAspectRatio: "none", role: "img", "aria-label": label }, s("rect", { width, height: high, vars: { fill: "var(--faint)" } }), areas));
}

/** Distributions over the same times, one ridge each. `ridges` are `{name, kind, counts}`. */
export function distribution(host, bounds, ridges) {
  const used = ridges.flatMap((ridge) => ridge.counts.map((count, at) => (count ? at : -1)).filter((at) => at >= 0));
  if (!used.length) return fill(host, h("p", { class: "empty" }, "No answers in the last minute."));
  const [low, high] = [Math.max(0, Math.min(...used) - 1), Math.min(bounds.length - 1, Math.max(...used) + 1)];
  const bins = high - low + 1;
  const [left, width, tall] = [70, Math.max(300, host.clientWidth), 50];
  const step = (width - left - 4) / bins;
  const drawn = ridges.map((ridge, row) => {
    const most = Math.max(1, ...ridge.counts);
    const base = (row + 1) * tall;
    const bars = ridge.counts.slice(low, high + 1).map((count, at) => (count
      ? s("rect", { class: ridge.kind, x: left + at * step + 0.6, y: base - (count / most) * (tall - 8), width: Math.max(1, step - 1.2), height: (count / most) * (tall - 8), rx: 1.5 })
      : null));
    return [s("text", { class: "soft", x: left - 8, y: base - 5, "text-anchor": "end" }, ridge.name), s("line", { x1: left, x2: width - 4, y1: base, y2: base, vars: { stroke: "var(--line)" } }), bars];
  });
  const marks = [];
  const every = Math.max(1, Math.ceil(bins / 6));
  for (let at = 0; at < bins; at += every) {
    const bound = bounds[low + at];
    if (bound) marks.push(s("text", { class: "soft", x: left + (at + 1) * step, y: ridges.length * tall + 15, "text-anchor": "middle", "font-size": 11 }, time(bound * 1e6)));
  }
  fill(host, s("svg", { viewBox: `0 0 ${width} ${ridges.length * tall + 20}`, width: "100%", role: "img", "aria-label": `Distribution of ${ridges.map((ridge) => ridge.name).join(", ")}` }, drawn, marks));
}
