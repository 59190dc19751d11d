// Why a document is, or is not, among what a question finds: its rank at each stage, and where it left.

import {head} from "./dialogs.js";
import {$, el, fill, icon} from "./dom.js";
import {pairs} from "./facts.js";
import {count, keyOf, plural} from "./format.js";

const PAGE = 200;
const MOST_PAGES = 25;
const MOST_NAMED = 50;
const TYPING_MS = 250;
const LEFT = {
  in_result: "It is in the result.",
  not_searchable: "It cannot be searched.",
  other_collection: "It is in another collection.",
  acl: "The labels of this question leave it out.",
  filter: "The filter of this question leaves it out.",
  no_match: "Nothing in it matches.",
  below_candidates: "It ranks too low to be looked at.",
  duplicate: "Another document has the same text and ranks higher.",
  top_k: "It was looked at, and others were better.",
};
const FATES = {
  chosen: "in the result",
  duplicate: "the same as a better one",
  share: "over their document's share",
  rank: "ranked too low",
};

export class Explain {
  #asked = {};
  #turn = 0;

  constructor(api) {
    this.api = api;
    this.dialog = $("#explain");
    this.question = el("input", {required: true, maxLength: 4000});
    this.document = el("select", {required: true});
    this.name = el("input", {type: "search", maxLength: 200, placeholder: "Name contains…"});
    this.within = el("p.hint");
    this.body = el("div.sheet-body", {tabIndex: 0, role: "region", "aria-label": "Where it stands", "aria-live": "polite"});
    this.#build();
  }

  // asked: what was asked, {question, collection, mode, top_k}. documents: those to choose from, {id, uri}, best first.
  open(asked, documents) {
    this.#asked = asked;
    this.known = documents;
    this.question.value = asked.question;
    this.name.value = "";
    this.within.textContent = `Collection ${asked.collection} · ${asked.mode} · ${plural(asked.top_k, "passage")} read`;
    this.#offer([]);
    fill(this.body);
    if (!this.dialog.open) this.dialog.showModal();
    if (this.question.value && this.document.value) this.#explain();
    else (this.question.value ? this.name : this.question).focus();
  }

  #build() {
    const field = (label, input) => el("label.choice", {}, el("span", {}, label), input);
    const form = el(
      "form.explain-form",
      {},
      field("Question", this.question),
      el("div.explain-row", {}, field("Document", this.document), field("Another one", this.name)),
      el("div.explain-row", {}, this.within, el("button.primary", {type: "submit"}, "Explain")),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#explain();
    });
    this.document.addEventListener("change", () => this.#explain());
    let typed = null;
    this.name.addEventListener("input", () => {
      clearTimeout(typed);
      typed = setTimeout(() => this.#find(), TYPING_MS);
    });
    fill(this.dialog, head("Why is it found, or not?", "explain-title", () => this.dialog.close()), form, this.body);
  }

  #offer(named) {
    const group = (label, documents) =>
      documents.length > 0 &&
      el(
        "optgroup",
        {label},
        documents.map(({id, uri}) => el("option", {value: id}, keyOf(uri))),
      );
    const known = new Set(this.known.map(({id}) => id));
    const others = named.filter(({id}) => !known.has(id));
    fill(this.document, group("In this result", this.known), group("By that name", others));
    if (named.length) this.document.value = named[0].id;
  }

  async #find() {
    const text = this.name.value.trim().toLowerCase();
    const turn = (this.#turn += 1);
    try {
      const named = text ? await this.#named(text) : [];
      if (turn !== this.#turn) return;
      this.#offer(named);
      if (named.length) await this.#explain();
      else if (text) fill(this.body, el("p.muted", {}, "No document has that in its name."));
    } catch (error) {
      this.#failed(error);
    }
  }

  async #named(text) {
    const found = [];
    let cursor = null;
    for (let page = 0; page < MOST_PAGES && found.length < MOST_NAMED && (page === 0 || cursor); page += 1) {
      const {items, next_cursor: next} = await this.api.get("v1/documents", {limit: PAGE, cursor});
      found.push(...items.filter(({uri, status}) => status !== "deleted" && keyOf(uri).toLowerCase().includes(text)));
      cursor = next;
    }
    return found.slice(0, MOST_NAMED);
  }

  async #explain() {
    const question = this.question.value.trim();
    if (!question || !this.document.value) return;
    const turn = (this.#turn += 1);
    const {collection, mode, top_k} = this.#asked;
    fill(this.body, el("p.status", {}, el("span.spinner", {"aria-hidden": "true"}), "Ranking every passage"));
    try {
      const asked = {question, document_id: this.document.value, collection, mode, top_k};
      const found = await this.api.get("v1/explain", asked);
      if (turn === this.#turn) this.#draw(found, top_k);
    } catch (error) {
      if (turn === this.#turn) this.#failed(error);
    }
  }

  #failed(error) {
    fill(this.body, el("div.problem", {role: "alert"}, icon("alert"), el("span", {}, error.message)));
  }

  #draw(found, top_k) {
    const inside = found.in_result;
    fill(
      this.body,
      el(
        "div.verdict",
        {"data-in": String(inside)},
        icon(inside ? "check" : "alert"),
        el("div", {}, el("h3", {}, LEFT[found.reason]), el("p", {}, sentence(found.detail))),
      ),
      found.scope === null ? null : standing(found, top_k),
      pairs([
        ["Could be found", found.scope === null ? null : plural(found.scope, "passage")],
        ["Of this document", found.chunks === null ? null : plural(found.chunks, "passage")],
        ["Looked at", found.candidates ? plural(found.candidates, "passage") : null],
        ["Its own among those", fates(found.passages)],
        ["Retrieval", found.retrieval],
      ]),
    );
  }
}

function standing(found, top_k) {
  const {scope, candidates} = found;
  const rows = [
    ["By meaning", found.meaning?.rank, scope, found.meaning?.score],
    ["By its words", found.words?.rank, scope, found.words?.score],
    ["By both", found.fused?.rank, scope, found.fused?.score],
    ["Looked at", found.fetched, candidates],
    ["Re-ranked", found.reranked, candidates],
    ["In the result", found.place, Math.min(top_k, candidates)],
  ];
  const names = ["Stage", "Rank", "", "Score"];
  return el(
    "table.standing",
    {},
    el("caption.visually-hidden", {}, "Rank of the document's best passage at each stage"),
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        names.map((name, index) => (name ? el("th", {scope: "col", className: index ? "number" : ""}, name) : el("td"))),
      ),
    ),
    el("tbody", {}, rows.map(row)),
  );
}

function row([stage, rank, among, score]) {
  const there = rank !== null && rank !== undefined && score !== 0; // without a word in common any rank is chance
  return el(
    "tr",
    {className: there ? "" : "absent"},
    el("th", {scope: "row"}, stage),
    el("td.number", {}, there ? `${count(rank)} of ${count(among)}` : "–"),
    el("td.rank", {"aria-hidden": "true"}, there && bar(rank, among)),
    el("td.number", {}, there && score !== undefined ? score.toFixed(3) : ""),
  );
}

// Full for the first place; every tenfold of the rank takes as much off as any other.
function bar(rank, among) {
  const made = el("span.rank-bar");
  made.style.width = `${Math.max(3, Math.round(100 * (1 - Math.log(rank) / Math.log(Math.max(among + 1, 2)))))}%`;
  return made;
}

const fates = (passages) =>
  Object.entries(passages)
    .map(([fate, number]) => `${count(number)} ${FATES[fate] ?? fate.replaceAll("_", " ")}`)
    .join(", ");

const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
