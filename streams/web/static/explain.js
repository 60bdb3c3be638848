// Looks up one query and shows its decisions: scores, money, neighbours, outcome.

import { el, nothing, replace, svg } from "./charts.js";
import { clock, number, percent, plural, short, signed, usd } from "./format.js";

export function startExplaining() {
  const input = document.getElementById("query-id");
  document.getElementById("search").addEventListener("submit", (event) => {
    event.preventDefault();
    const id = input.value.trim();
    if (id) location.hash = `query=${encodeURIComponent(id)}`;
    if (id === wanted()) explain(id);
  });
  const follow = () => {
    const id = wanted();
    if (!id) return;
    input.value = id;
    explain(id);
  };
  window.addEventListener("hashchange", follow);
  follow();
}

function wanted() {
  const found = /^#query=(.+)$/.exec(location.hash);
  if (!found) return null;
  try {
    return decodeURIComponent(found[1]);
  } catch {
    return found[1]; // typed by hand: a percent sign that is no escape stands for itself
  }
}

async function explain(id) {
  const section = document.getElementById("explained");
  section.hidden = false;
  replace("explained", el("p", { class: "quiet" }, `Looking for ${id} …`));
  try {
    const response = await fetch(`/api/explain?id=${encodeURIComponent(id)}`);
    const found = await response.json();
    if (!response.ok) throw new Error(found.error);
    replace("explained", ...shown(found));
  } catch (error) {
    replace("explained", title(id), nothing(error.message));
  }
  section.scrollIntoView({ block: "nearest" });
}

function title(id) {
  const close = el("button", { type: "button", class: "plain" }, "Close");
  close.addEventListener("click", () => {
    document.getElementById("explained").hidden = true;
    history.replaceState(null, "", location.pathname);
  });
  return el("div", { class: "title" }, el("h2", {}, "Query ", el("span", { class: "mono" }, id)), close);
}

const WORDS = {
  routed: (d) => ["Went to ", el("b", {}, d.model), d.explored ? ", to measure it." : "."],
  unserved: (d) => ["Was left unserved: ", el("b", {}, d.reason ?? "no reason is written down"), "."],
  deferred: (d) => ["Was passed to the overflow lane: ", el("b", {}, d.reason), "."],
  refused: (d) => ["Was refused: ", el("b", {}, d.reason ?? "no reason is written down"), "."],
  waiting: (d) => ["Waits: ", el("b", {}, d.reason), "."],
};

function shown(found) {
  const parts = [title(found.id)];
  if (found.prompt) parts.push(el("details", {}, el("summary", { class: "quiet" }, `Prompt: ${found.prompt.slice(0, 110)}${found.prompt.length > 110 ? " …" : ""}`), el("pre", {}, found.prompt)));
  // the last decision is the answer; earlier ones and the neighbours follow
  const decisions = found.decisions, several = decisions.length > 1;
  decisions.map((decision, i) => [decision, i + 1]).reverse().forEach(([decision, count], i) => {
    if (i === 1) parts.push(el("h3", {}, "Before that"));
    parts.push(...decided(decision, several ? count : null));
  });
  const near = decisions.findLast((decision) => decision.neighbours.length);
  if (near) parts.push(neighbours({ ...near, model: decisions.at(-1).model ?? near.model }));
  return parts;
}

function decided(d, count) {
  const sentence = el("p", { class: "verdict" }, count ? `${count}. ` : "", ...(WORDS[d.stage] ?? ((x) => [x.stage]))(d));
  const fact = (name, ...value) => el("div", {}, el("dt", {}, name), el("dd", {}, ...value));
  const facts = el("dl", { class: "facts" }, fact("lane and offset", `${d.pool ? "overflow" : d.lane} : ${d.offset}`));
  if (d.at) facts.append(fact("decided", clock(d.at, true)));
  if (d.found) facts.append(fact("lies in", el("span", { class: "mono" }, d.found)));
  if (d.plan) facts.append(fact("by plan", `${d.plan.version} of period ${d.plan.period}${d.plan.learned ? "" : ", warm-up"}`));
  if (d.recorded?.quality !== undefined) facts.append(fact("estimated quality", d.recorded.quality.toFixed(3)));
  if (d.recorded?.cost !== undefined) facts.append(fact("reserved", usd(d.recorded.cost)));
  if (d.stage === "routed") facts.append(...outcome(d));
  if (d.agrees !== null && d.agrees !== undefined) {
    facts.append(fact("decided again now", d.agrees ? el("span", { class: "good" }, "the same") : el("span", { class: "bad" }, "otherwise: history or settings have changed")));
  }
  return [sentence, facts, ...(d.models.length ? [scores(d)] : [])];
}

function outcome(d) {
  const fact = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));
  if (!d.outcome) return [fact("outcome", "has not come")];
  const off = d.recorded?.cost ? d.outcome.cost / d.recorded.cost - 1 : null;
  const facts = [fact("really cost", `${usd(d.outcome.cost)}${off === null ? "" : ` (${signed(percent(off), off)})`}`)];
  if (d.outcome.quality !== null) facts.push(fact("reported quality", d.outcome.quality.toFixed(3)));
  return facts;
}

