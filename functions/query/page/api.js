// The API, as this page asks it. What is busy is asked again when it says so.

import {Line} from "./line.js";
import {lost, Problem, transferred} from "./transfer.js";

export class Api {
  #key;
  #line = new Line();
  #answers = new Line(); // of which a tenant may be given a few at once: what else is asked does not wait for that

  constructor(key, {onRefused = () => {}} = {}) {
    this.#key = key;
    this.onRefused = onRefused;
  }

  get(path, query = {}, signal) {
    return this.#asked("GET", address(path, query), {signal});
  }

  post(path, body, {signal, onWait} = {}) {
    return this.#asked("POST", address(path), {signal, body, onWait});
  }

  delete(path) {
    return this.#asked("DELETE", address(path));
  }

  // The server-sent events of an answer: {event, data}. onWait is told how long a busy API wants us to wait.
  async *events(path, body, {signal, onWait}) {
    const response = await this.#answers.through(() => this.#fetch("POST", address(path), {signal, body}), {
      signal,
      onWait,
    });
    yield* serverSent(response.body.pipeThrough(new TextDecoderStream()));
  }

  // A file with its name, as one upload; the file is read as it is sent. onProgress gets the share that was sent.
  upload(file, name, collection, {signal, onProgress, onWait}) {
    return this.#line.through(() => this.#sent(file, name, collection, signal, onProgress), {signal, onWait});
  }

  async #asked(method, url, {signal, body, onWait} = {}) {
    const response = await this.#line.through(() => this.#fetch(method, url, {signal, body}), {signal, onWait});
    try {
      return await response.json();
    } catch (error) {
      throw lost(error);
    }
  }

  async #fetch(method, url, {signal, body}) {
    const headers = {Authorization: `Bearer ${this.#key}`};
    if (body) headers["Content-Type"] = "application/json";
    let response;
    try {
      response = await fetch(url, {method, headers, signal, cache: "no-store", body: body && JSON.stringify(body)});
    } catch (error) {
      throw lost(error);
    }
    if (response.ok) return response;
    throw this.#refused(response.status, await response.text().catch(() => ""), response.headers.get("Retry-After"));
  }

  async #sent(file, name, collection, signal, onProgress) {
    const form = new FormData();
    form.append("file", file, name);
    if (collection) form.append("collection", collection);
    const answer = await transferred("POST", address("v1/documents"), {
      headers: {Authorization: `Bearer ${this.#key}`},
      body: form,
      signal,
      onProgress: (sent) => onProgress(Math.min(1, sent / Math.max(file.size, 1))),
    });
    if (answer.status === 202) return JSON.parse(answer.text);
    throw this.#refused(answer.status, answer.text, answer.header("Retry-After"));
  }

  #refused(status, text, retryAfter) {
    const problem = parsed(text);
    if (status === 401) this.onRefused();
    const detail = problem.detail ?? `The API answered with status ${status}.`;
    const wait = retryAfter === null ? null : Number(retryAfter);
    return new Problem(status, detail, Number.isFinite(wait) ? wait : null, problem.type);
  }
}

async function* serverSent(stream) {
  let rest = "";
  for await (const piece of pieces(stream)) {
    const blocks = (rest + piece).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = parsedEvent(block);
      if (event) yield event;
    }
  }
}

async function* pieces(stream) {
  const reader = stream.getReader();
  try {
    for (;;) {
      const {done, value} = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parsedEvent(block) {
  const fields = {event: "message", data: ""};
  for (const line of block.split("\n")) {
    const [, name, value] = /^(event|data): ?(.*)$/.exec(line) ?? [];
    if (name === "event") fields.event = value;
    if (name === "data") fields.data += value;
  }
  return fields.data ? {event: fields.event, data: JSON.parse(fields.data)} : null;
}

// Relative to the page, which may lie below a stage of a gateway.
function address(path, query = {}) {
  const url = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  }
  return url;
}

function parsed(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}
