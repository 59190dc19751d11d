// Bars by day. What it shows stands in a table, too.

import {svg} from "./dom.js";

const HEIGHT = 240;
const LEFT = 52;
const FOOT = 26;
const TOP = 12;
const TICK = 110; // a day below the bars takes so much room

// days: [{label, value, part, text}], part being the lower, lighter share of value; print says a number of the scale.
export function barChart(days, {label, print, width}) {
  const top = ceiling(Math.max(...days.map((day) => day.value), 0));
  const step = (width - LEFT) / days.length;
  const every = Math.ceil(days.length / Math.max(2, Math.floor(width / TICK)));
  const y = (value) => TOP + (HEIGHT - TOP - FOOT) * (1 - value / top);
  const chart = svg("svg", {class: "chart", viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": label});
  for (const value of top > 1 ? [0, top / 2, top] : [0, top]) chart.append(...gridline(y(value), width, print(value)));
  days.forEach((day, index) => {
    const x = LEFT + index * step + step * 0.16;
    chart.append(bar(day, {x, width: step * 0.68, y, index}));
    if (index % every === 0) chart.append(tick(day.label, x + step * 0.34));
  });
  return chart;
}

function gridline(y, width, text) {
  return [
    svg("line", {class: "grid", x1: LEFT, x2: width, y1: y, y2: y}),
    svg("text", {class: "axis", x: LEFT - 8, y: y + 4, "text-anchor": "end"}, text),
  ];
}

const tick = (text, x) => svg("text", {class: "axis", x, y: HEIGHT - 6, "text-anchor": "middle"}, text);

function bar(day, {x, width, y}) {
  const rest = {x, width, y: y(day.value), height: y(day.part ?? 0) - y(day.value), rx: 2};
  const part = {x, width, y: y(day.part ?? 0), height: y(0) - y(day.part ?? 0), rx: 2};
  return svg(
    "g",
    {},
    svg("title", {}, day.text),
    svg("rect", {class: "hit", x: x - width * 0.2, width: width * 1.4, y: TOP, height: HEIGHT - TOP - FOOT}),
    svg("rect", {class: "bar", ...rest}),
    day.part ? svg("rect", {class: "bar part", ...part}) : null,
  );
}

// The next round number: 1, 2 or 5 times a power of ten.
function ceiling(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * power).find((round) => round >= value);
}
