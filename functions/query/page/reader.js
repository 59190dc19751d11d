// A document's text beside the page, with what was cited from it highlighted.

import {head} from "./dialogs.js";
import {$, el, fill, icon} from "./dom.js";
import {facts} from "./facts.js";
import {nameOf} from "./format.js";
import {cut, flowing, locate, stretches} from "./text.js";

const AROUND = 6;
const PAGE = 30;
const TABULAR = /csv|json|spreadsheet|excel|x-/;

// A spot is a place in a document: {documentId, uri, generation, marker} with {at, start, end, quote} of a citation, or
// {chunkId} of a passage, or none of these: the document's beginning.
export class Reader {
  #spots = [];
  #index = 0;
  #loaded = null;
  #turn = 0;

  constructor(api, {remove, explain}) {
    Object.assign(this, {api, remove, explain});
    this.dialog = $("#sheet");
    this.steps = this.#stepper();
    this.facts = el("div.sheet-facts");
    this.body = el("div.sheet-body", {tabIndex: 0, role: "region", "aria-label": "Text of the document"});
    fill(
      this.dialog,
      head("", "sheet-title", () => this.close()),
      this.steps,
      this.facts,
      this.body,
    );
    this.dialog.addEventListener("keydown", (event) => this.#key(event));
  }

  async open(spots, index = 0) {
    this.#spots = spots;
    if (!this.dialog.open) {
      this.#loaded = null;
      this.#draw(spots[index]);
      this.dialog.showModal();
    }
    await this.#go(index);
  }

  close() {
    this.dialog.close();
  }

  async #go(index) {
    this.#index = index;
    const turn = (this.#turn += 1);
    const spot = this.#spots[index];
    this.#draw(spot);
    try {
      if (!this.#holds(spot)) {
        fill(this.body, el("p.status", {}, el("span.spinner", {"aria-hidden": "true"}), "Opening"));
        const loaded = await this.#load(spot);
        if (turn !== this.#turn) return;
        this.#loaded = loaded;
      }
      this.#draw(spot);
      this.#render(spot);
    } catch (error) {
      if (turn !== this.#turn) return;
      this.#loaded = null;
      const text = error.status === 404 ? "This document is not there any more." : error.message;
      fill(this.body, el("div.problem", {role: "alert"}, icon("alert"), el("span", {}, text)));
    }
  }

  #holds(spot) {
    const chunks = this.#loaded?.chunks ?? [];
    if (this.#loaded?.document.id !== spot.documentId) return false;
    if (spot.chunkId) return chunks.some((one) => one.id === spot.chunkId);
    return spot.start === undefined || chunks.some((one) => one.start <= spot.start && spot.end <= one.end);
  }

  async #load(spot) {
    const path = `v1/documents/${spot.documentId}`;
    const [document, page] = await Promise.all([
      this.api.get(path),
      this.#page(path, {limit: PAGE, at: spot.at, chunk_id: spot.chunkId}),
    ]);
    const loaded = {
      document,
      path,
      chunks: page.items,
      generation: page.generation,
      total: page.total,
      before: page.previous_cursor,
      after: page.next_cursor,
    };
    if (loaded.before) await this.#more(loaded, "before", AROUND);
    return loaded;
  }

  // A chunk that is no more belongs to an older version: then the document is opened as it is now.
  #page(path, query) {
    return this.api.get(`${path}/chunks`, query).catch((error) => {
      if (error.status !== 404 || !query.chunk_id) throw error;
      return this.api.get(`${path}/chunks`, {limit: PAGE});
    });
  }

  async #more(loaded, side, limit = PAGE) {
    const page = await this.api.get(`${loaded.path}/chunks`, {limit, cursor: loaded[side]});
    if (side === "before")
      Object.assign(loaded, {chunks: [...page.items, ...loaded.chunks], before: page.previous_cursor});
    else Object.assign(loaded, {chunks: [...loaded.chunks, ...page.items], after: page.next_cursor});
  }

  #key(event) {
    const step = event.altKey && {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (!step || this.#spots.length < 2) return;
    event.preventDefault();
    this.#step(step);
  }

  #step(by) {
    this.#go((this.#index + by + this.#spots.length) % this.#spots.length);
  }

