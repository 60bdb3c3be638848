// Current state: figures, budgets, latency, quality, lanes, plans, dead letters, workers.

import { isShared, mainScope } from "./budgets.js";
import { dumbbellChart, el, lineChart, logTicks, meter, nothing, rangeChart, replace, widthOf } from "./charts.js";
import { colorOf } from "./colors.js";
import { ago, bytes, clock, decimals, number, percent, plural, seconds, short, signed, span, usd } from "./format.js";

const sum = (values) => values.reduce((a, b) => a + b, 0);
const queries = (count) => `${number(count)} ${count === 1 ? "query" : "queries"}`;

// Reported and estimated quality over all LLMs, weighted by their reports.
function qualities(models) {
  const reporting = models.filter((model) => model.reported > 0);
  const count = sum(reporting.map((model) => model.reported));
  if (!count) return null;
  const mean = (name) => sum(reporting.map((model) => model.reported * model[name])) / count;
  return { count, reported: mean("quality_reported"), estimated: mean("quality_estimated") };
}

export function drawFigures(state, found) {
  const { overview, percentiles, lag, dead_letters: letters, workers } = state;
  const models = overview?.models ?? [];
  // with shared budgets, the LLMs' budgets overlap: one of them stands for all
  const shared = isShared(overview), scope = shared ? mainScope(overview) : null, main = scope?.counters[0];
  const budget = shared ? main?.limit ?? 0 : sum(models.map((m) => m.budget));
  const charged = shared ? (main ? main.limit - main.left : 0) : sum(models.map((m) => m.charged));
  const rate = sum(workers.filter((w) => !w.silent).map((w) => w.queries_per_second));
  const quality = qualities(models), latency = percentiles.latency;
  const past = found.slice(-30).map((r) => r.arrived);
  const over = shared ? [] : models.filter((m) => m.charged > m.budget), unanswered = sum(models.map((m) => m.unanswered ?? 0));
  const oldest = Math.min(Infinity, ...Object.values(state.oldest_open ?? {})), wait = Number.isFinite(oldest) ? state.now - oldest : 0;
  const refused = letters.queries === undefined ? null : letters.queries + (letters.outcomes ?? 0);
  const figure = (name, value, unit, note, kind) =>
    el("dl", { class: "figure" }, el("dt", {}, name), el("dd", { class: kind }, value, unit ? el("small", {}, ` ${unit}`) : null), el("p", {}, note));
  const ahead = overview && overview.progress > 0.02 ? charged / budget / overview.progress : null;
  replace(
    "figures",
    figure("Throughput", short(rate), "queries/s", past.length ? `peak of late ${short(Math.max(...past))}` : "last minute"),
    figure(scope ? `Spent of ${scope.name}` : "Spent of the budget", percent(budget ? charged / budget : 0, 1), "", over.length ? `${plural(over.length, "LLM")} above budget` : `${usd(charged, decimals(budget))} of ${usd(budget)}`, over.length ? "bad" : ahead > 1.25 ? "warn" : null),
    figure("Served", overview ? percent(overview.arrived ? overview.served / overview.arrived : null, 1) : "–", "", overview ? `${number(overview.served)} of ${number(overview.arrived)}, ${number(overview.unserved)} unserved` : ""),
    quality ? figure("Quality reported", quality.reported.toFixed(3), "", `${quality.estimated.toFixed(3)} estimated, ${queries(quality.count)}`) : "",
    figure("Without outcome", short(unanswered), unanswered === 1 ? "query" : "queries", unanswered ? (wait ? `the oldest for ${span(wait)}` : "on the LLMs' topics") : "all served are settled", wait > 300 ? "warn" : null),
    figure("Latency p99", latency ? seconds(latency.p99) : "–", "", latency ? `p50 ${seconds(latency.p50)}, to the commit` : "no query in the last minute"),
    figure("Waiting", short(lag.total), lag.total === 1 ? "query" : "queries", lag.total ? `worst lane ${short(lag.worst)}` : "nothing waits", lag.worst > 10000 ? "warn" : null),
    figure("Dead letters", short(refused), "", `${number(overview?.dead ?? 0)} this period`, overview?.dead ? "warn" : null),
  );
}

