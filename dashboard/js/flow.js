// Dots that run along links at the rate at which frames do. On a canvas: some hundred dots cost less there
// than ten elements in the picture. Stands still for people who asked for less motion.

import { along } from "./layout.js";

const MOST = 400;
/** Seconds that a dot takes for its way. */
const WAY = 1.1;

export class Flow {
  constructor(canvas) {
    this.canvas = canvas;
    this.paint = canvas.getContext("2d");
    this.lanes = [];
    this.dots = [];
    this.last = 0;
    this.per = 1;
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.frame = this.frame.bind(this);
    this.costs = [];
  }

  size(width, height) {
    const sharp = Math.min(2, window.devicePixelRatio || 1);
    this.canvas.width = Math.round(width * sharp);
    this.canvas.height = Math.round(height * sharp);
    this.paint.setTransform(sharp, 0, 0, sharp, 0, 0);
    this.area = { width, height };
  }

  /** Lanes are `{bow, rate, colour}`. One dot stands for `per` frames, so that the fastest link is no blur. */
  follow(lanes) {
    const before = new Map(this.lanes.map((lane) => [lane.key, lane.due]));
    const total = lanes.reduce((sum, lane) => sum + lane.rate, 0);
    this.per = Math.max(1, (total * WAY) / MOST, ...lanes.map((lane) => lane.rate / 14));
    this.lanes = lanes.map((lane) => ({ ...lane, due: before.get(lane.key) ?? Math.random() }));
    const kept = new Map(this.lanes.map((lane) => [lane.key, lane]));
    this.dots = this.dots.filter((dot) => kept.has(dot.lane.key));
    for (const dot of this.dots) dot.lane = kept.get(dot.lane.key);
    if (!this.running && !this.still.matches) {
      this.running = true;
      requestAnimationFrame(this.frame);
    }
    if (this.still.matches) this.clear();
  }

  stop() {
    this.running = false;
    this.lanes = [];
    this.dots = [];
    this.clear();
  }

  clear() {
    if (this.area) this.paint.clearRect(0, 0, this.area.width, this.area.height);
  }

  frame(now) {
    if (!this.running || !this.area) return;
    const began = performance.now();
    const step = Math.min(0.1, (now - this.last) / 1000 || 0);
    this.last = now;
    for (const lane of this.lanes) {
      lane.due += (lane.rate / this.per) * step;
      while (lane.due >= 1) {
        lane.due -= 1;
        if (this.dots.length < MOST) this.dots.push({ lane, at: -Math.random() * 0.04 });
      }
    }
    this.clear();
    let colour = null;
    for (const dot of this.dots) {
      dot.at += step / WAY;
      if (dot.at < 0 || dot.at > 1) continue;
      const { x, y } = along(dot.lane.bow, dot.at);
      if (dot.lane.colour !== colour) this.paint.fillStyle = colour = dot.lane.colour;
      this.paint.globalAlpha = Math.min(1, dot.at * 8, (1 - dot.at) * 8);
      this.paint.beginPath();
      this.paint.arc(x, y, 2.6, 0, 6.3);
      this.paint.fill();
    }
    this.paint.globalAlpha = 1;
    this.dots = this.dots.filter((dot) => dot.at < 1);
    this.costs.push(performance.now() - began);
    if (this.costs.length > 240) this.costs.shift();
    if (document.hidden) {
      this.running = false;
      return;
    }
    requestAnimationFrame(this.frame);
  }
}
