// How an answer was made, and what it took.

import {el} from "./dom.js";
import {pairs} from "./facts.js";
import {ago, milliseconds, money} from "./format.js";

const WRITTEN_BY = {
  extractive: "Quoted from your documents",
  model: "Written by the model",
  fallback: "Written by the fallback model",
};
const BEFORE = {exact: "asked before", semantic: "a question like it was asked before"};
const STAGES = {
  embed: "Embedding the question",
  retrieve: "Finding passages",
  generate: "Writing",
  answer: "Choosing quotes",
};

export function how({supported, mode, cached, age_s: age = 0, timings_ms: timings}) {
  const parts = [supported ? WRITTEN_BY[mode] : "Nothing found"];
  if (BEFORE[cached]) parts.push(`${BEFORE[cached]}, ${ago(new Date(Date.now() - age * 1000).toISOString())}`);
  if (timings.total !== undefined) parts.push(milliseconds(timings.total));
  return parts.join(" · ");
}

export function details({usage, timings_ms: timings, dropped_citations: dropped}, {id, retrieval}) {
  const {total, ...stages} = timings;
  return el(
    "details.more",
    {},
    el("summary", {}, "Details"),
    pairs([
      ["Cost", money(usage.cost_usd)],
      ["Prompt tokens", usage.prompt_tokens],
      ["Completion tokens", usage.completion_tokens],
      ["GPU", usage.gpu_seconds ? `${usage.gpu_seconds} s` : null],
      ...Object.entries(stages).map(([stage, ms]) => [STAGES[stage] ?? stage, milliseconds(ms)]),
      ["Total", total === undefined ? null : milliseconds(total)],
      ["Citations taken out", dropped || null],
      ["Retrieval", retrieval],
      ["Answer id", id],
    ]),
  );
}
