// The documents: looked through page by page, opened, deleted.

import {confirmed} from "./dialogs.js";
import {$, announce, el, fill, icon, options, toast} from "./dom.js";
import {ago, bytes, count, folderOf, keyOf, moment, nameOf, plural, STATUS} from "./format.js";

const SHOWN = 50;
const SCANNED = 200;
const MOST_SCANS = 25;
const AT_ONCE = 4;
const REFRESH_MS = 2000;

export class Documents {
  #cursors = [null];
  #next = null;
  #rows = new Map();
  #selected = new Map();
  #turn = 0;
  #timer = null;

  constructor(api, {read, collections, mayDelete, changed}) {
    Object.assign(this, {api, read, mayDelete, changed});
    this.node = $("#documents-list");
    this.text = $("#filter-text");
    this.status = $("#filter-status");
    this.collection = $("#filter-collection");
    this.#build();
    let typed = null;
    this.text.addEventListener("input", () => { clearTimeout(typed); typed = setTimeout(() => this.#restart(), 250); });
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
    const one = documents.length === 1;
    const agreed = await confirmed({
      title: one ? `Delete ${nameOf(documents[0].uri)}?` : `Delete ${plural(documents.length, "document")}?`,
      text: `No answer will use ${one ? "it" : "them"} from then on, and the bucket loses ${one ? "the file" : "the files"}, too. This cannot be undone.`,
      agree: one ? "Delete" : `Delete ${count(documents.length)}`,
    });
    if (!agreed) return false;
    const failed = await this.#removeAll(documents);
    const gone = documents.length - failed.length;
    if (gone) toast(gone === 1 ? `Deleted ${nameOf(documents[0].uri)}` : `Deleted ${plural(gone, "document")}`);
    if (failed.length) toast(`${plural(failed.length, "document")} could not be deleted: ${failed[0].message}`, "bad");
    this.changed();
    await this.#load();
    return failed.length === 0;
  }

  async #removeAll(documents) {
    const waiting = [...documents];
    const failed = [];
    const work = async () => {
      for (let document = waiting.shift(); document; document = waiting.shift()) {
        try {
          await this.api.delete(`v1/documents/${document.id}`);
          this.#selected.delete(document.id);
        } catch (error) {
          failed.push(error);
        }
      }
    };
    await Promise.all(Array.from({length: AT_ONCE}, work));
    return failed;
  }

  #build() {
    const all = this.mayDelete && el("input", {type: "checkbox", "aria-label": "Select all on this page", onchange: () => this.#selectAll(all.checked)});
    this.all = all;
    this.rows = el("tbody");
    const columns = [["Name", "name"], ["Status", "state"], ["Collection", "extra"], ["Pages", "extra number"], ["Size", "extra number"], ["Changed", "extra"]];
    this.table = el("table.documents", {}, el("thead", {}, el("tr", {},
      all && el("th", {scope: "col", className: "tick"}, all),
      columns.map(([text, kind]) => el("th", {scope: "col", className: kind}, text)),
      this.mayDelete && el("th", {scope: "col", className: "end"}, el("span.visually-hidden", {}, "Delete")))), this.rows);
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

  #restart() {
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
    const turn = this.#turn += 1;
    try {
      const {items, next, scanned} = await this.#fetched(turn);
      if (turn !== this.#turn) return;
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
    const text = this.text.value.trim().toLowerCase();
    const items = [];
    let cursor = this.#cursors.at(-1);
    let scanned = 0;
    for (let scan = 0; scan < MOST_SCANS; scan += 1) {
      const page = await this.api.get("v1/documents", {
        limit: text ? SCANNED : SHOWN, cursor, status: this.status.value, collection: this.collection.value,
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
    if (this.text.value.trim()) return this.#next ? `None among the newest ${count(scanned)}; older ones may be.` : "No document has that in its name.";
    if (this.status.value || this.collection.value) return "No document is like that.";
    return this.mayDelete ? "Nothing here yet. Drop files anywhere on this page to begin." : "Nothing here yet.";
  }

  // Drawn anew only when it changed, so that the focus stays where it is.
  #row(row, document) {
    const stamp = `${document.status}${document.updated_at}${document.reason}`;
    if (row.stamp !== stamp) {
      row.stamp = stamp;
      fill(row, ...this.#cells(document));
    }
    row.document = document;
    const box = $("input", row);
    if (box) box.checked = this.#selected.has(document.id);
    row.classList.toggle("selected", this.#selected.has(document.id));
  }

  #cells(document) {
    const {status, collection, pages, uri, updated_at: changed} = document;
    const name = nameOf(uri);
    const box = el("input", {type: "checkbox", "aria-label": `Select ${name}`, onchange: () => this.#select(document, box.checked)});
    const gone = status === "deleted";
    const more = [folderOf(uri), collection, pages && plural(pages, "page"), document.bytes !== null && bytes(document.bytes)].filter(Boolean);
    return [
      this.mayDelete && el("td.tick", {}, !gone && box),
      el("td.name", {},
        el("button.link", {type: "button", onclick: () => this.read([{documentId: document.id, uri}])}, name),
        el("span.folder", {}, folderOf(uri)),
        el("span.narrow", {}, more.join(" · ")),
        document.reason && el("span.reason", {}, document.reason)),
      el("td.state", {}, el("span.badge", {"data-status": status}, STATUS[status])),
      el("td.extra", {}, collection),
      el("td.extra.number", {}, pages ? count(pages) : "–"),
      el("td.extra.number", {}, bytes(document.bytes)),
      el("td.extra", {}, el("time", {dateTime: changed, title: moment(changed)}, ago(changed))),
      this.mayDelete && el("td.end", {}, !gone && el("button.quiet.only-icon", {
        type: "button", "aria-label": `Delete ${name}`, title: "Delete", onclick: () => this.remove([document]),
      }, icon("trash"))),
    ].filter(Boolean);
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
    if (this.all) this.all.checked = this.#rows.size > 0 && [...this.#rows.keys()].every((id) => this.#selected.has(id));
    if (bar.hidden) return;
    fill(bar, el("span", {}, `${plural(this.#selected.size, "document")} selected`),
      el("button.danger", {type: "button", onclick: () => this.remove([...this.#selected.values()])}, icon("trash"), "Delete"),
      el("button.quiet", {type: "button", onclick: () => { this.#selected.clear(); this.#drawSelection(); }}, "Select none"));
  }
}
