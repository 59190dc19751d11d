// The views put together, what leads to them, and the keys that do.

import {Api} from "./api.js";
import {Ask} from "./ask.js";
import {confirmed, prepare, showHelp} from "./dialogs.js";
import {Documents} from "./documents.js";
import {$, toast} from "./dom.js";
import {Explain} from "./explain.js";
import {dropped, holdsFiles, picked} from "./files.js";
import {plural} from "./format.js";
import {Reader} from "./reader.js";
import {leave, session, signedIn} from "./session.js";
import {Uploads} from "./uploads.js";
import {UploadsView} from "./uploadsview.js";
import {UsageView} from "./usage.js";

const VIEWS = {ask: "Ask", documents: "Documents", usage: "Usage"};
const REFRESH_MS = 1500;
const COLLECTION_NAME = /^[a-z0-9][a-z0-9_-]{0,62}$/;

const preferences = {
  get shortcuts() {
    return localStorage.getItem("ragzero.shortcuts") !== "off";
  },
  set shortcuts(on) {
    localStorage.setItem("ragzero.shortcuts", on ? "on" : "off");
  },
};

class Collections extends EventTarget {
  items = [];

  constructor(api) {
    super();
    this.api = api;
  }

  get searchable() {
    return this.items.reduce((sum, {documents}) => sum + documents, 0);
  }

  async refresh() {
    try {
      this.items = (await this.api.get("v1/collections", {limit: 200})).items.sort((a, b) =>
        a.name.localeCompare(b.name),
      );
    } catch (error) {
      if (error.status !== 401) toast(error.message, "bad");
      return;
    }
    this.dispatchEvent(new Event("change"));
  }
}

class App {
  constructor(key, caller) {
    this.mayIngest = caller.scopes.includes("ingest");
    document.body.classList.toggle("may-ingest", this.mayIngest);
    this.api = new Api(key, {onRefused: () => leave("This key is not valid any more.")});
    this.collections = new Collections(this.api);
    const explaining = new Explain(this.api);
    this.reader = new Reader(this.api, {
      remove: this.mayIngest ? (documents) => this.documents.remove(documents) : null,
      explain: (document) => explaining.open(this.#askedOf(document), [document]),
    });
    const read = (spots, index) => this.reader.open(spots, index);
    const explain = ({asked, documents}) => explaining.open(asked, documents);
    this.ask = new Ask(this.api, {read, explain, collections: this.collections});
    this.documents = new Documents(this.api, {
      read,
      collections: this.collections,
      mayDelete: this.mayIngest,
      changed: () => this.collections.refresh(),
    });
    this.usage = new UsageView(this.api);
    if (this.mayIngest) this.#takeFiles();
    this.#introduce(caller);
    this.#listen();
    this.collections.refresh();
    this.#route();
  }

  #askedOf({collection}) {
    const {asked} = this.ask;
    return asked.question ? asked : {...asked, collection};
  }