// A bar to the right for an LLM that is worth its price, to the left otherwise.
function bar(score, most) {
  const width = 110, middle = width / 2, size = (Math.min(1, Math.abs(score) / most) * width) / 2;
  return svg("svg", { class: "meter", viewBox: `0 0 ${width} 14`, role: "img", "aria-label": `score ${score.toFixed(4)}` },
    svg("line", { class: "axis", x1: middle, x2: middle, y1: 0, y2: 14 }),
    svg("rect", { x: score < 0 ? middle - size : middle, y: 3, width: Math.max(size, 0.8), height: 8, rx: 1.5, fill: score > 0 ? "var(--settled)" : "var(--other)" }));
}

function scores(d) {
  const rows = [...d.models].sort((a, b) => (b.score ?? -1e9) - (a.score ?? -1e9));
  const scored = rows.filter((m) => m.score !== null && m.score !== undefined);
  const most = Math.max(1e-9, ...scored.map((m) => Math.min(Math.abs(m.score), 1)));
  const heads = ["LLM", "quality", "− price × cost", "= score", "", "could spend", "after"];
  const row = (m) => {
    const known = m.quality !== undefined;
    const cell = (label, text, kind) => el("td", { class: `n ${kind ?? ""}`, "data-label": label }, text);
    const why = !m.active ? "closed" : m.excluded ? `excluded: ${m.excluded}` : m.worth && m.cannot_pay?.length ? `cannot pay: ${m.cannot_pay.join(", ")}` : m.comparable === false ? "no estimate" : m.can_pay === false ? "cannot pay" : m.worth === false ? "not worth it" : m.chosen ? "chosen" : "";
    return el("tr", { class: m.chosen ? "chosen" : m.can_pay === false ? "closed" : null },
      el("td", { class: "llm", title: m.name }, m.name, why ? el("span", { class: "quiet" }, `  ${why}`) : null),
      cell("quality", known ? m.quality.toFixed(3) : "–"),
      cell("− price × cost", known && m.price !== null ? (m.price * m.cost).toFixed(4) : "–"),
      cell("= score", m.score === null || m.score === undefined ? "–" : m.score.toFixed(4).replace("-", "−")),
      el("td", { class: "bar" }, m.score === null || m.score === undefined ? "" : bar(m.score, most)),
      cell("could spend", m.available_before === undefined ? "–" : usd(m.available_before, 6), m.can_pay === false ? "bad" : ""),
      cell("after", m.available_after === undefined ? "–" : usd(m.available_after, 6)));
  };
  return el("div", {}, el("h3", {}, `Scores: an LLM is taken when it is worth its price and the lane can pay; the best of them goes first${d.estimated_by ? `. Estimated by ${d.estimated_by}` : ""}`),
    el("div", { class: "scroll" }, el("table", { class: "cards" }, el("thead", {}, el("tr", {}, ...heads.map((text, i) => el("th", { class: i ? "n" : null, scope: "col" }, text)))), el("tbody", {}, ...rows.map(row)))),
    ...(d.budgets?.length ? [counters(d.budgets)] : []));
}

// The price of each budget that the query could draw on, and what the lane had of it.
function counters(budgets) {
  const had = (b) => (b.available_before === null ? "–" : b.unit === "usd" ? usd(b.available_before, 6) : `${number(b.available_before)} ${b.unit}`);
  const row = (b) => el("tr", {}, el("td", { class: "llm" }, b.name), el("td", { class: "n", "data-label": "price" }, short(b.price)), el("td", { class: "n", "data-label": "could spend" }, had(b)));
  return el("div", { class: "scroll" }, el("table", { class: "cards" },
    el("thead", {}, el("tr", {}, ...["budget", "price", "could spend"].map((text, i) => el("th", { class: i ? "n" : null, scope: "col" }, text)))),
    el("tbody", {}, ...budgets.map(row))));
}

function neighbours(d) {
  const one = (n) => {
    const best = Object.entries(n.quality).sort((a, b) => b[1] - a[1])[0];
    const result = d.model && n.quality[d.model] !== undefined ? `${d.model}: quality ${short(n.quality[d.model])}, cost ${usd(n.cost[d.model] ?? 0)}` : best ? `best ${best[0]}: quality ${short(best[1])}` : "";
    return el("li", {}, el("details", {},
      el("summary", {}, el("b", {}, n.similarity.toFixed(3)), ` ${n.prompt.slice(0, 90)}${n.prompt.length > 90 ? " …" : ""}`,
        el("div", { class: "quiet" }, `${n.id}${n.task ? ` · ${n.task}` : ""} · ${result}`)),
      el("pre", {}, n.prompt)));
  };
  return el("div", {}, el("h3", {}, `${plural(d.neighbours.length, "nearest answered query").replace("querys", "queries")} of the history, by cosine`), el("ul", { class: "letters" }, ...d.neighbours.map(one)));
}