export function drawBudgets({ overview, oldest_open: oldest = {}, now }) {
  if (!overview) return replace("budgets", nothing("There is no plan yet: the planner has not started."));
  const shared = isShared(overview), places = decimals(Math.max(...overview.models.map((m) => (shared ? m.charged : m.budget))));
  document.getElementById("budgets-title").textContent = shared ? "LLMs" : "Budgets";
  document.querySelector("#budgets-title + .key").hidden = shared;
  const LIMITED = [1, 2, 3, 6];  // columns that need a budget of the LLM's own
  const own = (_, i) => !shared || !LIMITED.includes(i);
  const cells = (name, m, foot) => {
    const budget = m.budget || 1e-12, held = Math.max(0, m.granted - m.charged);
    const used = m.charged / budget;
    const bar = meter({
      label: `${name}: ${percent(m.settled / budget)} settled, ${percent(m.reserved / budget)} reserved, ${percent(held / budget)} granted and not spent`,
      parts: [
        { share: m.settled / budget, color: "var(--settled)" },
        { share: m.reserved / budget, color: "var(--reserved)" },
        { share: held / budget, color: "var(--granted)" },
      ],
      mark: Math.min(1, overview.progress),
    });
    const cell = (label, text, kind) => el("td", { class: `n ${kind ?? ""}`, "data-label": label }, text);
    const error = m.cost_error === null || m.cost_error === undefined ? "–" : signed(percent(m.cost_error, 1), m.cost_error);
    return [
      el("td", { class: "llm", title: name }, foot ? null : el("span", { class: "swatch" }), name),
      el("td", { class: "bar" }, bar),
      cell("used", percent(used), `lead ${used > 1 ? "bad" : used > 0.98 ? "warn" : ""}`),
      cell("left", usd(m.left, places), m.left < 0 ? "bad" : ""),
      cell("settled", usd(m.settled, places)),
      cell("reserved", usd(m.reserved, places)),
      cell("budget", usd(m.budget, places)),
      cell("queries", number(m.served)),
      cell("no outcome", m.unanswered ? `${short(m.unanswered)}${oldest[name] ? ` · ${span(now - oldest[name])}` : ""}` : "0", oldest[name] && now - oldest[name] > 300 ? "warn" : ""),
      cell("quality/$", foot ? "" : short(m.price), "extra"),
      cell("cost error", error, `extra ${Math.abs(m.cost_error ?? 0) > 0.2 ? "warn" : ""}`),
    ].filter(own);
  };
  const body = el("tbody");
  for (const model of overview.models) {
    const row = el("tr", { class: model.active ? null : "closed" }, ...cells(model.name, model, false));
    row.querySelector(".swatch").style.background = colorOf(model.name);
    body.append(row);
  }
  const total = { cost_error: null };
  const reservedFor = sum(overview.models.map((m) => (m.cost_error === null ? 0 : m.settled / (1 + m.cost_error))));
  if (reservedFor > 0) total.cost_error = sum(overview.models.map((m) => m.settled)) / reservedFor - 1;
  for (const name of ["budget", "granted", "charged", "reserved", "settled", "left", "served", "unanswered"]) total[name] = sum(overview.models.map((m) => m[name]));
  const heads = ["LLM", "the line is how much of the period is over", "used", "left", "settled", "reserved", "budget", "queries", "no outcome", "quality/$", "cost error"];
  replace(
    "budgets",
    el("div", { class: "scroll" },
      el("table", { class: "cards" },
        el("thead", {}, el("tr", {}, ...heads.map((text, i) => el("th", { class: i > 1 ? "n" : null, scope: "col" }, text)).filter(own))),
        body,
        overview.models.length > 1 ? el("tfoot", {}, el("tr", {}, ...cells("All", total, true))) : null,
      )),
  );
}

const STAGES = ["latency", "intake", "decide", "produce", "commit", "settle", "sample"];

