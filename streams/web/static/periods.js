// The last periods: their totals, and the budgets that real spending exceeded.

import { el, replace } from "./charts.js";
import { decimals, number, percent, usd } from "./format.js";

const MAX_PERIODS = 8;

// The LLMs above their budget, as texts.
export function overspentOf(bill) {
  return bill.overspent.map((one) => ({ name: one.name, share: one.share === null ? "a budget of 0" : percent(one.share), text: one.text, real: one.real }));
}

export function drawPeriods(bills, overview) {
  const rates = new Set((overview?.budgets ?? []).filter((budget) => budget.per).map((budget) => budget.name));
  const note = document.getElementById("periods-note");
  note.textContent = bills.length ? "budgets that were exceeded are named" : "";
  if (!bills.length) return replace("periods");
  const last = bills.slice(-MAX_PERIODS).reverse(), places = decimals(Math.max(...last.map((bill) => bill.total.budget ?? bill.total.settled)));
  const cell = (label, text, kind) => el("td", { class: `n ${kind ?? ""}`, "data-label": label }, text);
  const row = (bill) => {
    const { budget, settled, open, charged } = bill.total, over = overspentOf(bill);
    // without a budget per LLM: the budgets of all queries, the one used most first
    const scopes = bill.budgets.filter((one) => one.value === null && one.limit > 0 && !rates.has(one.budget)).sort((a, b) => b.charged / b.limit - a.charged / a.limit);
    const used = budget > 0 ? percent(charged / budget) : budget === null && scopes.length ? scopes.map((one) => `${one.budget} ${percent(one.charged / one.limit)}`).join(", ") : "–";
    const state = !bill.closed ? "current" : bill.settling ? "outcomes may come" : "final";
    return el("tr", {},
      el("td", { class: "llm" }, `${bill.period} `, el("span", { class: "quiet" }, state)),
      cell("used", used, `lead ${charged > budget && budget !== null ? "bad" : ""}`),
      cell("spent", usd(settled, places)), cell("open", usd(open, places)), cell("budget", budget === null ? "–" : usd(budget, places)),
      cell("queries", number(bill.queries)), cell("served", number(bill.served)), cell("unserved", number(bill.unserved), "extra"),
      el("td", { class: "over", "data-label": "above budget" }, over.length ? over.map((one) => `${one.name} ${one.share}`).join(", ") : "none"));
  };
  const heads = ["period", "used", "spent", "open", "budget", "queries", "served", "unserved", "above budget"];
  const table = el("table", { class: "cards" },
    el("thead", {}, el("tr", {}, ...heads.map((text, i) => el("th", { class: i === 8 ? "over" : i ? "n" : null, scope: "col" }, text)))),
    el("tbody", {}, ...last.map(row)));
  last.forEach((bill, i) => { if (bill.overspent.length) table.tBodies[0].rows[i].querySelector(".over").classList.add("bad"); });
  replace("periods", el("div", { class: "scroll" }, table));
}

// The newest periods' overspending, in sentences above the budgets.
export function drawOverspent(bills, period) {
  const recent = bills.filter((bill) => bill.period >= period - 1).reverse();
  const lines = recent.flatMap((bill) => bill.overspent.map((one) => el("li", {}, bill.period === period ? "This period" : `Period ${bill.period}`, `: ${one.text}.`)));
  const node = document.getElementById("overspent");
  node.hidden = !lines.length;
  node.replaceChildren(...lines.slice(0, 6));
}