  #takeFiles() {
    this.uploads = new Uploads(this.api);
    new UploadsView(this.uploads, {open: (id) => this.#openUploaded(id)});
    let seen = 0;
    this.uploads.addEventListener("change", () => {
      const {total, waiting, sending, open} = this.uploads.counts;
      const moved = 2 * total - waiting - sending - open; // how many were sent, and how many of them are settled
      if (moved !== seen) this.#contentsChanged();
      seen = moved;
    });
    for (const [button, input] of [
      ["#pick-files", "#files-input"],
      ["#pick-folder", "#folder-input"],
    ]) {
      $(button).addEventListener("click", () => $(input).click());
      $(input).addEventListener("change", (event) => {
        this.#add(picked([...event.target.files]));
        event.target.value = "";
      });
    }
    this.#takeDrops();
    window.addEventListener("beforeunload", (event) => {
      if (this.uploads.counts.open && !session.leaving) event.preventDefault();
    });
  }

  #takeDrops() {
    const overlay = $("#drop");
    const wanted = (event) => holdsFiles(event) && !document.querySelector("dialog[open]");
    window.addEventListener("dragover", (event) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      overlay.hidden = !wanted(event);
    });
    window.addEventListener("dragleave", (event) => {
      if (event.relatedTarget === null) overlay.hidden = true;
    });
    window.addEventListener("drop", (event) => {
      overlay.hidden = true;
      if (!holdsFiles(event)) return;
      event.preventDefault();
      if (wanted(event)) this.#add(dropped(event.dataTransfer));
    });
  }

  #add(files) {
    const input = $("#upload-collection");
    const name = input.value.trim();
    if (name && !COLLECTION_NAME.test(name)) {
      location.hash = "#documents";
      toast("A collection is named with a-z, 0-9, - and _, and begins with a letter or digit", "bad");
      input.focus();
      return;
    }
    location.hash = "#documents";
    this.uploads.add(files, name || null);
  }

  // At most every now and then, however fast things change.
  #contentsChanged() {
    this.soon ??= setTimeout(() => {
      this.soon = null;
      this.collections.refresh();
      if (this.view === "documents") this.documents.show();
    }, REFRESH_MS);
  }

  async #openUploaded(id) {
    const {uri} = this.uploads.items.find((item) => item.id === id);
    this.reader.open([{documentId: id, uri}]);
  }

  #introduce({id, scopes}) {
    $("#who-key").textContent = `${id.slice(0, 6)}…`;
    $("#who-key").title = id;
    const may = {query: "ask", ingest: "add", admin: "administer"};
    $("#who-scopes").textContent = `may ${scopes.map((scope) => may[scope]).join(", ")}`;
  }

  #listen() {
    window.addEventListener("hashchange", () => this.#route());
    document.addEventListener("keydown", (event) => this.#key(event));
    $("#help-open").addEventListener("click", () => showHelp(preferences));
    $("#signout").addEventListener("click", () => this.#signOut());
  }

  async #signOut() {
    const open = this.uploads?.counts.open ?? 0;
    const agreed =
      !open ||
      (await confirmed({
        title: "Sign out now?",
        text: `${plural(open, "file")} would not be followed or sent any further.`,
        agree: "Sign out",
      }));
    if (agreed) leave();
  }

  #route() {
    const asked = location.hash.slice(1);
    if (asked === "main") return;
    this.view = asked in VIEWS ? asked : "ask";
    for (const name of Object.keys(VIEWS)) $(`#view-${name}`).hidden = name !== this.view;
    for (const link of document.querySelectorAll("[data-view]")) {
      if (link.dataset.view === this.view) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    document.title = `${VIEWS[this.view]} · ragzero`;
    this.documents.hide();
    if (this.view === "ask") this.ask.focus();
    if (this.view === "documents") this.documents.show();
    if (this.view === "usage") this.usage.show();
  }

  #key(event) {
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) this.ask.stop();
    const typing = event.target.closest("input, textarea, select");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (!preferences.shortcuts) return;
    const went = this.goingTo;
    this.goingTo = event.key === "g";
    const known = went
      ? {a: () => this.#go("ask"), d: () => this.#go("documents"), u: () => this.#go("usage")}
      : {
          "/": () => {
            this.#go("ask");
            this.ask.focus();
          },
          n: () => {
            this.#go("ask");
            this.ask.restart();
          },
          e: () => this.ask.explainLast(),
          u: () => this.mayIngest && $("#files-input").click(),
          "?": () => showHelp(preferences),
        };
    if (!known[event.key]) return;
    event.preventDefault();
    known[event.key]();
  }

  #go(view) {
    location.hash = `#${view}`;
  }
}

async function start() {
  for (const dialog of document.querySelectorAll("dialog")) prepare(dialog);
  await signedIn((key, caller) => new App(key, caller));
}

start();
