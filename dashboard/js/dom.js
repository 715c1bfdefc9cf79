// Elements from values. Text is always text: nothing here can turn a name into markup.

const SVG = "http://www.w3.org/2000/svg";

function dress(element, props) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "vars") for (const [key, set] of Object.entries(value)) element.style.setProperty(key, set);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  return element;
}

/** An HTML element. `vars` are CSS properties, `onclick` and the like are listeners. */
export function h(tag, props, ...children) {
  const element = dress(document.createElement(tag), props);
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An SVG element. */
export function s(tag, props, ...children) {
  const element = dress(document.createElementNS(SVG, tag), props);
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Changes an element's text only when it differs: what stands still is not laid out again. */
export function say(element, text) {
  const wanted = String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

/** Changes an attribute only when it differs. */
export function set(element, name, value) {
  const wanted = String(value);
  if (element.getAttribute(name) !== wanted) element.setAttribute(name, wanted);
}

export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
}

/** A table from column heads `[text, class]` and rows of cells. */
export function table(caption, heads, rows, props) {
  const head = heads.map(([text, kind]) => h("th", { scope: "col", class: kind }, text));
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": caption },
    h("table", props, h("caption", null, caption), h("thead", null, h("tr", null, head)), h("tbody", null, rows)));
}

/** A row whose cells take the classes of their columns. */
export function row(heads, cells, props) {
  return h("tr", props, cells.map((cell, at) => h("td", { class: heads[at]?.[1] }, cell)));
}

/** A named figure. */
export function figure(name, value, more) {
  return h("div", { class: "figure" }, h("dt", null, name), h("dd", null, value, more ? h("small", null, " " + more) : null));
}

export function bar(share, label) {
  const value = Math.max(0, Math.min(1, share || 0));
  const kind = value > 0.95 ? " full" : value > 0.75 ? " hot" : "";
  return h("span", { class: "bar" + kind, role: "img", "aria-label": label }, h("i", { vars: { transform: `scaleX(${value})` } }));
}
