// What was true: burn-down, shares and throughput, from the points of the timeline.

import { areaChart, el, lineChart, nothing, replace, ticks, widthOf } from "./charts.js";
import { colorOf, meet } from "./colors.js";
import { clock, percent, plural, short, span, usd } from "./format.js";

const sum = (values) => values.reduce((a, b) => a + b, 0);
const SHOWN = 8;

// Differences between points, a second; a period's counts begin at nothing.
export function rates(points) {
  const found = [];
  for (let i = 1; i < points.length; i++) {
    const a = points[i - 1], b = points[i], time = b.at - a.at;
    if (time <= 0) continue;
    const same = a.period === b.period;
    const before = (name) => (same ? a[name] : 0);
    const served = Object.fromEntries(b.models.map((name, k) => {
      const j = a.models.indexOf(name);
      return [name, Math.max(0, b.served[k] - (same && j >= 0 ? a.served[j] : 0))];
    }));
    found.push({
      at: b.at, from: a.at, served,
      arrived: Math.max(0, b.arrived - before("arrived")) / time,
      unserved: Math.max(0, b.unserved - before("unserved")),
      dead: Math.max(0, b.dead - before("dead")),
    });
  }
  return found;
}

function timeTicks(start, end) {
  const day = end - start > 80000;
  return [0, 1 / 3, 2 / 3, 1].map((f) => { const at = start + f * (end - start); return [at, f === 1 ? "now" : clock(at, day)]; });
}

export function drawBurn(state, timeline) {
  const overview = state?.overview;
  const note = document.getElementById("burn-note");
  if (!overview) return replace("burn", nothing("There is no period yet."));
  let points = timeline.filter((p) => p.period === overview.period), period = overview.period;
  const current = points.length >= 2 || overview.progress > 0.02;
  if (!current) {
    const before = timeline.filter((p) => p.period === overview.period - 1);
    if (before.length >= 2) { points = before; period = overview.period - 1; }
  }
  const left = (charged, budget) => (budget > 0 ? Math.max(-0.05, 1 - charged / budget) : null);
  const series = (pick) => points.map((p) => [Math.min(p.progress, 1.1), pick(p)]);
  const all = series((p) => left(sum(p.charged), sum(p.budget)));
  const settled = series((p) => left(sum(p.settled), sum(p.budget)));
  all.unshift([0, 1]); settled.unshift([0, 1]);
  if (period === overview.period) {
    const budget = sum(overview.models.map((m) => m.budget));
    all.push([Math.min(overview.progress, 1.1), left(sum(overview.models.map((m) => m.charged)), budget)]);
    settled.push([Math.min(overview.progress, 1.1), left(sum(overview.models.map((m) => m.settled)), budget)]);
  }
  const names = points.at(-1)?.models ?? overview.models.map((m) => m.name);
  const each = names.map((name) => ({
    name, color: colorOf(name), width: 1, opacity: 0.55,
    points: [[0, 1], ...points.map((p) => { const k = p.models.indexOf(name); return [Math.min(p.progress, 1.1), k < 0 ? null : left(p.charged[k], p.budget[k])]; })],
  }));
  const end = Math.max(1, ...all.map(([x]) => x));
  const spent = 1 - all.at(-1)[1], progress = all.at(-1)[0];
  note.textContent = period !== overview.period ? `period ${period}, the last one` : progress > 0.02 ? (spent > progress * 1.05 ? `${percent(spent - progress)} ahead of the period` : "on course") : "";
  const anySettled = points.some((p) => sum(p.settled) > 0);
  replace("burn", lineChart({
    label: `Budget left against the period: ${percent(all.at(-1)[1])} left with ${percent(progress)} of the period over`,
    width: widthOf("burn"), height: 286, x: [0, end], y: [Math.min(0, ...all.map(([, y]) => y ?? 0)), 1],
    xTicks: [0, 0.25, 0.5, 0.75, 1].map((v) => [v, percent(v)]),
    yTicks: [0, 0.25, 0.5, 0.75, 1].map((v) => [v, percent(v)]),
    lines: [
      { points: [[0, 1], [1, 0]], color: "var(--quiet)", dash: "3 4", width: 1.2, name: "even spending" },
      ...each,
      ...(anySettled ? [{ points: settled, color: "var(--settled)", width: 1.6, dash: "6 3", name: "not settled yet, all LLMs", note: "" }] : []),
      { points: all, color: "var(--ink)", width: 2.4, dot: true, name: "left, all LLMs", note: `${percent(all.at(-1)[1])} left` },
    ],
  }));
}

