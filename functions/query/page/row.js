// A document as a row of the table.

import {el, icon} from "./dom.js";
import {ago, bytes, count, folderOf, moment, nameOf, plural, STATUS} from "./format.js";

// Extra ones go where the screen is narrow; what they say then stands below the name.
export const COLUMNS = [
  ["Name", "name"],
  ["Status", "state"],
  ["Collection", "extra"],
  ["Pages", "extra number"],
  ["Size", "extra number"],
  ["Changed", "extra"],
];

// select and remove are false where the key may not delete.
export function cells(document, {open, select, remove}) {
  const {collection, pages, updated_at: changed} = document;
  const gone = document.status === "deleted";
  return [
    select && el("td.tick", {}, !gone && tick(document, select)),
    name(document, open),
    el("td.state", {}, el("span.badge", {"data-status": document.status}, STATUS[document.status])),
    el("td.extra", {}, collection),
    el("td.extra.number", {}, pages ? count(pages) : "–"),
    el("td.extra.number", {}, bytes(document.bytes)),
    el("td.extra", {}, el("time", {dateTime: changed, title: moment(changed)}, ago(changed))),
    remove && el("td.end", {}, !gone && bin(document, remove)),
  ].filter(Boolean);
}

function name(document, open) {
  const {uri, collection, pages, reason} = document;
  const folder = folderOf(uri);
  const size = document.bytes === null ? null : bytes(document.bytes);
  return el(
    "td.name",
    {},
    el("button.link", {type: "button", onclick: () => open(document)}, nameOf(uri)),
    el("span.folder", {}, folder),
    el("span.narrow", {}, [folder, collection, pages && plural(pages, "page"), size].filter(Boolean).join(" · ")),
    reason && el("span.reason", {}, reason),
  );
}

function tick(document, select) {
  const box = el("input", {type: "checkbox", "aria-label": `Select ${nameOf(document.uri)}`});
  box.addEventListener("change", () => select(document, box.checked));
  return box;
}

function bin(document, remove) {
  const label = `Delete ${nameOf(document.uri)}`;
  return el(
    "button.quiet.only-icon",
    {type: "button", "aria-label": label, title: label, onclick: () => remove(document)},
    icon("trash"),
  );
}
