// Where everything is drawn: the centre first, then nodes in the order in which requests reach them. Pure.

const GAP = { x: 92, y: 30 };
const PAD = 14;

/** Mean position of every node on the routes that cross it; nodes that nothing crosses come last. */
export function depths(structure) {
  const seen = new Map();
  for (const model of structure.models) {
    for (const arm of model.arms) {
      for (const hops of arm.branches) {
        hops.forEach((hop, at) => {
          const [sum, count] = seen.get(hop.node) ?? [0, 0];
          seen.set(hop.node, [sum + at, count + 1]);
        });
      }
    }
  }
  return new Map(structure.nodes.map(({ node }) => {
    const known = seen.get(node);
    return [node, known ? known[0] / known[1] : Infinity];
  }));
}

/** Size of a node's card by how many there are and how wide the picture is. */
export function cardSize(count, width) {
  if (width < 640) return count > 24 ? { w: 104, h: 58, tight: true } : { w: 142, h: 92, tight: false };
  if (count > 40) return { w: 104, h: 58, tight: true };
  if (count > 12) return { w: 138, h: 84, tight: false };
  return { w: 184, h: 104, tight: false };
}

/** The order in which nodes are drawn: as before, as far as they were there, so that a new plan moves
 * fragments and not the whole picture; new ones by their depth. */
export function order(structure, before = []) {
  const depth = depths(structure);
  const there = new Set(structure.nodes.map(({ node }) => node));
  const kept = before.filter((name) => there.has(name));
  const known = new Set(kept);
  const fresh = [...there].filter((name) => !known.has(name)).sort((a, b) => {
    const [x, y] = [depth.get(a), depth.get(b)];
    return x === y ? a.localeCompare(b, "en", { numeric: true }) : x < y ? -1 : 1;
  });
  return [...kept, ...fresh];
}

/** Places for the centre and every node, in this order, and the height that they take. */
export function layout(names, width) {
  const size = cardSize(names.length, width);
  const places = new Map();
  if (width < 640) {
    const gap = size.tight ? 10 : 18;
    const columns = Math.max(1, Math.floor((width - 2 * PAD + gap) / (size.w + gap)));
    const left = (width - columns * size.w - (columns - 1) * gap) / 2;
    const center = { x: width / 2, y: PAD + 22 };
    names.forEach((name, at) => {
      const [column, row] = [at % columns, Math.floor(at / columns)];
      places.set(name, { x: left + column * (size.w + gap) + size.w / 2, y: 96 + row * (size.h + 34) + size.h / 2 });
    });
    const rows = Math.ceil(names.length / columns);
    return { size, center, places, height: 96 + rows * (size.h + 34) };
  }
  const gapX = size.tight ? 16 : names.length > 12 ? 40 : GAP.x;
  const gapY = size.tight ? 16 : GAP.y;
  const room = Math.max(1, Math.floor((width - 190 - PAD) / (size.w + gapX)));
  // As square as it may be: few nodes in few columns, many in as many as fit.
  const wanted = Math.max(1, Math.ceil(Math.sqrt(names.length * 1.1)));
  const columns = Math.min(room, names.length > 12 ? room : wanted);
  const rows = Math.max(1, Math.ceil(names.length / columns));
  const height = Math.max(250, 2 * PAD + rows * (size.h + gapY) - gapY);
  const used = Math.ceil(names.length / rows);
  const step = used > 1 ? Math.min((width - 190 - PAD - size.w) / (used - 1), (size.w + gapX) * 1.5) : 0;
  const first = 190 + size.w / 2 + Math.max(0, (width - 190 - PAD - size.w - step * (used - 1)) / 2);
  names.forEach((name, at) => {
    const [column, row] = [Math.floor(at / rows), at % rows];
    const inColumn = Math.min(rows, names.length - column * rows);
    const top = (height - inColumn * (size.h + gapY) + gapY) / 2;
    places.set(name, { x: first + column * step, y: top + row * (size.h + gapY) + size.h / 2 });
  });
  return { size, center: { x: 76, y: height / 2 }, places, height };
}

/** A bow from one place to another; the way back bows to the other side. */
export function bow(from, to) {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length = Math.hypot(dx, dy) || 1;
  const lift = Math.min(56, length * 0.16);
  return { from, to, by: { x: (from.x + to.x) / 2 + (dy / length) * lift, y: (from.y + to.y) / 2 - (dx / length) * lift } };
}

/** The point of a bow at t in 0..1. */
export function along({ from, by, to }, t) {
  const u = 1 - t;
  return { x: u * u * from.x + 2 * u * t * by.x + t * t * to.x, y: u * u * from.y + 2 * u * t * by.y + t * t * to.y };
}

/** Its direction there, in degrees. */
export function heading({ from, by, to }, t) {
  const u = 1 - t;
  const dx = 2 * u * (by.x - from.x) + 2 * t * (to.x - by.x);
  const dy = 2 * u * (by.y - from.y) + 2 * t * (to.y - by.y);
  return (Math.atan2(dy, dx) * 180) / Math.PI;
}

export const path = ({ from, by, to }) => `M${from.x.toFixed(1)} ${from.y.toFixed(1)}Q${by.x.toFixed(1)} ${by.y.toFixed(1)} ${to.x.toFixed(1)} ${to.y.toFixed(1)}`;
