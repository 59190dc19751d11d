// Questions and their answers, one below the other.

import {head} from "./dialogs.js";
import {$, el, fill, options} from "./dom.js";
import {plural} from "./format.js";
import {pause} from "./line.js";
import {Turn} from "./turn.js";

const MOST_TURNS = 100;
const MOST_EARLIER = 8;
const LONGEST_EARLIER = 1000;
const MOST_MISSES = 10;
const AGAIN_MS = 1000;
const PASSAGES = ["3", "5", "8", "12", "20"];
const ANSWERED = {true: "Written by the model", false: "Quotes only"};
const COLD = {wait: "Wait for it", extractive: "Quote meanwhile", fallback: "Ask the fallback model"};

export class Ask {
  #running = null;
  #turns = 0;
  #earlier = [];
  #last = null;
  #choices = {generate: "true", on_cold: "wait", top_k: "5"};

  constructor(api, {read, explain, collections}) {
    this.api = api;
    this.read = read;
    this.explain = explain;
    this.question = $("#question");
    this.scroller = $("#ask-scroll");
    $("#composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.question.addEventListener("keydown", (event) => this.#key(event));
    this.question.addEventListener("input", () => this.#fit());
    this.scroller.addEventListener("grown", () => this.#follow());
    this.scroller.addEventListener(
      "scroll",
      () => {
        this.following = this.#atEnd();
      },
      {passive: true},
    );
    $("#stop").addEventListener("click", () => this.stop());
    $("#conversation-new").addEventListener("click", () => this.restart());
    $("#options-open").addEventListener("click", () => this.#chooseOptions());
    this.following = true;
    collections.addEventListener("change", () => this.#showCollections(collections));
  }

  focus() {
    this.question.focus();
  }

  stop() {
    this.#running?.abort();
    return this.#running !== null;
  }

  // What was asked last, or would be asked next, of the documents.
  get asked() {
    return this.#last?.asked ?? {question: "", collection: $("#ask-collection").value, ...this.#chosen()};
  }

  explainLast() {
    if (this.#last) this.explain(this.#last);
  }

  restart() {
    this.stop();
    fill($("#turns"));
    this.#turns = 0;
    this.#earlier = [];
    this.#last = null;
    this.#showState();
    this.focus();
  }

  #showCollections({items, searchable}) {
    const select = $("#ask-collection");
    const names = items.map((one) => one.name);
    options(
      select,
      (names.length ? names : ["default"]).map((name) => [name, name]),
      select.value || "default",
    );
    $("#ask-empty-text").textContent = searchable
      ? `${plural(searchable, "document")} in ${plural(items.length, "collection")} can answer.`
      : "There is nothing to ask yet.";
    $("#ask-empty-link").hidden = searchable > 0 || !document.body.classList.contains("may-ingest");
  }

  #key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.#submit();
  }

  #submit() {
    const text = this.question.value.trim();
    if (!text || this.#running) return;
    this.question.value = "";
    this.#fit();
    const earlier = this.#earlier.slice(-MOST_EARLIER);
    this.#earlier.push(text.slice(0, LONGEST_EARLIER));
    this.ask({question: text, earlier, collection: $("#ask-collection").value, ...this.#chosen()});
  }

  #chosen() {
    const {generate, on_cold, top_k} = this.#choices;
    return {generate: generate === "true", on_cold, top_k: Number(top_k), mode: $("#ask-mode").value};
  }

  async ask(request) {
    const turn = new Turn(request, {
      read: this.read,
      explain: this.explain,
      again: () => {
        if (!this.#running) this.ask({...request, cache: "refresh"});
      },
    });
    this.#add(turn);
    this.#last = turn;
    const controller = (this.#running = new AbortController());
    this.#showState();
    try {
      await this.#stream(turn, request, controller.signal);
    } catch (error) {
      if (controller.signal.aborted) turn.stopped();
      else turn.failed(error.message);
    } finally {
      this.#running = null;
      this.#showState();
    }
  }

  async #stream(turn, request, signal) {
    const onWait = (wait) => turn.waiting(wait);
    try {
      for await (const one of this.api.events("v1/query", {...request, stream: true}, {signal, onWait})) {
        if (one.event === "error") return turn.failed(one.data.detail);
        turn.on(one);
      }
    } catch (error) {
      if (signal.aborted || turn.id === null || error.status) throw error;
    }
    if (!turn.over) await this.#fetch(turn, signal);
  }

  // The stream ended before the answer did. A model's answer is kept, and goes on being written when it is asked for.
  async #fetch(turn, signal) {
    if (turn.id === null) throw new Error("The connection broke before there was an answer.");
    turn.recovering();
    for (let misses = 0; misses < MOST_MISSES;) {
      await pause(AGAIN_MS, signal);
      const answer = await this.api.get(`v1/answers/${turn.id}`, {}, signal).catch((error) => error);
      if (answer.status === 0) misses += 1;
      else if (answer.status === 404) throw new Error("The connection broke, and the answer was not kept.");
      else if (answer instanceof Error) throw answer;
      else if (answer.status !== "running") return turn.whole(answer);
    }
    throw new Error("The connection broke, and the API cannot be reached.");
  }

  #add(turn) {
    const list = $("#turns");
    list.append(turn.node);
    this.#turns += 1;
    if (list.children.length > MOST_TURNS) list.firstElementChild.remove();
    this.following = true;
    this.#follow();
  }

  #showState() {
    const running = this.#running !== null;
    $("#send").hidden = running;
    $("#stop").hidden = !running;
    $("#ask-empty").hidden = this.#turns > 0;
    $("#conversation-new").hidden = this.#turns === 0;
    $("#view-ask").classList.toggle("begun", this.#turns > 0);
  }

  #follow() {
    if (this.following) this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  #atEnd() {
    const {scrollTop, clientHeight, scrollHeight} = this.scroller;
    return scrollHeight - scrollTop - clientHeight < 80;
  }

  #fit() {
    this.question.style.height = "auto";
    this.question.style.height = `${Math.min(this.question.scrollHeight, 200)}px`;
  }

  #chooseOptions() {
    const dialog = $("#options");
    fill(
      dialog,
      head("How to answer", "options-title", () => dialog.close()),
      this.#choice("generate", "Answers are", Object.entries(ANSWERED)),
      this.#choice("on_cold", "While the model sleeps", Object.entries(COLD)),
      this.#choice(
        "top_k",
        "Passages to read",
        PASSAGES.map((size) => [size, size]),
      ),
    );
    dialog.showModal();
  }

  #choice(name, label, entries) {
    const select = el("select", {
      onchange: () => {
        this.#choices[name] = select.value;
        this.#summarise();
      },
    });
    options(select, entries, this.#choices[name]);
    return el("label.choice", {}, el("span", {}, label), select);
  }

  #summarise() {
    $("#options-summary").textContent = this.#choices.generate === "false" ? "Quotes only" : "Options";
  }
}