export function drawLatency({ percentiles }) {
  const rows = STAGES.filter((name) => percentiles[name]?.count).map((name) => ({ name: name === "latency" ? "whole query" : name, ...percentiles[name] }));
  if (!rows.length) return replace("latency", nothing("No query in the last minute."));
  const label = rows.map((row) => `${row.name}: median ${seconds(row.p50)}, p99 ${seconds(row.p99)}`).join("; ");
  replace("latency", rangeChart({ rows, label, format: seconds, width: widthOf("latency") }));
}

const tail = (name, most) => (name.length > most ? `…${name.slice(1 - most)}` : name);

export function drawQuality({ overview }) {
  const reporting = (overview?.models ?? []).filter((model) => model.reported > 0);
  if (!reporting.length) return replace("quality");
  const width = widthOf("quality"), letters = width < 420 ? 20 : 29;
  const rows = reporting.map((model) => ({
    name: tail(model.name, letters), from: model.quality_estimated, to: model.quality_reported,
    note: `${signed((model.quality_reported - model.quality_estimated).toFixed(3), model.quality_reported - model.quality_estimated)}  n ${short(model.reported)}`,
  }));
  const label = reporting.map((m) => `${m.name}: estimated ${m.quality_estimated.toFixed(3)}, reported ${m.quality_reported.toFixed(3)}`).join("; ");
  replace("quality", dumbbellChart({ rows, label, format: (v) => v.toFixed(1), width }));
}

const BEHIND = 500, FAR = 10000, TILES = 24;

// One line if no lane is behind; otherwise tiles of the lanes that are, the largest lag first.
export function drawLanes({ lanes, now }) {
  const slow = lanes.filter((lane) => lane.lag > BEHIND).sort((a, b) => b.lag - a.lag);
  const waiting = sum(lanes.map((lane) => lane.lag ?? 0));
  document.getElementById("lanes-note").textContent = !lanes.length ? "none has committed anything yet"
    : slow.length ? `${number(slow.length)} of ${number(lanes.length)} more than ${number(BEHIND)} queries behind`
    : `${plural(lanes.length, "lane")}, ${waiting ? `${short(waiting)} waiting in all` : "nothing waits"}`;
  const tile = (lane) => {
    const title = `lane ${lane.name}: next offset ${number(lane.next)}, ${number(lane.arrived)} queries in period ${lane.period}, plan ${lane.version}, last transaction ${ago(lane.written_at, now)}`;
    return el("div", { class: `lane ${lane.lag > FAR ? "far" : "behind"}`, title }, lane.name, el("b", {}, short(lane.lag)), ago(lane.written_at, now));
  };
  replace("lanes", slow.length ? el("div", { class: "lanes" }, ...slow.slice(0, TILES).map(tile)) : "");
}

export function drawPlans(state, plans) {
  const note = document.getElementById("plans-note");
  note.textContent = plans.length ? "quality that a dollar must buy, by LLM" : "";
  const learned = plans.filter((plan) => plan.learned);
  if (!learned.length) replace("prices", nothing(state.overview?.learned ? "The first plan has prices; a chart needs a second." : "No prices yet: warm-up is on."));
  else drawPrices(learned, state.now);
  const rows = plans.slice(-8).reverse().map((plan) => {
    const { solver, rows: solvedOn, observed, warmup } = plan.solved_from;
    const basis = [solvedOn ? `${number(solvedOn)} rows` : null, observed ? `${number(observed)} observed` : null, solvedOn || observed ? solver : null].filter(Boolean);
    const from = !plan.learned ? "warm-up" : basis.length ? basis.join(", ") : warmup === "history" ? "the history" : "the last period's prices";
    return el("tr", {}, el("td", {}, String(plan.version)), el("td", {}, String(plan.period)), el("td", {}, from), el("td", { class: "n", title: clock(plan.at, true) }, ago(plan.at, state.now)));
  });
  const heads = ["plan", "period", "solved from", "when"].map((text, i) => el("th", { class: i === 3 ? "n" : null, scope: "col" }, text));
  replace("plans", rows.length ? el("table", {}, el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...rows)) : "");
}

