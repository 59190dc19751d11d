// One question and its answer, drawn as its events come.

import {announce, eachFrame, el, fill, icon, toast} from "./dom.js";
import {nameOf, place, plural, seconds} from "./format.js";
import {prose} from "./prose.js";
import {details, how} from "./spent.js";

export class Turn {
  #text = "";
  #sources = [];
  #citations = [];
  #done = null;

  // request: as it goes to the API. asked: what of it decides which passages are found.
  constructor({question, collection, mode, top_k}, {read, explain, again}) {
    this.asked = {question, collection, mode, top_k};
    Object.assign(this, {read, explain, again});
    this.id = null;
    this.condensed = el("p.hint.condensed", {hidden: true});
    this.status = el("p.status");
    this.sources = el("ol.sources", {"aria-label": "Sources", hidden: true});
    this.answer = el("div.answer");
    this.problem = el("div.problem", {role: "alert", hidden: true});
    this.foot = el("div.turn-foot", {hidden: true});
    this.node = el(
      "li.turn",
      {},
      el("h2.question", {}, question),
      this.condensed,
      this.status,
      this.sources,
      this.answer,
      this.problem,
      this.foot,
    );
    this.draw = eachFrame(() => this.#draw());
    this.#say("Asking");
  }

  get over() {
    return this.#done !== null;
  }

  get begun() {
    return this.#text !== "";
  }

  on({event, data}) {
    const known = {
      status: () => this.#stage(data),
      sources: () => this.#found(data),
      token: () => {
        this.#text += data.text;
        this.#say("Writing");
        this.draw();
      },
      citations: () => {
        this.#citations = data.citations;
      },
      done: () => this.finish(data),
    };
    known[event]?.();
  }

  // The whole answer, as the API gives it when it is asked for later.
  whole(answer) {
    this.#found(answer);
    this.#citations = answer.citations;
    this.finish(answer);
  }

  finish(done) {
    this.#done = done;
    this.#text = done.answer;
    this.status.hidden = true;
    this.#draw();
    this.#footer(done);
    announce(
      done.supported
        ? `Answer ready, ${plural(this.#citations.length, "citation")}`
        : "No answer was found in the documents",
    );
  }

  stopped() {
    this.#say(this.begun ? "Stopped; what was written so far stays." : "Stopped.", {still: true});
    this.#offer();
  }

  failed(text) {
    this.status.hidden = true;
    this.problem.hidden = false;
    fill(this.problem, icon("alert"), el("span", {}, text));
    this.#offer();
  }

  waiting(wait) {
    this.#say(`The API is busy; asking again in ${Math.ceil(wait)} s`);
  }

  recovering() {
    this.#say("The connection broke. Fetching the answer…");
  }

  get documents() {
    return [...new Map(this.#sources.map(({document_id: id, uri}) => [id, {id, uri}])).values()];
  }

  #stage({state, question, waited_s: waited = 0, eta_s: left}) {
    if (state === "condensed") {
      this.asked.question = question;
      this.condensed.hidden = false;
      this.condensed.textContent = `Understood as: ${question}`;
      return;
    }
    if (state !== "waking_gpu") {
      this.#say({retrieving: "Searching your documents", generating: "Writing the answer"}[state] ?? state);
      return;
    }
    const text = left
      ? `Waking the model, about ${seconds(left)} left`
      : waited < 1
        ? "Waking the model"
        : `Waking the model, ${seconds(waited)} so far`;
    const bar =
      left === undefined
        ? el("progress", {"aria-label": "Waking the model"})
        : el("progress", {max: waited + left || 1, value: waited, "aria-label": "Waking the model"});
    this.#say(text, {bar});
  }

  #say(text, {bar = null, still = false} = {}) {
    const said = `${text}|${bar?.value ?? ""}`;
    if (this.said === said) return;
    this.said = said;
    this.status.hidden = false;
    fill(this.status, still ? null : el("span.spinner", {"aria-hidden": "true"}), el("span", {}, text), bar);
  }

  #found({id, sources, retrieval}) {
    this.id = id;
    this.retrieval = retrieval;
    this.#sources = sources;
    this.sources.hidden = sources.length === 0;
    fill(this.sources, ...sources.map((source, index) => el("li", {}, this.#card(source, index))));
    this.#grown();
  }

  #grown() {
    this.node.dispatchEvent(new CustomEvent("grown", {bubbles: true}));
  }

  #card(source, index) {
    return el(
      "button.source",
      {type: "button", "data-marker": index + 1, onclick: () => this.read(this.#asSpots(), index)},
      el(
        "span.source-head",
        {},
        el("span.number", {}, String(index + 1)),
        el("span.source-name", {}, nameOf(source.uri)),
      ),
      el("span.source-place", {}, place(source.page, source.headings) || "Passage"),
      el("span.source-text", {}, source.text),
    );
  }

  #asSpots() {
    return this.#sources.map((source, index) => ({
      documentId: source.document_id,
      uri: source.uri,
      generation: source.generation,
      chunkId: source.chunk_id,
      marker: index + 1,
    }));
  }

  #draw() {
    const quoted = this.#done?.mode === "extractive" && this.#done.supported && this.#citations.length;
    this.answer.classList.toggle("refused", this.#done?.supported === false);
    fill(this.answer, quoted ? this.#quotes() : prose(this.#text, (marker, nth) => this.#cite(marker, nth)));
    for (const card of this.sources.querySelectorAll(".source")) {
      const used = this.#citations.some((one) => one.marker === Number(card.dataset.marker));
      card.classList.toggle("unused", Boolean(this.#done) && !used);
    }
    this.#grown();
  }

  // Without a model the answer is its quotes, one below the other.
  #quotes() {
    return this.#citations.map((one, index) =>
      el(
        "figure.quote",
        {},
        el("blockquote", {}, one.quote.split(/\s+/).join(" ")),
        el(
          "figcaption",
          {},
          this.#chip(index),
          el("span", {}, [nameOf(one.uri), one.page && `page ${one.page}`].filter(Boolean).join(", ")),
        ),
      ),
    );
  }

  // While the citations are not known yet, a marker leads to its source.
  #cite(marker, occurrence) {
    const own = this.#citations.map((one, index) => [one, index]).filter(([one]) => one.marker === marker);
    if (own.length) return this.#chip(own[Math.min(occurrence, own.length - 1)][1]);
    const source = this.#sources[marker - 1];
    if (!source) return `[${marker}]`;
    return this.#button(marker, source, () => this.read(this.#asSpots(), marker - 1));
  }

  #chip(index) {
    const spots = this.#citations.map((one) => ({
      documentId: one.document_id,
      uri: one.uri,
      generation: this.#sources[one.marker - 1]?.generation,
      at: one.start,
      start: one.start,
      end: one.end,
      quote: one.quote,
      marker: one.marker,
    }));
    const one = this.#citations[index];
    return this.#button(one.marker, one, () => this.read(spots, index));
  }

  #button(marker, {uri, page}, onclick) {
    const label = `Citation ${marker}: ${nameOf(uri)}${page ? `, page ${page}` : ""}`;
    return el("button.cite", {type: "button", "aria-label": label, title: label, onclick}, String(marker));
  }

  #footer(done) {
    this.foot.hidden = false;
    const copy = el("button.quiet", {type: "button", onclick: () => this.#copy()}, icon("copy"), "Copy");
    fill(
      this.foot,
      el("p.turn-meta", {}, how(done)),
      this.#againButton("Ask again"),
      copy,
      el("button.quiet", {type: "button", onclick: () => this.explain(this)}, icon("why"), "Why these?"),
      details(done, this),
      ...done.warnings.map((warning) => el("p.warning", {}, icon("alert"), el("span", {}, warning))),
    );
    this.#grown();
  }

  #offer() {
    this.foot.hidden = false;
    fill(this.foot, this.#againButton("Try again"));
    this.#grown();
  }

  #againButton(label) {
    return el("button.quiet", {type: "button", onclick: () => this.again()}, icon("again"), label);
  }

  async #copy() {
    const notes = this.#citations.map((one) => `[${one.marker}] ${one.uri}${one.page ? `, page ${one.page}` : ""}`);
    try {
      await navigator.clipboard.writeText([this.#text, ...new Set(notes)].join("\n"));
      toast("Copied with its sources");
    } catch {
      toast("The browser did not allow copying", "bad");
    }
  }
}
