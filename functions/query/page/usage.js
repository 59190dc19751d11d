// What was used, day by day.

import {barChart} from "./chart.js";
import {$, announce, eachFrame, el, fill, options} from "./dom.js";
import {count, money, seconds} from "./format.js";

const DAY_MS = 86_400_000;
const print = {
  whole: (value) => (value >= 10_000 ? `${count(Math.round(value / 100) / 10)} k` : count(Math.round(value * 10) / 10)),
  seconds: (value) => `${count(Math.round(value * 10) / 10)} s`,
};
const MEASURES = {
  questions: {name: "Questions", of: (day) => day.questions, part: (day) => day.hits, print: print.whole},
  tokens: {
    name: "Tokens",
    of: (day) => day.prompt_tokens + day.completion_tokens,
    part: (day) => day.prompt_tokens,
    print: print.whole,
  },
  gpu: {name: "GPU seconds", of: (day) => day.gpu_seconds, print: print.seconds},
  cost: {name: "Cost", of: (day) => day.cost_usd, print: money},
};
const PARTS = {questions: ["answered anew", "asked before, at no cost"], tokens: ["written", "read"]};
const short = new Intl.DateTimeFormat("en", {day: "numeric", month: "short", timeZone: "UTC"});

export class UsageView {
  constructor(api) {
    this.api = api;
    this.body = $("#usage-body");
    options(
      $("#usage-measure"),
      Object.entries(MEASURES).map(([value, {name}]) => [value, name]),
    );
    $("#usage-measure").addEventListener("change", () => this.days && this.#draw());
    $("#usage-days").addEventListener("change", () => this.show());
    new ResizeObserver(eachFrame(() => this.#fit())).observe(this.body);
  }

  async show() {
    const span = Number($("#usage-days").value);
    const from = new Date(Date.now() - (span - 1) * DAY_MS).toISOString().slice(0, 10);
    const to = new Date().toISOString().slice(0, 10);
    try {
      const {days} = await this.api.get("v1/usage", {from, to});
      this.days = filled(days, Date.parse(from), span);
      this.#draw();
    } catch (error) {
      fill(this.body, el("p.problem", {role: "alert"}, error.message));
    }
  }

  #draw() {
    const name = $("#usage-measure").value;
    const measure = MEASURES[name];
    const shown = this.days.map((day) => ({
      label: short.format(new Date(day.day)),
      value: measure.of(day),
      part: measure.part?.(day),
      text: `${short.format(new Date(day.day))}: ${measure.print(measure.of(day))}`,
    }));
    const total = this.days.reduce((sum, day) => sum + measure.of(day), 0);
    const label = `${measure.name} per day over ${shown.length} days, ${measure.print(total)} in all. The table below has the numbers.`;
    this.chart = el("div", {});
    this.drawChart = (width) => fill(this.chart, barChart(shown, {label, print: measure.print, width}));
    fill(
      this.body,
      this.#tiles(),
      el(
        "figure.card.chart-card",
        {},
        el("figcaption", {}, el("h2", {}, `${measure.name} per day`), total ? legend(PARTS[name]) : null),
        total ? this.chart : el("p.muted.list-note", {}, "Nothing of this was used in these days."),
      ),
      el("details.more.usage-table", {open: this.#tableOpen()}, el("summary", {}, "As a table"), table(this.days)),
    );
    this.#fit();
    announce(label);
  }

  // As wide as there is room for, so that its text is as large as any other.
  #fit() {
    const width = this.chart?.clientWidth;
    if (width) this.drawChart(Math.max(width, 240));
  }

  #tableOpen() {
    return $("details", this.body)?.open ?? false;
  }

  #tiles() {
    const total = (of) => this.days.reduce((sum, day) => sum + of(day), 0);
    const questions = total((day) => day.questions);
    const hits = total((day) => day.hits);
    const tiles = [
      ["Questions", count(questions), `${questions ? Math.round((100 * hits) / questions) : 0} % asked before`],
      [
        "Tokens",
        count(total((day) => day.prompt_tokens + day.completion_tokens)),
        `${count(total((day) => day.completion_tokens))} written`,
      ],
      ["GPU", seconds(total((day) => day.gpu_seconds)), "writing answers"],
      ["Cost", money(total((day) => day.cost_usd)), "by your price table"],
    ];
    return el(
      "dl.tiles",
      {},
      tiles.map(([name, value, note]) =>
        el("div.card.tile", {}, el("dt", {}, name), el("dd", {}, value, el("span.hint", {}, note))),
      ),
    );
  }
}

// Days without any use are left out by the API, not by the chart.
function filled(days, first, span) {
  const known = new Map(days.map((day) => [day.day, day]));
  return Array.from({length: span}, (_, index) => {
    const day = new Date(first + index * DAY_MS).toISOString().slice(0, 10);
    return (
      known.get(day) ?? {
        day,
        questions: 0,
        hits: 0,
        prompt_tokens: 0,
        completion_tokens: 0,
        gpu_seconds: 0,
        cost_usd: 0,
      }
    );
  });
}

function legend(parts) {
  if (!parts) return null;
  return el("p.legend", {}, el("span.key", {}, parts[0]), el("span.key.part", {}, parts[1]));
}

function table(days) {
  const used = days.filter((day) => day.questions).reverse();
  if (!used.length) return el("p.muted", {}, "Nothing was asked in these days.");
  const columns = ["Day", "Questions", "Asked before", "Tokens read", "Tokens written", "GPU seconds", "Cost"];
  const row = (day) => [
    day.day,
    count(day.questions),
    count(day.hits),
    count(day.prompt_tokens),
    count(day.completion_tokens),
    String(day.gpu_seconds),
    money(day.cost_usd),
  ];
  return el(
    "div.scroll-x",
    {tabIndex: 0, role: "region", "aria-label": "Usage as a table"},
    el(
      "table",
      {},
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          columns.map((name) => el("th", {scope: "col", className: name === "Day" ? "" : "number"}, name)),
        ),
      ),
      el(
        "tbody",
        {},
        used.map((day) =>
          el(
            "tr",
            {},
            row(day).map((text, index) => (index ? el("td.number", {}, text) : el("th", {scope: "row"}, text))),
          ),
        ),
      ),
    ),
  );
}
