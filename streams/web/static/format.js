// Numbers and times for people.

export const number = (value) => Math.round(value).toLocaleString("en-US");

export function short(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e9) return `${(value / 1e9).toPrecision(3)} G`;
  if (size >= 1e6) return `${(value / 1e6).toPrecision(3)} M`;
  if (size >= 1e4) return `${(value / 1e3).toPrecision(3)} k`;
  if (size >= 100 || Number.isInteger(value)) return number(value);
  return size >= 10 ? value.toFixed(1) : size >= 0.1 || size === 0 ? value.toFixed(2) : value.toPrecision(2);
}

// Number of decimals of a column: three digits of the largest amount, and at least cents.
export function decimals(largest) {
  return largest >= 100 || largest <= 0 ? 2 : Math.min(8, Math.max(2, 2 - Math.floor(Math.log10(largest)) + 1));
}

export const usd = (value, places = decimals(Math.abs(value))) =>
  `${value < 0 ? "−" : ""}$${Math.abs(value).toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places })}`;

export const percent = (share, places = 0) => (share === null || !Number.isFinite(share) ? "–" : `${(100 * share).toFixed(places)} %`);

export const signed = (text, value) => (value > 0 ? `+${text}` : text.replace("-", "−"));

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 0.000995) return `${Math.round(value * 1e6)} µs`;
  if (value < 0.995) return `${(value * 1e3).toPrecision(value * 1e3 >= 99.5 ? 3 : 2).replace(/\.0$/, "")} ms`;
  if (value < 9.95) return `${value.toPrecision(2).replace(/\.0$/, "")} s`;
  if (value < 600) return `${Math.round(value)} s`;
  return span(value);
}

export function span(value) {
  const total = Math.max(0, Math.round(value));
  if (total < 60) return `${total} s`;
  if (total < 3600) return `${Math.floor(total / 60)} min${total < 600 && total % 60 ? ` ${total % 60} s` : ""}`;
  if (total < 86400) return `${Math.floor(total / 3600)} h ${Math.floor((total % 3600) / 60)} min`;
  return `${Math.floor(total / 86400)} d ${Math.floor((total % 86400) / 3600)} h`;
}

export const ago = (at, now) => (now - at < 1.5 ? "just now" : `${span(now - at)} ago`);

export function clock(at, withDay = false) {
  const date = new Date(at * 1000);
  const time = date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  return withDay ? `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${time}` : time;
}

export const bytes = (value) => (value >= 1e9 ? `${(value / 1e9).toFixed(1)} GB` : value >= 1e6 ? `${Math.round(value / 1e6)} MB` : value >= 1e3 ? `${(value / 1e3).toFixed(1)} kB` : `${value} B`);

export const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;
