// Stretches of a document's text. The API counts characters; JavaScript's strings count some of them twice.

const PAIRED = /[\ud800-\udfff]/;
const BROKEN_AT = 60;
const ENTRY = /^\s*([-*•#>|]|\d{1,3}[.)]\s)/;

function slice(text, start, end) {
  if (!PAIRED.test(text)) return text.slice(start, end);
  return Array.from(text).slice(start, end).join("");
}

const size = (text) => (PAIRED.test(text) ? Array.from(text).length : text.length);

// The chunks of a document without what neighbours have in common: [{start, text, page, headings}] in order.
export function stretches(chunks) {
  const found = [];
  let reached = chunks.length ? chunks[0].start : 0;
  for (const chunk of chunks) {
    const from = Math.max(chunk.start, reached);
    if (from >= chunk.end) continue;
    found.push({...chunk, start: from, text: slice(chunk.text, from - chunk.start, chunk.end - chunk.start)});
    reached = chunk.end;
  }
  return found;
}

// Lines that were broken to fit a page flow again, as long as before: offsets stay true. Lists and tables stay as they are.
export function flowing(text) {
  const lines = text.split("\n");
  return lines
    .map((line, index) => {
      const next = lines[index + 1];
      if (next === undefined) return line;
      return line + (line.length >= BROKEN_AT && next && !ENTRY.test(next) ? " " : "\n");
    })
    .join("");
}

// Where a quote stands in what is loaded: at the place given, or wherever it stands now; null when nowhere.
export function locate(parts, {start, end, quote}) {
  if (quote === undefined || read(parts, start, end) === quote) return {start, end};
  for (const part of parts) {
    const at = part.text.indexOf(quote);
    if (at >= 0) {
      const from = part.start + size(part.text.slice(0, at));
      return {start: from, end: from + size(quote)};
    }
  }
  return null;
}

// A stretch cut where highlights begin and end: [{text, mark}], mark being the first highlight that covers it.
export function cut(part, highlights) {
  const end = part.start + size(part.text);
  const edges = new Set([part.start, end]);
  for (const one of highlights) {
    if (one.start > part.start && one.start < end) edges.add(one.start);
    if (one.end > part.start && one.end < end) edges.add(one.end);
  }
  const sorted = [...edges].sort((a, b) => a - b);
  return sorted.slice(0, -1).map((from, index) => {
    const to = sorted[index + 1];
    const mark = highlights.find((one) => one.start < to && one.end > from) ?? null;
    return {text: slice(part.text, from - part.start, to - part.start), mark};
  });
}

function read(parts, start, end) {
  let text = "";
  let reached = start;
  for (const part of parts) {
    const stop = part.start + size(part.text);
    if (stop <= start || part.start >= end) continue;
    if (part.start > reached) text += "\n\n"; // what stands between two blocks
    text += slice(part.text, Math.max(0, start - part.start), Math.min(end, stop) - part.start);
    reached = stop;
  }
  return text;
}
