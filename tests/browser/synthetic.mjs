// A large fleet that does not exist: what the stream would say of it, for measuring how the page draws.

export function synthetic(nodes = 100, fragments = 1000) {
  const name = (at) => `edge-${String(at + 1).padStart(3, "0")}`;
  const models = Array.from({ length: 10 }, (_, at) => `model-${at + 1}`);
  const arms = models.map((model, m) => {
    const count = fragments / models.length / 4;
    return {
      model, version: "1", state: "READY", reason: "", default_sla_us: 50000, pinned: "",
      arms: Array.from({ length: count }, (_, a) => ({
        arm: `base/chain-${a + 1}`, kind: "chain", variant: "base", technique: "", accuracy: 0.9,
        branches: [Array.from({ length: 4 }, (_, hop) => ({
          node: name((m * 37 + a * 4 + hop * 11) % nodes), fragment: `${m}-${a}-${hop}`, service_us: 900, memory_bytes: 1 << 20, codec: "raw", reach: 1, exits: [],
        }))],
      })),
    };
  });
  const links = new Map();
  for (const model of arms) for (const arm of model.arms) {
    let from = "";
    for (const hop of [...arm.branches[0], { node: "" }]) {
      if (from !== hop.node) links.set(`${from}>${hop.node}`, [from, hop.node]);
      from = hop.node;
    }
  }
  const structure = {
    version: "0", generation: 1, policy: "slack", explanation: "Made up.", draining: false, assumed: [], foresight: false, models: arms,
    nodes: Array.from({ length: nodes }, (_, at) => ({ node: name(at), state: "alive", cores: 4, memory_bytes: 1 << 30, macs_per_second: 1e9, emulated: false, speed_share: 1, address: "" })),
    links: [...links.values()].map(([from, to]) => ({ from, to, rate_bytes_per_second: 1e7, delay_us: 1000, jitter_us: 0, assumed: false })),
  };
  const pulse = (second) => ({
    second, in_flight: 100, generation: 1, twin: [], decisions: [], policy: {}, bandit: [],
    nodes: Object.fromEntries(structure.nodes.map(({ node }, at) => [node, { busy: (Math.sin(second + at) + 1) / 2, queued: at % 7, memory_used_bytes: (1 << 29) + at, computed_per_second: 50 }])),
    links: [...links.values()].map(([from, to], at) => [from, to, 5 + (at % 40), 1e5, 0]),
    models: Object.fromEntries(models.map((model) => [model, { forecasts: {}, rate: 40, ended: 2400, answered: 2400, held: 0.97, lost: {}, p50_us: 9e3, p95_us: 2e4, p99_us: 4e4, hops: [], total: [2400, 0],
      latest: { t: second, ended: 40, answered: 40, held: 39, lost: 0, mean_seconds: 0.01, predicted_seconds: 0.01, p95_seconds: 0.02, arms: {}, exits: {} } }])),
  });
  return { structure, pulse, history: { second: 0, bounds: [], models: {} } };
}

/** Comparisons of the twin for one model, ten seconds apart, with these errors of the mean response. */
export function compared(model, errors) {
  const figure = (mean) => ({ mean, half_width: 0 });
  return errors.map((error, at) => ({
    model, second: at * 10, error,
    observed: { offered_per_second: 20, answers_per_second: 20, response_seconds: 0.01, p95_seconds: 0.02, held: 0.98, loss: 0, accuracy: 0.9 },
    predicted: { offered_per_second: 20, answers_per_second: figure(20), response_seconds: figure(0.01 * (1 + error)), p95_seconds: figure(0.02), held: figure(0.98), loss: figure(0), accuracy: figure(0.9) },
  }));
}

/** Runs in the page: an EventSource that tells the made-up fleet, a pulse a second. */
export function fake({ structure, history, pulses }) {
  window.EventSource = class extends EventTarget {
    constructor() {
      super();
      const tell = (name, value) => this.dispatchEvent(new MessageEvent(name, { data: JSON.stringify(value) }));
      setTimeout(() => { tell("history", history); tell("structure", structure); tell("pulse", pulses[0]); }, 50);
      let at = 0;
      setInterval(() => { tell("pulse", pulses[(at += 1) % pulses.length]); dispatchEvent(new Event("made-up-pulse")); }, 1000);
    }

    close() {}
  };
}