function drawPrices(plans, now) {
  const names = [...new Set(plans.flatMap((plan) => plan.models))];
  const log = (price) => (price > 0 ? Math.log10(price) : null);
  const lines = names.map((name) => {
    const points = plans.map((plan) => [plan.at, log(plan.prices[plan.models.indexOf(name)] ?? 0)]);
    points.push([now, points.at(-1)[1]]);
    return { name, points, color: colorOf(name), step: true, width: 1.5 };
  });
  const values = lines.flatMap((line) => line.points.map(([, y]) => y)).filter((y) => y !== null);
  if (!values.length) return replace("prices", nothing("Every price is zero: no budget binds."));
  const low = Math.min(...values) - 0.12, high = Math.max(...values) + 0.12;
  const yTicks = logTicks(low, high).map(([at, price]) => [at, short(price)]);
  const start = plans[0].at;
  replace("prices", lineChart({
    label: `Prices of ${plural(names.length, "LLM")} over ${plural(plans.length, "plan")}, on a logarithmic scale`,
    lines, x: [start, now], y: [low, high], yTicks, xTicks: [[start, clock(start, now - start > 80000)], [now, "now"]], width: widthOf("prices"), height: 200, left: 52,
  }));
}

export function drawLetters(state, letters) {
  document.getElementById("letters-note").textContent = letters.length ? `the newest ${letters.length}` : "";
  if (!letters.length) return replace("letters");
  const one = (letter) =>
    el("li", {},
      el("details", {},
        el("summary", {}, el("b", {}, letter.reason),
          el("div", { class: "quiet" }, `${letter.stage} · ${letter.from} · ${letter.id ? `id ${letter.id} · ` : ""}${bytes(letter.bytes)} · ${ago(letter.at, state.now)}`)),
        el("pre", {}, letter.preview + (letter.bytes > letter.preview.length ? " …" : "")),
        el("p", { class: "quiet mono" }, `${letter.topic} at offset ${letter.offset}`)));
  const open = new Set([...document.querySelectorAll("#letters details[open]")].map((node) => node.querySelector(".mono").textContent));
  const list = el("ul", { class: "letters" }, ...letters.map(one));
  for (const node of list.querySelectorAll("details")) node.open = open.has(node.querySelector(".mono").textContent);
  replace("letters", list);
}

export function drawWorkers({ workers, worker, now, overview }) {
  const outcomes = Object.entries(overview?.outcomes ?? {}).filter(([, count]) => count);
  document.getElementById("outcomes-note").textContent = outcomes.length ? `outcomes so far: ${outcomes.map(([kind, count]) => `${number(count)} ${kind}`).join(", ")}` : "";
  if (!workers.length) return replace("workers", nothing("No worker has reported yet."));
  const heads = ["worker", "state", "queries/s", "waiting", "CPU", "memory", "up", "lanes"];
  const row = (w) => {
    const state = w.silent ? `silent for ${span(now - w.at)}` : w.ready ? "ready" : "not ready";
    const cell = (label, text, kind) => el("td", { class: kind, "data-label": label }, text);
    return el("tr", { class: w.silent ? "closed" : null },
      el("td", { class: "llm", title: w.worker }, w.host, w.worker === worker ? el("span", { class: "quiet" }, " (this one)") : null),
      cell("state", state, "lead " + (w.silent ? "bad" : w.ready ? "good" : "warn")), cell("queries/s", short(w.queries_per_second), "n"),
      cell("waiting", short(w.pending), "n"), cell("CPU", percent(w.cpu_ratio), "n"), cell("memory", bytes(w.memory_bytes), "n"),
      cell("up", span(now - w.started_at), "n extra"), el("td", { class: "n extra", "data-label": "lanes", title: w.lanes.join(", ") }, String(w.lanes.length)));
  };
  replace("workers", el("div", { class: "scroll" }, el("table", { class: "cards" },
    el("thead", {}, el("tr", {}, ...heads.map((text, i) => el("th", { class: i > 1 ? "n" : null, scope: "col" }, text)))),
    el("tbody", {}, ...workers.map(row)))));
}
