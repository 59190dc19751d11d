// Numbers, times and names as people read them.

const numbers = new Intl.NumberFormat("en");
const days = new Intl.DateTimeFormat("en", {day: "numeric", month: "short", year: "numeric"});
const moments = new Intl.DateTimeFormat("en", {dateStyle: "medium", timeStyle: "medium"});
const relative = new Intl.RelativeTimeFormat("en", {numeric: "auto"});
const UNIT = "\u00a0"; // no line ends between a number and its unit

export const count = (value) => numbers.format(value);

export const plural = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KB", "MB", "GB"];
  const power = Math.min(Math.floor(Math.log(Math.max(value, 1)) / Math.log(1000)), units.length - 1);
  const scaled = value / 1000 ** power;
  return `${scaled >= 100 || power === 0 ? Math.round(scaled) : scaled.toPrecision(2)}${UNIT}${units[power]}`;
}

export function milliseconds(value) {
  return value < 1000 ? `${Math.round(value)}${UNIT}ms` : `${(value / 1000).toFixed(1)}${UNIT}s`;
}

export function seconds(value) {
  if (value < 90) return `${Math.round(value)}${UNIT}s`;
  return value < 5400 ? `${Math.round(value / 60)}${UNIT}min` : `${Math.round(value / 3600)}${UNIT}h`;
}

export function money(value) {
  if (value === null || value === undefined) return "not known";
  if (value === 0) return "$0";
  return value < 0.01 ? `$${value.toPrecision(2)}` : `$${value.toFixed(2)}`;
}

export function ago(iso) {
  const passed = (Date.now() - Date.parse(iso)) / 1000;
  if (passed < 45) return "just now";
  for (const [limit, size, unit] of [
    [3600, 60, "minute"],
    [86400, 3600, "hour"],
    [7 * 86400, 86400, "day"],
  ]) {
    if (passed < limit) return relative.format(-Math.round(passed / size), unit);
  }
  return days.format(new Date(iso));
}

export const moment = (iso) => moments.format(new Date(iso));

// The key of an object as its owner named it: without the bucket, and without the prefix of a tenant.
export function keyOf(uri) {
  return uri.replace(/^s3:\/\/[^/]+\//, "").replace(/^tenants\/[0-9a-f-]{36}\//, "");
}

export const nameOf = (uri) => keyOf(uri).split("/").pop();

export const folderOf = (uri) => keyOf(uri).split("/").slice(0, -1).join("/");

export const place = (page, headings) =>
  [page ? `Page ${page}` : "", headings.at(-1) ?? ""].filter(Boolean).join(" · ");

export const STATUS = {
  searchable: "Searchable",
  pending: "Waiting",
  processing: "Being read",
  failed: "Failed",
  deleted: "Deleted",
};
