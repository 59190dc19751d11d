// What is known of a document, and what happened to it.

import {el, icon} from "./dom.js";
import {bytes, count, folderOf, moment, plural, STATUS} from "./format.js";

const SHOWN_APART = new Set(["collection", "acl"]);

export function facts(document, {open, remove, explain}) {
  const {status, collection, pages} = document;
  const summary = [STATUS[status], collection, pages && plural(pages, "page")].filter(Boolean).join(" · ");
  return el(
    "details.more",
    {open},
    el("summary", {}, summary),
    pairs(rows(document)),
    el("ol.timeline", {"aria-label": "What happened"}, document.timeline.map(entry)),
    status !== "deleted" &&
      el(
        "div.sheet-acts",
        {},
        el("button", {type: "button", onclick: () => explain(document)}, icon("why"), "Why is it found, or not?"),
        remove && el("button.danger", {type: "button", onclick: remove}, icon("trash"), "Delete"),
      ),
  );
}

// A list of names and values; what is not known is left out.
export function pairs(entries) {
  const known = entries.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el(
    "dl.facts",
    {},
    known.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(value)))),
  );
}

function rows(document) {
  const {id, uri, status, reason, collection, pages, chunks, metadata, acl, flags} = document;
  const others = Object.entries(metadata).filter(([name]) => !SHOWN_APART.has(name));
  return [
    ["Status", STATUS[status]],
    ["Reason", reason],
    ["Collection", collection],
    ["Folder", folderOf(uri)],
    ["Pages", pages && count(pages)],
    ["Passages", chunks ? count(chunks) : null],
    ["Type", document.media_type],
    ["Size", document.bytes === null ? null : bytes(document.bytes)],
    ["Version", document.generation || null],
    ["Labels", acl?.join(", ")],
    ["Noticed", flags.map((flag) => flag.replaceAll("_", " ")).join(", ")],
    ...others,
    ["Address", uri],
    ["Id", id],
  ];
}

function entry({status, at, detail}) {
  const text = [STATUS[status], detail].filter(Boolean).join(": ");
  return el("li", {}, el("time", {dateTime: at}, moment(at)), el("span", {}, text));
}
