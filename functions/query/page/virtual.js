// A list of any length with only the rows in view in the document. All rows are equally high.

import {el, eachFrame} from "./dom.js";

const SPARE = 6;

export class VirtualList {
  #rows = new Map();
  #items = [];

  // draw(item, row) brings a row, an <li>, up to date.
  constructor(label, rowHeight, draw) {
    this.rowHeight = rowHeight;
    this.draw = draw;
    this.list = el("ul.virtual-rows", {"aria-label": label});
    this.node = el("div.virtual", {tabIndex: 0, role: "group", "aria-label": label}, this.list);
    this.render = eachFrame(() => this.#render());
    this.node.addEventListener("scroll", this.render, {passive: true});
    new ResizeObserver(this.render).observe(this.node);
  }

  show(items) {
    this.#items = items;
    this.render();
  }

  #render() {
    const height = this.rowHeight;
    this.list.style.height = `${this.#items.length * height}px`;
    const first = Math.max(0, Math.floor(this.node.scrollTop / height) - SPARE);
    const last = Math.min(
      this.#items.length,
      Math.ceil((this.node.scrollTop + this.node.clientHeight) / height) + SPARE,
    );
    const wanted = new Set(this.#items.slice(first, last));
    for (const [item, row] of this.#rows) {
      if (wanted.has(item)) continue;
      row.remove();
      this.#rows.delete(item);
    }
    let next = null; // backwards, so that rows stand in the document in the order they are seen in
    for (let index = last - 1; index >= first; index -= 1) next = this.#place(this.#items[index], index, next);
  }

  #place(item, index, next) {
    let row = this.#rows.get(item);
    if (!row) {
      row = el("li.virtual-row");
      this.#rows.set(item, row);
    }
    if (row.parentNode !== this.list || row.nextSibling !== next) this.list.insertBefore(row, next);
    row.style.transform = `translateY(${index * this.rowHeight}px)`;
    row.setAttribute("aria-setsize", this.#items.length);
    row.setAttribute("aria-posinset", index + 1);
    this.draw(item, row);
    return row;
  }
}
