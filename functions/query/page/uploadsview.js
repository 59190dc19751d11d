// What is on its way: the whole at a glance, every file below, as many as there may be.

import {$, announce, eachFrame, el, fill, icon} from "./dom.js";
import {bytes, count, plural} from "./format.js";
import {BROKEN, OPEN} from "./uploads.js";
import {VirtualList} from "./virtual.js";

const ROW_HEIGHT = 52;
const SHOWN = {
  all: ["All", () => true],
  open: ["On the way", (item) => OPEN.has(item.state)],
  broken: ["Not searchable", (item) => BROKEN.has(item.state)],
};

export class UploadsView {
  #shown = "all";
  #announced = true;

  constructor(uploads, {open}) {
    this.uploads = uploads;
    this.open = open;
    this.node = $("#uploads");
    this.list = new VirtualList("Files", ROW_HEIGHT, (item, row) => this.#draw(item, row));
    this.#build();
    uploads.addEventListener(
      "change",
      eachFrame(() => this.#render()),
    );
  }

  #build() {
    this.title = el("h2", {id: "uploads-title"});
    this.bar = el("progress", {max: 1, value: 0, "aria-labelledby": "uploads-title"});
    this.tabs = Object.entries(SHOWN).map(([name, [label]]) =>
      el("button.tab", {
        type: "button",
        "data-shown": name,
        "data-label": label,
        "aria-pressed": "false",
        onclick: () => this.#show(name),
      }),
    );
    this.done = el("button.quiet", {type: "button", onclick: () => this.uploads.clearSettled()}, "Clear finished");
    fill(
      this.node,
      el("div.uploads-head", {}, this.title, this.done),
      this.bar,
      el("div.tabs", {role: "group", "aria-label": "Files shown"}, this.tabs),
      this.list.node,
    );
  }

  #show(name) {
    this.#shown = name;
    this.#render();
  }

  #render() {
    const counts = this.uploads.counts;
    this.node.hidden = counts.total === 0;
    if (!counts.open && this.#shown === "open") this.#shown = "all";
    this.title.textContent = summary(counts);
    for (const bar of [this.bar, $("#upload-badge-bar")]) {
      if (counts.looking)
        bar.removeAttribute("value"); // how much there is to do is not known yet
      else bar.value = counts.total ? share(this.uploads.items) : 0;
    }
    this.bar.hidden = counts.open === 0 && !counts.looking;
    this.done.hidden = counts.open === counts.total;
    const numbers = {all: counts.total, open: counts.open, broken: counts.broken};
    for (const tab of this.tabs) {
      const {shown, label} = tab.dataset;
      tab.textContent = `${label} ${count(numbers[shown])}`;
      tab.setAttribute("aria-pressed", String(shown === this.#shown));
      tab.hidden = shown !== "all" && numbers[shown] === 0 && shown !== this.#shown;
    }
    this.list.node.classList.toggle("short", numbers[this.#shown] < 6);
    this.list.show(this.uploads.items.filter(SHOWN[this.#shown][1]));
    this.#badge(counts);
    this.#announce(counts);
  }

  #badge(counts) {
    $("#upload-badge").hidden = counts.open === 0;
    $("#upload-badge-text").textContent = `${count(counts.total - counts.open)} of ${plural(counts.total, "file")}`;
  }

  #announce(counts) {
    if (counts.looking) return;
    if (counts.open === 0 && counts.total && !this.#announced) announce(summary(counts));
    this.#announced = counts.open === 0;
  }

  #draw(item, row) {
    if (row.drawn === item.state + item.sent + item.reason) return;
    row.drawn = item.state + item.sent + item.reason;
    row.dataset.state = item.state;
    fill(row, icon(ICONS[item.state] ?? "upload"), this.#name(item), this.#end(item));
  }

  #name(item) {
    const name = item.id
      ? el("button.link", {type: "button", onclick: () => this.open(item.id)}, item.name)
      : el("span.file-name", {}, item.name);
    return el("div.file", {title: item.reason || item.name}, name, el("span.file-state", {}, state(item)));
  }

  #end(item) {
    if (item.state === "refused" && item.file) {
      return el("button.quiet", {type: "button", onclick: () => this.uploads.retry(item)}, "Try again");
    }
    if (item.state === "sending") {
      return el("progress", {max: 1, value: item.sent, "aria-label": `${item.name}, share that was sent`});
    }
    return el("span.muted", {}, item.size === null ? "" : bytes(item.size));
  }
}

const ICONS = {searchable: "check", failed: "alert", refused: "alert"};

function state(item) {
  if (item.reason) return item.reason;
  return {
    waiting: "Waiting for its turn",
    sending: `Uploading, ${Math.floor(item.sent * 100)} %`,
    stored: "In the bucket, being made searchable",
    searchable: item.pages ? `Searchable, ${plural(item.pages, "page")}` : "Searchable",
  }[item.state];
}

function summary({total, open, searchable, broken, looking}) {
  if (looking) return `${plural(total, "file")} so far, looking for more`;
  const parts = [`${count(searchable)} of ${plural(total, "file")} searchable`];
  if (open) parts.push(`${count(open)} on the way`);
  if (broken) parts.push(`${count(broken)} not searchable`);
  return parts.join(", ");
}

// Half of the way is the upload, the other half being made searchable.
function share(items) {
  const each = {waiting: () => 0, sending: (item) => item.sent / 2, stored: () => 0.5};
  return items.reduce((sum, item) => sum + (each[item.state]?.(item) ?? 1), 0) / items.length;
}