export function drawShare(timeline) {
  const found = rates(timeline);
  const totals = {};
  for (const r of found) for (const [name, count] of Object.entries(r.served)) totals[name] = (totals[name] ?? 0) + count;
  const ranked = Object.keys(totals).filter((name) => totals[name] > 0).sort((a, b) => totals[b] - totals[a]);
  meet(ranked);
  const unserved = sum(found.map((r) => r.unserved));
  document.getElementById("share-note").textContent = found.length ? `last ${span(found.at(-1).at - found[0].from)}` : "";
  if (!ranked.length && !unserved) { replace("share-key"); return replace("share", nothing("No query was routed in this time.")); }
  const rows = found.map((r) => ({ ...r, all: sum(Object.values(r.served)) + r.unserved }));
  const share = (r, count) => (r.all > 0 ? count / r.all : null);
  const main = ranked.slice(0, SHOWN), rest = ranked.slice(SHOWN);
  const layers = main.map((name) => ({ name, color: colorOf(name), total: totals[name], values: rows.map((r) => share(r, r.served[name] ?? 0)) }));
  if (rest.length) layers.push({ name: `${plural(rest.length, "other LLM")}`, color: "var(--other)", total: sum(rest.map((n) => totals[n])), values: rows.map((r) => share(r, sum(rest.map((n) => r.served[n] ?? 0)))) });
  if (unserved) layers.push({ name: "unserved", color: "var(--line)", total: unserved, values: rows.map((r) => share(r, r.unserved)) });
  const times = rows.map((r) => r.at), all = sum(layers.map((layer) => layer.total));
  const label = layers.map((layer) => `${layer.name} ${percent(layer.total / all)}`).join(", ");
  // a single stretch of time would be a line without width
  if (times.length === 1) { times.unshift(rows[0].from); for (const layer of layers) layer.values.unshift(layer.values[0]); }
  replace("share", areaChart({ width: widthOf("share"), label, times, layers, x: [times[0], times.at(-1)], y: [0, 1], xTicks: timeTicks(times[0], times.at(-1)), yTicks: [0, 0.5, 1].map((v) => [v, percent(v)]) }));
  replace("share-key", ...layers.map((layer) => {
    const swatch = el("span", { class: "swatch" });
    swatch.style.background = layer.color;
    return el("li", {}, swatch, `${layer.name} `, el("span", { class: "quiet" }, percent(layer.total / all)));
  }));
}

export function drawRate(timeline) {
  const found = rates(timeline);
  if (!found.length) return replace("rate", nothing("The timeline has a point every ten seconds; two are needed."));
  const top = Math.max(1, ...found.map((r) => r.arrived)) * 1.08;
  const x = [found[0].from, found.at(-1).at];
  replace("rate", lineChart({
    label: `Queries a second, now ${short(found.at(-1).arrived)}, at most ${short(top / 1.08)}`,
    width: widthOf("rate"), x, y: [0, top], xTicks: timeTicks(...x), yTicks: ticks(0, top, 4).map((t) => [t, short(t)]),
    lines: [
      { points: found.map((r) => [r.at, r.arrived]), color: "var(--settled)", fill: true, width: 2, name: "arrived", dot: true, note: `${short(found.at(-1).arrived)}/s` },
      { points: found.map((r) => [r.at, r.unserved / (r.at - r.from)]), color: "var(--warn)", width: 1.3, dash: "4 3", name: "unserved" },
    ],
  }));
}
