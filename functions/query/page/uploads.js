// Files on their way: a few are sent at a time, and what became of the others is read from the list of documents.

import {pause} from "./line.js";
import {BATCH, Sender} from "./sending.js";

const AT_ONCE = 4;
const PAGE = 200;
const SINGLES = 10;
const SOONEST_MS = 700;
const LATEST_MS = 5000;

// waiting, sending, stored (in the bucket, not searchable yet), then one of the others for good
export const OPEN = new Set(["waiting", "sending", "stored"]);
export const BROKEN = new Set(["failed", "refused"]);

export class Uploads extends EventTarget {
  #api;
  #stop = new AbortController();
  #sender;
  #waiting = [];
  #ready = [];
  #asking = false;
  #sending = 0;
  #looking = 0;
  #stored = new Map();
  #watching = false;
  #counts = {waiting: 0, sending: 0, stored: 0, searchable: 0, failed: 0, refused: 0};

  constructor(api) {
    super();
    this.#api = api;
    this.#sender = new Sender(api, this.#stop.signal);
    this.items = [];
  }

  get counts() {
    const {waiting, sending, stored, searchable, failed, refused} = this.#counts;
    const open = waiting + sending + stored;
    return {
      total: this.items.length,
      waiting,
      sending,
      stored,
      searchable,
      open,
      broken: failed + refused,
      looking: this.#looking > 0,
    };
  }

  // From files.js; rows appear while a folder is still being looked through.
  async add(files, collection) {
    this.#looking += 1;
    try {
      await this.#take(files, collection);
    } finally {
      this.#looking -= 1;
      this.#tell();
    }
  }

  async #take(files, collection) {
    for await (const {file, name, error} of files) {
      const item = {file, name, collection, size: file?.size ?? null, state: "waiting", sent: 0, id: null, reason: ""};
      this.items.push(item);
      this.#counts.waiting += 1;
      if (error) this.#become(item, "refused", {reason: `The browser could not read it: ${error}`});
      else this.#queue(item);
    }
  }

  retry(item) {
    this.#become(item, "waiting", {reason: "", sent: 0});
    this.#queue(item);
  }

  clearSettled() {
    this.items = this.items.filter((item) => OPEN.has(item.state));
    Object.assign(this.#counts, {searchable: 0, failed: 0, refused: 0});
    this.#tell();
  }

  close() {
    this.#stop.abort();
  }

  #queue(item) {
    this.#waiting.push(item);
    this.#tell();
    this.#next();
  }

  // Addresses for the next batch are asked for while the last files of this one are being sent.
  #next() {
    if (!this.#sender.direct) this.#ready.push(...this.#waiting.splice(0));
    else if (this.#ready.length < AT_ONCE && this.#waiting.length && !this.#asking) this.#prepare();
    while (this.#sending < AT_ONCE && this.#ready.length) {
      this.#sending += 1;
      this.#send(this.#ready.shift()).finally(() => {
        this.#sending -= 1;
        this.#next();
      });
    }
  }

  async #prepare() {
    this.#asking = true;
    const batch = this.#batch();
    const tickets = await this.#sender.tickets(batch, (wait) => batch.forEach((item) => this.#busy(item, wait)));
    batch.forEach((item, index) => {
      item.ticket = tickets[index];
      this.#ready.push(item);
    });
    this.#asking = false;
    this.#next();
  }

  // The next ones that may stand in one request: of one collection, no name twice.
  #batch() {
    const [{collection}] = this.#waiting;
    const names = new Set();
    const batch = [];
    const others = [];
    for (const item of this.#waiting) {
      const fits = batch.length < BATCH && item.collection === collection && !names.has(item.name);
      (fits ? batch : others).push(item);
      names.add(item.name);
    }
    this.#waiting = others;
    return batch;
  }

  async #send(item) {
    this.#become(item, "sending", {reason: ""});
    try {
      const id = await this.#sender.send(item, {
        onProgress: (share) => {
          item.sent = share;
          this.#tell();
        },
        onWait: (wait) => this.#busy(item, wait),
      });
      this.#become(item, "stored", {id, file: null, sent: 1, reason: ""});
      this.#expect(item);
    } catch (error) {
      if (error.name !== "AbortError") this.#become(item, "refused", {reason: error.message});
    }
  }

  #busy(item, wait) {
    item.reason = `The API is busy, going on in ${Math.ceil(wait)} s`;
    this.#tell();
  }

  #expect(item) {
    this.#stored.set(item.id, [...(this.#stored.get(item.id) ?? []), item]);
    this.#watch();
  }

  // Looks again sooner while things happen, later while nothing does or there is much to look through.
  async #watch() {
    if (this.#watching) return;
    this.#watching = true;
    try {
      for (let wait = SOONEST_MS; this.#stored.size;) {
        await pause(wait, this.#stop.signal);
        const before = this.#stored.size;
        const pages = await this.#look().catch((error) => {
          if (ended(error)) throw error;
          return 1;
        });
        wait = this.#stored.size < before ? SOONEST_MS * pages : wait * 1.4;
        wait = Math.min(wait, LATEST_MS);
      }
    } catch (error) {
      if (!ended(error)) throw error;
    } finally {
      this.#watching = false;
    }
  }

  // The newest documents by the page, as far as there are open ones, then the few that are older one by one. Returns how
  // many pages it took.
  async #look() {
    const unseen = new Set(this.#stored.keys());
    const most = Math.ceil(this.items.length / PAGE) + 1;
    let cursor = null;
    let pages = 0;
    for (; pages < most && unseen.size && (pages === 0 || cursor); pages += 1) {
      const found = await this.#api.get("v1/documents", {limit: PAGE, cursor}, this.#stop.signal);
      for (const document of found.items) {
        unseen.delete(document.id);
        this.#settle(document);
      }
      cursor = found.next_cursor;
    }
    for (const id of [...unseen].slice(0, SINGLES)) this.#settle(await this.#single(id));
    return pages;
  }

  async #single(id) {
    const items = this.#stored.get(id); // to the end of the row: the others are asked about next time
    this.#stored.delete(id);
    this.#stored.set(id, items);
    try {
      return await this.#api.get(`v1/documents/${id}`, {}, this.#stop.signal);
    } catch (error) {
      if (error.status !== 404) throw error;
      return {id, status: "deleted"};
    }
  }

  #settle(document) {
    const items = this.#stored.get(document.id);
    if (!items || document.status === "pending" || document.status === "processing") return;
    this.#stored.delete(document.id);
    const {pages, status} = document;
    const reason = document.reason ?? (status === "deleted" ? "It was deleted meanwhile." : "");
    for (const item of items) this.#become(item, status === "searchable" ? "searchable" : "failed", {pages, reason});
  }

  #become(item, state, changes) {
    this.#counts[item.state] -= 1;
    this.#counts[state] += 1;
    Object.assign(item, changes, {state});
    this.#tell();
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }
}

// Signed out, or told that the key holds no longer.
const ended = (error) => error.name === "AbortError" || error.status === 401;
