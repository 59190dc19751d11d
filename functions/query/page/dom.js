// Elements are made here and nowhere else: text is always text, never markup.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (selector, root = document) => root.querySelector(selector);

// el("button.quiet", {type: "button", onclick: go}, "Go"): attributes by name, listeners by on…, data-… as they are.
export function el(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const node = document.createElement(name);
  if (classes.length) node.classList.add(...classes);
  for (const [key, value] of Object.entries(attributes)) set(node, key, value);
  node.append(...kept(children));
  return node;
}

export function icon(name, ...classes) {
  const node = svg("svg", {class: ["icon", ...classes].join(" "), "aria-hidden": "true"});
  node.append(svg("use", {href: `#i-${name}`}));
  return node;
}

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...kept(children));
  return node;
}

export function fill(node, ...children) {
  node.replaceChildren(...kept(children));
  return node;
}

export function announce(text) {
  const region = $("#announcer");
  region.textContent = "";
  requestAnimationFrame(() => {
    region.textContent = text;
  });
}

export function toast(text, kind = "") {
  const note = el("div.toast", {"data-kind": kind}, text);
  $("#toasts").append(note);
  setTimeout(() => note.remove(), 6000);
}

// At most once a frame, however often it is called.
export function eachFrame(work) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      work();
    });
  };
}

export function options(select, entries, chosen) {
  fill(select, ...entries.map(([value, text]) => el("option", {value}, text)));
  if (entries.some(([value]) => value === chosen)) select.value = chosen;
}

function set(node, key, value) {
  if (value === undefined || value === null || value === false) return;
  if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
  else if (key in node && !key.includes("-") && key !== "list") node[key] = value;
  else node.setAttribute(key, value === true ? "" : value);
}

function kept(children) {
  return children.flat().filter((child) => child !== null && child !== undefined && child !== false);
}
