// What a model wrote, as paragraphs and lists. Whatever else it may be, it stays text.

import {el} from "./dom.js";

const INLINE = /\*\*([^*\n]+)\*\*|`([^`\n]+)`|\[(\d{1,3})\]/g;
const BULLET = /^\s*[-*•]\s+/;
const NUMBER = /^\s*\d{1,3}[.)]\s+/;
const HEADING = /^#{1,6}\s+/;

// cite(marker, occurrence) makes the element for the n-th [marker] of the text.
export function prose(text, cite) {
  const seen = new Map();
  const numbered = (marker) => {
    const occurrence = seen.get(marker) ?? 0;
    seen.set(marker, occurrence + 1);
    return cite(marker, occurrence);
  };
  return text.split(/\n{2,}/).flatMap((block) => blocks(block.trim(), numbered));
}

function blocks(block, cite) {
  if (!block) return [];
  const groups = [];
  for (const line of block.split("\n")) {
    const kind = BULLET.test(line) ? "ul" : NUMBER.test(line) ? "ol" : HEADING.test(line) ? "heading" : "p";
    const last = groups.at(-1);
    if (last?.kind === kind && kind !== "heading") last.lines.push(line);
    else groups.push({kind, lines: [line]});
  }
  return groups.map((group) => element(group, cite));
}

function element({kind, lines}, cite) {
  if (kind === "p") return el("p", {}, inline(lines.join("\n"), cite));
  if (kind === "heading") return el("p", {}, el("strong", {}, inline(lines[0].replace(HEADING, ""), cite)));
  const list = el(
    kind,
    {},
    lines.map((line) => el("li", {}, inline(line.replace(BULLET, "").replace(NUMBER, ""), cite))),
  );
  if (kind === "ol") list.start = Number.parseInt(lines[0], 10);
  return list;
}

function inline(text, cite) {
  const nodes = [];
  let end = 0;
  for (const found of text.matchAll(INLINE)) {
    nodes.push(text.slice(end, found.index));
    if (found[1]) nodes.push(el("strong", {}, inline(found[1], cite)));
    else if (found[2]) nodes.push(el("code", {}, found[2]));
    else nodes.push(cite(Number(found[3])));
    end = found.index + found[0].length;
  }
  return [...nodes, text.slice(end)];
}
