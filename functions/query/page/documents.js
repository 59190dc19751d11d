// The documents: looked through page by page, opened, deleted.

import {$, announce, el, fill, icon, options} from "./dom.js";
import {count, keyOf, plural} from "./format.js";
import {removed} from "./removal.js";
import {cells, COLUMNS} from "./row.js";

const SHOWN = 50;
const SCANNED = 200;
const MOST_SCANS = 25;
const REFRESH_MS = 2000;

export class Documents {
  #cursors = [null];
  #next = null;
  #rows = new Map();
  #selected = new Map();
  #turn = 0;
  #timer = null;
  #typing = null;
  #wanted = "";

  constructor(api, {read, collections, mayDelete, changed}) {
    Object.assign(this, {api, mayDelete, changed});
    this.acts = {
      open: (document) => read([{documentId: document.id, uri: document.uri}]),
      select: mayDelete && ((document, on) => this.#select(document, on)),
      remove: mayDelete && ((document) => this.remove([document])),
    };
    this.node = $("#documents-list");
    this.text = $("#filter-text");
    this.status = $("#filter-status");
    this.collection = $("#filter-collection");
    this.#build();
    this.#wanted = this.#typed();
    this.text.addEventListener("input", () => {
      clearTimeout(this.#typing);
      this.#typing = setTimeout(() => this.#restart(), 250);
    });
    for (const select of [this.status, this.collection]) select.addEventListener("change", () => this.#restart());
    collections.addEventListener("change", () => this.#collections(collections.items));
    this.#collections([]);
  }

  // Shown again, or something changed: the same page with what it holds now.
  async show() {
    await this.#load();
  }

  hide() {
    clearTimeout(this.#timer);
  }

  // True when they were deleted.
  async remove(documents) {
    const done = await removed(this.api, documents);
    if (!done) return false;
    for (const id of done.gone) this.#selected.delete(id);
    this.changed();
    await this.#load();
    return done.failed.length === 0;
  }

  #build() {
    const all =
      this.mayDelete &&
      el("input", {
        type: "checkbox",
        "aria-label": "Select all on this page",
        onchange: () => this.#selectAll(all.checked),
      });
    this.all = all;
    this.rows = el("tbody");
    this.table = el(
      "table.documents",
      {},
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          all && el("th", {scope: "col", className: "tick"}, all),
          COLUMNS.map(([text, kind]) => el("th", {scope: "col", className: kind}, text)),
          this.mayDelete && el("th", {scope: "col", className: "end"}, el("span.visually-hidden", {}, "Delete")),
        ),
      ),
      this.rows,
    );
    this.note = el("p.muted.list-note");
    this.back = el("button", {type: "button", onclick: () => this.#turnBack()}, icon("left"), "Newer");
    this.on = el("button", {type: "button", onclick: () => this.#turnOn()}, "Older", icon("right"));
    this.pager = el("nav.pager", {"aria-label": "Pages of documents"}, this.back, this.on);
    fill(this.node, this.table, this.note, this.pager);
  }

  #collections(items) {
    options(this.collection, [["", "Every collection"], ...items.map(({name}) => [name, name])], this.collection.value);
    fill($("#collection-names"), ...items.map(({name}) => el("option", {value: name})));
  }

  #typed() {
    return this.text.value.trim().toLowerCase();
  }

  // What was typed counts from here on: a list that is looked at again meanwhile stays what it is.
  #restart() {
    clearTimeout(this.#typing);
    this.#wanted = this.#typed();
    this.#cursors = [null];
    this.#selected.clear();
    this.#load();
  }

  #turnOn() {
    this.#cursors.push(this.#next);
    this.#load().then(() => this.#top());
  }

  #turnBack() {
    this.#cursors.pop();
    this.#load().then(() => this.#top());
  }

  #top() {
    $("#main").scrollTo({top: 0});
    announce(this.note.textContent || `${plural(this.#rows.size, "document")} on this page`);
  }

  async #load() {
    clearTimeout(this.#timer);
    const turn = (this.#turn += 1);
    try {
      const {items, next, scanned} = await this.#fetched(turn);
      if (turn !== this.#turn) return;
      if (!items.length && this.#cursors.length > 1) {
        // the last ones of the last page were deleted
        this.#cursors.pop();
        await this.#load();
        return;
      }
      this.#next = next;
      this.#draw(items, scanned);
      if (items.some(({status}) => status === "pending" || status === "processing")) {
        this.#timer = setTimeout(() => this.#load(), REFRESH_MS);
      }
    } catch (error) {
      if (turn === this.#turn) this.#say(error.message);
    }
  }

  // With a text to look for, on through the list until a page is full.
  async #fetched(turn) {
    const text = this.#wanted;
    const items = [];
    let cursor = this.#cursors.at(-1);
    let scanned = 0;
    for (let scan = 0; scan < MOST_SCANS; scan += 1) {
      const page = await this.api.get("v1/documents", {
        limit: text ? SCANNED : SHOWN,
        cursor,
        status: this.status.value,
        collection: this.collection.value,
      });
      scanned += page.items.length;
      items.push(...page.items.filter((one) => !text || keyOf(one.uri).toLowerCase().includes(text)));
      cursor = page.next_cursor;
      if (!text || !cursor || items.length >= SHOWN || turn !== this.#turn) break;
      this.#say(`Looked at ${count(scanned)} documents`);
    }
    return {items, next: cursor, scanned};
  }

  #draw(items, scanned) {
    const known = this.#rows;
    this.#rows = new Map(items.map((item) => [item.id, known.get(item.id) ?? el("tr")]));
    items.forEach((item) => this.#row(this.#rows.get(item.id), item));
    for (const [id, row] of known) if (!this.#rows.has(id)) row.remove();
    let next = null;
    for (const row of [...this.#rows.values()].reverse()) {
      if (row.parentNode !== this.rows || row.nextSibling !== next) this.rows.insertBefore(row, next);
      next = row;
    }
    this.table.hidden = items.length === 0;
    this.#say(items.length ? "" : this.#emptiness(scanned));
    this.back.disabled = this.#cursors.length === 1;
    this.on.disabled = !this.#next;
    this.pager.hidden = this.back.disabled && this.on.disabled;
    this.#drawSelection();
  }

  #say(text) {
    this.note.textContent = text;
    this.note.hidden = !text;
  }

  #emptiness(scanned) {
    if (this.#wanted)
      return this.#next
        ? `None among the newest ${count(scanned)}; older ones may be.`
        : "No document has that in its name.";
    if (this.status.value || this.collection.value) return "No document is like that.";
    return this.mayDelete ? "Nothing here yet. Add files, or drop them anywhere on this page." : "Nothing here yet.";
  }

  // Drawn anew only when it changed, so that the focus stays where it is.
  #row(row, document) {
    const stamp = `${document.status}${document.updated_at}${document.reason}`;
    if (row.stamp !== stamp) {
      row.stamp = stamp;
      fill(row, ...cells(document, this.acts));
    }
    row.document = document;
    const box = $("input", row);
    if (box) box.checked = this.#selected.has(document.id);
    row.classList.toggle("selected", this.#selected.has(document.id));
  }

  #select(document, on) {
    if (on) this.#selected.set(document.id, document);
    else this.#selected.delete(document.id);
    this.#drawSelection();
  }

  #selectAll(on) {
    for (const {document} of this.#rows.values()) {
      if (document.status !== "deleted" && on) this.#selected.set(document.id, document);
      else this.#selected.delete(document.id);
    }
    this.#drawSelection();
  }

  #drawSelection() {
    const bar = $("#selection");
    bar.hidden = this.#selected.size === 0;
    for (const row of this.#rows.values()) this.#row(row, row.document);
    if (this.all)
      this.all.checked = this.#rows.size > 0 && [...this.#rows.keys()].every((id) => this.#selected.has(id));
    if (bar.hidden) return;
    fill(
      bar,
      el("span", {}, `${plural(this.#selected.size, "document")} selected`),
      el(
        "button.danger",
        {type: "button", onclick: () => this.remove([...this.#selected.values()])},
        icon("trash"),
        "Delete",
      ),
      el(
        "button.quiet",
        {
          type: "button",
          onclick: () => {
            this.#selected.clear();
            this.#drawSelection();
          },
        },
        "Select none",
      ),
    );
  }
}
