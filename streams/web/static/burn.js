// Remaining budget over the period; names the LLMs or budgets that spend fastest, those above their limit first.

import { isShared, scopesOf } from "./budgets.js";
import { el, lineChart, nothing, replace, svg, widthOf } from "./charts.js";
import { colorOf, dashOf } from "./colors.js";
import { percent, plural } from "./format.js";

const sum = (values) => values.reduce((a, b) => a + b, 0);
const NAMED = 6, LOWEST = -2, LATEST = 1.1;

// Remaining share of the budget; below 0 if answers cost more than the budget.
const left = (charged, budget) => (budget > 0 ? 1 - charged / budget : charged > 0 ? LOWEST : null);

// The period to draw: the current one, or the last while the current has hardly begun. `end` is its newest state.
export function chosen(overview, timeline, bills) {
  const shared = isShared(overview);
  // with shared budgets, budgets and listed values take the place of LLMs
  const byBudget = (p) => { const found = Object.entries(p.budgets ?? {}); return { ...p, models: found.map(([name]) => name), budget: found.map(([, b]) => b[0]), charged: found.map(([, b]) => b[1]) }; };
  const own = (period) => timeline.filter((p) => p.period === period).map((p) => (shared ? byBudget(p) : p));
  const now = { period: overview.period, current: true, points: own(overview.period), progress: overview.progress, models: shared ? scopesOf(overview) : overview.models, shared };
  if (now.points.length >= 2 || overview.progress > 0.02) return now;
  const bill = bills.filter((one) => one.period < overview.period && (shared ? one.budgets.some((b) => b.limit) : one.total.budget !== null)).at(-1);
  if (!bill) return now;
  const points = own(bill.period), spent = (b) => b.llms.reduce((all, llm) => all + llm.settled, 0);
  const models = shared ? bill.budgets.filter((b) => b.limit && !overview.budgets.some((one) => one.per && one.name === b.budget)).map((b) => ({ name: b.budget, budget: b.limit, charged: b.charged, settled: b.unit === "usd" ? spent(b) : b.charged })) : bill.llms;
  return { period: bill.period, current: false, points, progress: Math.max(1, points.at(-1)?.progress ?? 1), models, shared };
}

// LLMs as lines, the highest use of the budget first.
export function linesOf({ points, progress, models }) {
  const end = Math.min(progress, LATEST);
  const lines = models.filter((m) => m.budget > 0 || m.charged > 0).map((m) => {
    const past = points.map((p) => {
      const k = p.models.indexOf(m.name);
      return [Math.min(p.progress, LATEST), k < 0 ? null : left(p.charged[k], p.budget[k])];
    });
    return { name: m.name, used: m.budget > 0 ? m.charged / m.budget : Infinity, real: m.settled > m.budget, points: [[0, 1], ...past, [end, left(m.charged, m.budget)]] };
  });
  return lines.sort((a, b) => b.used - a.used);
}

// Note beside the title: never "on course" if an LLM is above its budget.
export function courseOf(lines, progress, word = "LLM") {
  const over = lines.filter((line) => line.used > 1);
  if (over.length) return { kind: "bad", text: `${plural(over.length, word)} above budget, ${over[0].name} at ${amount(over[0].used)}` };
  if (progress <= 0.02) return { kind: "", text: "" };
  const ahead = lines.filter((line) => line.used > progress * 1.05 + 0.05);
  if (ahead.length) return { kind: "warn", text: `${plural(ahead.length, word)} ahead of the period, ${ahead[0].name} by ${percent(ahead[0].used - progress)}` };
  return { kind: "", text: "on course" };
}

const amount = (used) => (Number.isFinite(used) ? percent(used) : "a budget of 0");

function sample(color, dash, width) {
  return svg("svg", { class: "sample", viewBox: "0 0 22 8", width: 22, height: 8, "aria-hidden": "true" },
    svg("line", { x1: 0, x2: 22, y1: 4, y2: 4, stroke: color, "stroke-width": width, "stroke-dasharray": dash }));
}

export function drawBurn(state, timeline, bills) {
  const overview = state?.overview, note = document.getElementById("burn-note");
  replace("burn-key");
  if (!overview) { note.textContent = ""; return replace("burn", nothing("There is no period yet.")); }
  const shown = chosen(overview, timeline, bills), lines = linesOf(shown);
  const end = Math.min(shown.progress, LATEST), total = (name) => sum(shown.models.map((m) => m[name]));
  const all = [[0, 1], ...shown.points.map((p) => [Math.min(p.progress, LATEST), left(sum(p.charged), sum(p.budget))]), [end, left(total("charged"), total("budget"))]];
  const course = courseOf(lines, shown.current ? shown.progress : 1, shown.shared ? "budget" : "LLM");
  note.textContent = `${shown.current ? "" : `period ${shown.period}, the last one: `}${course.text}`;
  note.className = course.kind || "quiet";
  const named = lines.slice(0, NAMED), rest = lines.slice(NAMED), clamp = ([x, y]) => [x, y === null ? null : Math.max(y, LOWEST)];
  const low = Math.min(0, ...lines.map((line) => Math.max(LOWEST, Math.min(...line.points.map(([, y]) => y ?? 1)))));
  const step = low < -1 ? 1 : low < 0 ? 0.5 : 0.25;
  const yTicks = []; for (let y = 1; y >= Math.floor(low / step) * step - 1e-9; y -= step) yTicks.push([y, percent(y).replace("-", "−")]);
  replace("burn", lineChart({
    label: `Budget left against the period: ${shown.shared ? "" : `${percent(all.at(-1)[1])} left of all `}with ${percent(end)} of the period over. ${lines.map((line) => `${line.name} used ${amount(line.used)}`).join(", ")}`,
    width: widthOf("burn"), height: low < 0 ? 330 : 286, x: [0, Math.max(1, end)], y: [yTicks.at(-1)[0], 1],
    xTicks: [0, 0.25, 0.5, 0.75, 1].map((v) => [v, percent(v)]), yTicks, below: low < 0 ? 0 : null,
    lines: [
      { points: [[0, 1], [1, 0]], color: "var(--quiet)", dash: "3 4", width: 1.2, name: "even spending" },
      ...rest.map((line) => ({ ...line, points: line.points.map(clamp), color: "var(--other)", width: 1, opacity: 0.7 })),
      ...(shown.shared ? [] : [{ points: all.map(clamp), color: "var(--ink)", width: 2.4, dot: true, name: "all LLMs" }]),
      ...named.slice().reverse().map((line) => ({ ...line, points: line.points.map(clamp), color: colorOf(line.name), dash: dashOf(line.name), width: 2, dot: true })),
    ],
  }));
  const item = (mark, name, used, kind) => el("li", {}, mark, `${name} `, el("b", { class: kind }, used));
  const kindOf = (used) => (used > 1 ? "bad" : used > shown.progress * 1.25 + 0.05 ? "warn" : "");
  replace("burn-key",
    ...named.map((line) => item(sample(colorOf(line.name), dashOf(line.name), 2.4), line.name, `${amount(line.used)} used`, kindOf(line.used))),
    rest.length ? item(sample("var(--other)", null, 1.4), plural(rest.length, shown.shared ? "other budget" : "other LLM"), `${amount(rest[0].used)} at most`, "") : "",
    shown.shared ? "" : item(sample("var(--ink)", null, 2.6), "all LLMs", `${amount(total("charged") / total("budget"))} used`, ""),
    item(sample("var(--quiet)", "3 4", 1.4), "even spending", "", ""));
}
