// Numbers as people read them. One place, so that the same number looks the same everywhere.

export const NONE = "—";

const is = (value) => value !== null && value !== undefined && Number.isFinite(value);

export function percent(share, digits = 1) {
  if (!is(share)) return NONE;
  const value = share * 100;
  return `${value >= 99.95 || value === 0 ? value.toFixed(0) : value.toFixed(digits)} %`;
}

/** From microseconds. */
export function time(us) {
  if (!is(us)) return NONE;
  if (us < 1e3) return `${us.toFixed(0)} µs`;
  if (us < 1e4) return `${(us / 1e3).toFixed(2)} ms`;
  if (us < 1e5) return `${(us / 1e3).toFixed(1)} ms`;
  if (us < 1e6) return `${(us / 1e3).toFixed(0)} ms`;
  return `${(us / 1e6).toFixed(us < 1e7 ? 2 : 1)} s`;
}

export function bytes(count) {
  if (!is(count)) return NONE;
  if (count < 1e3) return `${count.toFixed(0)} B`;
  if (count < 1e6) return `${(count / 1e3).toFixed(1)} kB`;
  if (count < 1e9) return `${(count / 1e6).toFixed(1)} MB`;
  return `${(count / 1e9).toFixed(2)} GB`;
}

export function rate(perSecond) {
  if (!is(perSecond)) return NONE;
  return `${perSecond < 10 ? perSecond.toFixed(1) : perSecond.toFixed(0)}/s`;
}

export function count(value) {
  return is(value) ? Math.round(value).toLocaleString("en") : NONE;
}

export function clock(unixMs) {
  return new Date(unixMs).toLocaleTimeString("en-GB");
}

export function plural(number, word, more = `${word}s`) {
  return `${number} ${number === 1 ? word : more}`;
}

/** Names in a sentence. */
export function list(names) {
  if (names.length < 2) return names[0] ?? "";
  return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

export const place = (name) => name || "centre";
