// History: shares and throughput, from the points of the timeline and the bills of past periods.

import { el, lineChart, nothing, replace, shareChart, ticks, widthOf } from "./charts.js";
import { colorOf, meet } from "./colors.js";
import { clock, percent, plural, short, span } from "./format.js";

const sum = (values) => values.reduce((a, b) => a + b, 0);
const MAX_LLMS = 8;

const MAX_FIRST_SECONDS = 60;

// The final counts of a period, in the form of a point.
const endOf = (bill) => ({
  models: bill.llms.map((llm) => llm.name), served: bill.llms.map((llm) => llm.served),
  arrived: bill.queries, unserved: bill.unserved, dead: bill.dead,
});
const NOTHING = { models: [], served: [], arrived: 0, unserved: 0, dead: 0 };

// Changes between points. Counts begin again with each period: bills add the queries after a period's last point,
// and the periods that lie between two points.
export function rates(points, bills = []) {
  const found = [], billed = new Map(bills.map((bill) => [bill.period, endOf(bill)]));
  const add = (row, before, after) => {
    after.models.forEach((name, k) => {
      const j = before.models.indexOf(name), more = after.served[k] - (j >= 0 ? before.served[j] : 0);
      row.served[name] = (row.served[name] ?? 0) + Math.max(0, more);
    });
    for (const name of ["arrived", "unserved", "dead"]) row[name] += Math.max(0, after[name] - before[name]);
  };
  points.forEach((b, i) => {
    const a = points[i - 1], from = a ? a.at : b.began_at;
    if (!(b.at > from) || (!a && b.at - from > MAX_FIRST_SECONDS)) return;
    const row = { at: b.at, from, served: {}, arrived: 0, unserved: 0, dead: 0 };
    if (!a) add(row, NOTHING, b);
    else if (a.period === b.period) add(row, a, b);
    else {
      for (let period = a.period; period < b.period; period++) {
        const end = billed.get(period);
        if (end) add(row, period === a.period ? a : NOTHING, end);
      }
      add(row, NOTHING, b);
    }
    found.push({ ...row, arrived: row.arrived / (b.at - from) });
  });
  return found;
}

function timeTicks(start, end) {
  const day = end - start > 80000;
  return [0, 1 / 3, 2 / 3, 1].map((f) => { const at = start + f * (end - start); return [at, f === 1 ? "now" : clock(at, day)]; });
}

// LLMs by the number of queries, the largest first, which is the order of their colours.
export function byServed(found) {
  const totals = {};
  for (const r of found) for (const [name, count] of Object.entries(r.served)) totals[name] = (totals[name] ?? 0) + count;
  return { totals, ranked: Object.keys(totals).filter((name) => totals[name] > 0).sort((a, b) => totals[b] - totals[a]) };
}

export function drawShare(found) {
  const { totals, ranked } = byServed(found);
  meet(ranked);
  const unserved = sum(found.map((r) => r.unserved));
  document.getElementById("share-note").textContent = found.length ? `last ${span(found.at(-1).at - found[0].from)}` : "";
  if (!ranked.length && !unserved) { replace("share-key"); return replace("share", nothing("No query was routed in this time.")); }
  const rows = found.map((r) => ({ ...r, all: sum(Object.values(r.served)) + r.unserved }));
  const share = (r, count) => (r.all > 0 ? count / r.all : null);
  const main = ranked.slice(0, MAX_LLMS), rest = ranked.slice(MAX_LLMS);
  const layers = main.map((name) => ({ name, color: colorOf(name), total: totals[name], values: rows.map((r) => share(r, r.served[name] ?? 0)) }));
  if (rest.length) layers.push({ name: `${plural(rest.length, "other LLM")}`, color: "var(--other)", total: sum(rest.map((n) => totals[n])), values: rows.map((r) => share(r, sum(rest.map((n) => r.served[n] ?? 0)))) });
  if (unserved) layers.push({ name: "unserved", color: "var(--line)", total: unserved, values: rows.map((r) => share(r, r.unserved)) });
  const all = sum(layers.map((layer) => layer.total)), x = [rows[0].from, rows.at(-1).at];
  const label = layers.map((layer) => `${layer.name} ${percent(layer.total / all)}`).join(", ");
  replace("share", shareChart({ width: widthOf("share"), label, spans: rows.map((r) => [r.from, r.at]), layers, x, y: [0, 1], xTicks: timeTicks(...x), yTicks: [0, 0.5, 1].map((v) => [v, percent(v)]) }));
  replace("share-key", ...layers.map((layer) => {
    const swatch = el("span", { class: "swatch" });
    swatch.style.background = layer.color;
    return el("li", {}, swatch, `${layer.name} `, el("span", { class: "quiet" }, percent(layer.total / all)));
  }));
}

// A rate holds from one point to the next: two ends for each interval, so that a single one has a width.
const steps = (found, value) => found.flatMap((r) => [[r.from, value(r)], [r.at, value(r)]]);

export function drawRate(found) {
  if (!found.length) return replace("rate", nothing("The timeline has a point every ten seconds; two are needed."));
  const top = Math.max(1, ...found.map((r) => r.arrived)) * 1.08;
  const x = [found[0].from, found.at(-1).at];
  replace("rate", lineChart({
    label: `Queries a second, now ${short(found.at(-1).arrived)}, at most ${short(top / 1.08)}`,
    width: widthOf("rate"), x, y: [0, top], xTicks: timeTicks(...x), yTicks: ticks(0, top, 4).map((t) => [t, short(t)]),
    lines: [
      { points: steps(found, (r) => r.arrived), color: "var(--settled)", fill: true, width: 2, name: "arrived", dot: true, note: `${short(found.at(-1).arrived)}/s` },
      { points: steps(found, (r) => r.unserved / (r.at - r.from)), color: "var(--warn)", width: 1.3, dash: "4 3", name: "unserved" },
    ],
  }));
}