  #stepper() {
    const button = (by, name, label) =>
      el(
        "button.quiet.only-icon",
        {
          type: "button",
          "data-step": name,
          "aria-label": label,
          title: `${label} (Alt + arrow)`,
          onclick: () => this.#step(by),
        },
        icon(name),
      );
    this.place = el("span", {"aria-live": "polite"});
    return el(
      "div.steps",
      {role: "group", "aria-label": "Places in the answer"},
      button(-1, "left", "Previous"),
      this.place,
      button(1, "right", "Next"),
    );
  }

  #draw(spot) {
    $("#sheet-title").textContent = nameOf(spot.uri);
    const kind = spot.quote === undefined ? "Source" : "Citation";
    this.steps.hidden = this.#spots.length < 2;
    this.place.textContent = `${kind} ${this.#index + 1} of ${this.#spots.length}`;
    const document = this.#loaded?.document;
    const plain = spot.at === undefined && !spot.chunkId;
    const act = this.remove && (() => this.#remove(document));
    fill(this.facts, document?.id === spot.documentId && facts(document, {open: plain, remove: act, explain: this.explain}));
  }

  async #remove(document) {
    if (await this.remove([document])) this.close();
  }

  #render(spot) {
    const {chunks, generation, document} = this.#loaded;
    if (!chunks.length) {
      const text =
        document.reason ?? (document.status === "deleted" ? "It was deleted." : "There is no text to read yet.");
      fill(this.body, el("p.muted", {}, text));
      return;
    }
    const parts = stretches(chunks);
    const {marks, active} = this.#highlights(parts, spot);
    const changed = spot.generation && generation !== spot.generation;
    fill(
      this.body,
      changed &&
        el(
          "p.warning",
          {},
          icon("alert"),
          el(
            "span",
            {},
            active
              ? "This document was changed since the answer was made."
              : "This document was changed since the answer was made, and the passage does not stand in it like that any more.",
          ),
        ),
      this.#moreButton("before", "Show what comes before"),
      el("div.text", {}, this.#sections(parts, marks, active)),
      this.#moreButton("after", "Show more"),
    );
    this.#show(active);
  }

  // Of this document: what the answer cites, or the passage that was found.
  #highlights(parts, spot) {
    const here = this.#spots.filter(
      (one) => one.documentId === spot.documentId && (one.start !== undefined || one === spot),
    );
    const marks = here
      .map((one) => ({spot: one, ...(this.#range(parts, one) ?? {start: -1, end: -1})}))
      .filter((one) => one.end > 0);
    const active = marks.find((one) => one.spot === spot) ?? null;
    if (active) marks.sort((one, other) => (other === active) - (one === active));
    return {marks, active};
  }

  #range(parts, spot) {
    if (spot.start !== undefined) return locate(parts, spot);
    const chunk = this.#loaded.chunks.find((one) => one.id === spot.chunkId);
    return chunk ? {start: chunk.start, end: chunk.end} : null;
  }

  #sections(parts, marks, active) {
    const nodes = [];
    let page = null;
    let path = [];
    const prose = !TABULAR.test(this.#loaded.document.media_type ?? "");
    for (const part of parts) {
      if (part.page !== page && part.page !== null) nodes.push(el("p.page-label", {}, `Page ${part.page}`));
      const same = part.headings.findIndex((heading, level) => heading !== path[level]);
      if (same >= 0) nodes.push(el("h3", {}, part.headings.slice(same).join(" › ")));
      const shown = prose ? {...part, text: flowing(part.text)} : part;
      nodes.push(
        el(
          "p",
          {},
          cut(shown, marks).map(({text, mark}) => this.#piece(text, mark, active)),
        ),
      );
      page = part.page;
      path = part.headings;
    }
    return nodes;
  }

  #piece(text, mark, active) {
    if (!mark) return text;
    return el(mark === active ? "mark.active" : "mark", {tabIndex: -1}, text);
  }

  #moreButton(side, label) {
    if (!this.#loaded[side]) return null;
    const button = el("button.quiet.wide", {type: "button"}, label);
    button.addEventListener("click", async () => {
      button.disabled = true;
      const left = this.body.scrollHeight - this.body.scrollTop;
      try {
        await this.#more(this.#loaded, side);
      } catch (error) {
        button.replaceWith(el("p.warning", {}, error.message));
        return;
      }
      const top = this.body.scrollTop;
      this.#render({...this.#spots[this.#index], generation: undefined});
      this.body.scrollTop = side === "before" ? this.body.scrollHeight - left : top;
      this.body.focus({preventScroll: true});
    });
    return button;
  }

  #show(active) {
    const mark = active && $("mark.active", this.body);
    if (!mark) {
      this.body.scrollTop = 0;
      return;
    }
    mark.scrollIntoView({block: "center"});
    if (!window.document.activeElement?.dataset.step) mark.focus({preventScroll: true});
  }
}
