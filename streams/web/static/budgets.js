// Budgets by scope: those of all queries, those with a counter for each value, and a search for a value.

import { el, meter, nothing, replace } from "./charts.js";
import { decimals, number, percent, plural, short, usd } from "./format.js";

const SHOWN_VALUES = 8, PAUSE_MS = 250;

// True unless each LLM has a dollar budget of its own and there is no other.
export const isShared = (overview) => overview?.shared === true;

const amountOf = (value, unit, places) => (unit === "usd" ? usd(value, places) : `${number(value)} ${unit}`);

// Counters with a limit for the period, in the form of LLMs for the burn-down: budgets, then listed values.
export function scopesOf(overview) {
  const limited = overview.budgets.filter((budget) => !budget.per);
  const form = (budget) => budget.counters.map((c) => ({
    name: c.value === null ? budget.name : `${budget.name}=${c.value}`,
    budget: c.limit, charged: c.limit - c.left, settled: c.spent,
  }));
  return [...limited.filter((b) => !b.group_by).flatMap(form), ...limited.filter((b) => b.group_by).flatMap(form)];
}

// The budget that most of the period's money is measured by: the first dollar budget of all LLMs, or the one used most.
export function mainScope(overview) {
  const found = overview.budgets.filter((b) => b.unit === "usd" && !b.per && !b.group_by);
  const all = found.find((b) => b.models.length === overview.models.length);
  return all ?? found.sort((a, b) => (b.counters[0].share ?? 0) - (a.counters[0].share ?? 0))[0] ?? null;
}

function row(budget, counter, label, progress, kind) {
  const limit = counter.limit || 1e-12, share = counter.share, places = decimals(counter.limit);
  const amount = (value) => amountOf(value, budget.unit, places);
  const bar = share === null ? "" : meter({
    label: `${label}: ${percent(counter.spent / limit)} spent, ${percent(counter.reserved / limit)} reserved`,
    parts: [{ share: counter.spent / limit, color: "var(--settled)" }, { share: counter.reserved / limit, color: "var(--reserved)" }],
    mark: budget.per ? null : Math.min(1, progress),
  });
  const cell = (name, text, extra) => el("td", { class: `n ${extra ?? ""}`, "data-label": name }, text);
  const used = share === null ? (budget.per ? `per ${budget.per}` : "–") : percent(share);
  return el("tr", { class: kind },
    el("td", { class: "llm", title: budget.models.join(", ") }, label),
    el("td", { class: "bar" }, bar),
    cell("used", used, `lead ${share >= 0.99 ? "bad" : share >= 0.8 ? "warn" : ""}`),
    cell("left", amount(counter.left), counter.left < 0 ? "bad" : ""),
    cell("spent", amount(counter.spent)),
    cell("reserved", budget.unit === "usd" ? amount(counter.reserved) : "–"),
    cell("limit", amount(counter.limit)),
    cell("queries", number(counter.served)),
    cell("price", short(counter.price), "extra"));
}

function table(rows) {
  const heads = ["budget", "the line is how much of the period is over", "used", "left", "spent", "reserved", "limit", "queries", "price"];
  return el("div", { class: "scroll" }, el("table", { class: "cards" },
    el("thead", {}, el("tr", {}, ...heads.map((text, i) => el("th", { class: i > 1 ? "n" : null, scope: "col" }, text)))),
    el("tbody", {}, ...rows)));
}

export function drawScopes({ overview }) {
  const rows = [], grouped = overview.budgets.filter((budget) => budget.group_by);
  for (const budget of overview.budgets.filter((one) => !one.group_by)) rows.push(row(budget, budget.counters[0], budget.name, overview.progress));
  for (const budget of grouped) {
    const shown = budget.top.filter((one) => one.served > 0 || budget.counters.some((c) => c.value === one.value)).slice(0, SHOWN_VALUES);
    for (const one of shown) rows.push(row(budget, one, `${budget.name}=${one.value}`, overview.progress, "value"));
    const rest = budget.values - shown.length;
    if (rest > 0) rows.push(el("tr", { class: "value" }, el("td", { class: "llm quiet", colspan: 9 }, `${budget.name}: ${plural(rest, "more value")}`)));
  }
  replace("scopes", table(rows));
  const form = document.getElementById("value-search"), select = document.getElementById("value-budget");
  form.hidden = !grouped.length;
  const names = grouped.map((budget) => budget.name);
  if ([...select.options].map((option) => option.value).join("\n") !== names.join("\n")) {
    select.replaceChildren(...names.map((name) => el("option", { value: name }, name)));
  }
}

// Search while the user types. `state` returns the newest state.
export function startSearching(state) {
  const text = document.getElementById("value-text"), select = document.getElementById("value-budget");
  let timer = 0, asked = 0;
  const search = async () => {
    const wanted = text.value.trim(), own = ++asked;
    if (!wanted) return replace("found-values");
    try {
      const response = await fetch(`/api/values?${new URLSearchParams({ budget: select.value, text: wanted })}`);
      if (!response.ok) throw new Error(String(response.status));
      const found = await response.json(), { overview } = state();
      const budget = overview.budgets.find((one) => one.name === select.value);
      if (own !== asked || !budget) return;
      replace("found-values", found.length ? table(found.map((one) => row(budget, one, `${budget.name}=${one.value}`, overview.progress)))
        : nothing(`No value of ${budget.name} contains “${wanted}” in this period.`));
    } catch (error) {
      if (own === asked) replace("found-values", nothing(`The search failed (${error.message}).`));
    }
  };
  const later = () => { clearTimeout(timer); timer = setTimeout(search, PAUSE_MS); };
  text.addEventListener("input", later);
  select.addEventListener("change", later);
  document.getElementById("value-search").addEventListener("submit", (event) => { event.preventDefault(); later(); });
}
