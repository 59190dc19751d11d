// How a file gets into the bucket: straight, as a form or in parts, with addresses that the API gives out by the batch; or
// through the API, where the page may not or cannot speak to the bucket.

import {pause} from "./line.js";
import {lost, Problem, transferred} from "./transfer.js";

export const BATCH = 100;
const TRIES = 4;
const EXPIRED = 403;

export class Sender {
  #api;
  #signal;
  #reached = false;

  constructor(api, signal) {
    this.#api = api;
    this.#signal = signal;
    this.direct = Boolean(document.documentElement.dataset.bucket);
  }

  // What each item is sent with, or {error}. One that is refused does not keep the others.
  async tickets(items, onWait) {
    const files = items.map(({file, name}) => ({name, size: file.size, ...typed(file)}));
    const {collection} = items[0];
    const body = collection ? {files, collection} : {files};
    try {
      const begun = await this.#persistently(() => this.#api.post("v1/uploads", body, {signal: this.#signal, onWait}));
      return begun.uploads;
    } catch (error) {
      if (error.status !== 422 || items.length === 1) return items.map(() => ({error}));
      const half = Math.ceil(items.length / 2);
      return [
        ...(await this.tickets(items.slice(0, half), onWait)),
        ...(await this.tickets(items.slice(half), onWait)),
      ];
    }
  }

  // The document's id. onProgress gets the share that was sent.
  send(item, {onProgress, onWait}) {
    return this.#persistently(() => this.#sent(item, onProgress, onWait));
  }

  async #sent(item, onProgress, onWait) {
    if (!this.direct) return this.#throughApi(item, onProgress, onWait);
    try {
      return await this.#straight(item, onProgress, onWait);
    } catch (error) {
      if (error.status !== 0 || !error.bucket || this.#reached) throw error;
      await readable(item.file);
      this.direct = false; // the bucket lets no page of this address in
      return this.#throughApi(item, onProgress, onWait);
    }
  }

  async #throughApi({file, name, collection}, onProgress, onWait) {
    return (await this.#api.upload(file, name, collection, {signal: this.#signal, onProgress, onWait})).id;
  }

  async #straight(item, onProgress, onWait) {
    item.ticket ??= (await this.tickets([item], onWait))[0];
    const {ticket} = item;
    item.ticket = null; // its time may be over when it is tried again
    if (ticket.error) throw ticket.error;
    if (ticket.parts) await this.#inParts(item.file, ticket, onProgress);
    else await this.#asForm(item.file, ticket, onProgress);
    return ticket.document_id;
  }

  async #asForm(file, {url, fields}, onProgress) {
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) form.append(name, value);
    form.append("file", file);
    await this.#toBucket("POST", url, form, (sent) => onProgress(Math.min(1, sent / Math.max(file.size, 1))));
  }

  async #inParts(file, {parts, upload_id: upload}, onProgress) {
    const etags = [];
    let start = 0;
    for (const {url, size} of parts) {
      const piece = file.slice(start, start + size);
      const put = () => this.#toBucket("PUT", url, piece, (sent) => onProgress((start + sent) / file.size));
      etags.push((await this.#persistently(put)).header("ETag"));
      start += size;
    }
    await this.#api.post("v1/uploads/complete", {upload_id: upload, etags}, {signal: this.#signal});
  }

  async #toBucket(method, url, body, onProgress) {
    const options = {body, signal: this.#signal, onProgress};
    const answer = await transferred(method, url, options).catch((error) => {
      throw Object.assign(lost(error, "The bucket cannot be reached. Is the connection up?"), {bucket: true});
    });
    this.#reached = true;
    if (answer.status < 300) return answer;
    throw new Problem(answer.status, `The bucket did not take the file; it answered with status ${answer.status}.`);
  }

  // A connection that broke is tried again: the same file under the same name is the same document.
  async #persistently(work) {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await work();
      } catch (error) {
        const again = error.status === 0 || error.status >= 500 || error.status === EXPIRED;
        if (!again || attempt >= TRIES) throw error;
        await pause(1000 * 2 ** (attempt - 1), this.#signal);
      }
    }
  }
}

// As the browser sees it, where that is a type at all; what a file is, its bytes decide.
const typed = ({type}) => (/^[\w.+-]+\/[\w.+-]+$/.test(type) ? {content_type: type} : {});

// A file that changed or went away since it was chosen fails just as a bucket that cannot be reached.
async function readable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch (error) {
    throw new Problem(400, `The browser could not read it: ${error.message}`);
  }
}
