// Fetches the cluster's state every two seconds and its history every ten, and draws both.

import { drawScopes, isShared, startSearching } from "./budgets.js";
import { drawBurn } from "./burn.js";
import { el, replace } from "./charts.js";
import { meet } from "./colors.js";
import { startExplaining } from "./explain.js";
import { ago, clock, number, percent, plural, seconds, short, span, usd } from "./format.js";
import { drawBudgets, drawFigures, drawLanes, drawLatency, drawLetters, drawPlans, drawQuality, drawWorkers } from "./panels.js";
import { byServed, drawRate, drawShare, rates } from "./past.js";
import { drawOverspent, drawPeriods } from "./periods.js";

const STATE_MS = 2000, PAST_MS = 10000;
// `intervals` is computed once from the timeline and the bills; every chart of the past is drawn from it.
const known = { state: null, timeline: [], intervals: [], plans: [], letters: [], periods: [] };

async function ask(name) {
  const response = await fetch(`/api/${name}`, { headers: { Accept: "application/json" } });
  if (response.status === 401) location.reload();
  if (!response.ok) throw new Error(`${name}: ${response.status}`);
  return response.json();
}

function drawHeader(state) {
  const { overview, settings, workers, ready } = state;
  document.title = `${settings.app_id} · router`;
  document.getElementById("name").textContent = settings.app_id;
  const period = overview
    ? `period ${overview.period} · ${percent(Math.min(overview.progress, 9.99))} over · ${
        overview.ends_at ? `${span(overview.ends_at - overview.began_at)} long` : plural(overview.horizon, "query").replace("querys", "queries")
      }`
    : "no plan yet";
  document.getElementById("subtitle").textContent = period;
  const alive = workers.filter((worker) => !worker.silent).length, silent = workers.length - alive;
  const pill = (text, kind, title) => el("li", { class: kind ?? "good", title }, text);
  const failing = ready.checks.filter((check) => !check.ok).map((check) => `${check.name}: ${check.detail}`).join("; ");
  const pills = [
    pill(ready.ok ? "ready" : "not ready", ready.ok ? "good" : "bad", failing || "this worker can route"),
    pill(plural(alive, "worker") + (silent ? `, ${silent} silent` : ""), silent ? "warn" : "good"),
  ];
  for (const warning of ready.warnings ?? []) pills.push(pill(warning.split(":")[0], "warn", warning));
  if (overview) {
    pills.push(pill(overview.learned ? `plan ${overview.version}` : waiting(overview.warmup), overview.learned ? "plain" : "warn", `changed ${ago(overview.created_at, state.now)}`));
    for (const [name, pause] of Object.entries(overview.paused ?? {})) pills.push(pill(`${name} paused`, "warn", `since ${clock(pause.since, true)}: ${pause.reason}`));
  }
  if (state.few_samples) pills.push(pill("few samples", "warn", state.few_samples));
  replace("pills", ...pills);
  document.getElementById("foot").replaceChildren(
    el("span", {}, `preset ${settings.preset}, warm-up ${settings.warmup}, prices solved ${settings.resolve}, reserving by ${settings.reserve}`),
    el("span", {}, `shown by ${state.worker} at ${new Date(state.now * 1000).toLocaleTimeString("en-GB")}`),
  );
}

function waiting(warmup) {
  if (!warmup) return "warm-up";
  const wanted = warmup.wanted === null ? "" : ` of ${number(warmup.wanted)}`;
  const limit = warmup.seconds === null ? "" : `, at most ${seconds(warmup.seconds)}`;
  return `warm-up: ${number(warmup.samples)}${wanted} queries${limit}`;
}

function drawState() {
  const state = known.state;
  drawHeader(state);
  drawFigures(state, known.intervals);
  drawOverspent(known.periods, state.overview?.period ?? 0);
  if (isShared(state.overview)) drawScopes(state);
  drawBudgets(state);
  drawLatency(state);
  drawQuality(state);
  drawLanes(state);
  drawWorkers(state);
}

function drawPast() {
  meet(byServed(known.intervals).ranked);
  meet((known.state.overview?.models ?? []).map((model) => model.name));
  drawBurn(known.state, known.timeline, known.periods);
  drawShare(known.intervals);
  drawPeriods(known.periods, known.state.overview);
  drawRate(known.intervals);
  drawPlans(known.state, known.plans);
  drawLetters(known.state, known.letters);
}

// Hide cards without content. Return true if a card appeared or disappeared, which changes the others' widths.
function showCards() {
  const wanted = {
    "quality-card": (known.state.overview?.models ?? []).some((model) => model.reported > 0),
    "scopes-card": isShared(known.state.overview),
    "letters-card": known.letters.length > 0,
    "periods-card": known.periods.length > 0,
  };
  let changed = false;
  for (const [id, shown] of Object.entries(wanted)) {
    const card = document.getElementById(id);
    changed ||= card.hidden === shown;
    card.hidden = !shown;
  }
  return changed;
}

function banner(text) {
  const node = document.getElementById("banner");
  node.hidden = !text;
  node.textContent = text ?? "";
}

function trouble(state) {
  if (state.broker_away_since) {
    return `No Kafka broker has answered since ${clock(state.broker_away_since)} (${span(state.now - state.broker_away_since)}). No query is routed until one does; the numbers below are older.`;
  }
  const unreadable = state.ready.checks.find((check) => check.name === "partitions readable" && !check.ok);
  return unreadable ? `A partition cannot be read: ${unreadable.detail}` : null;
}

async function refresh(past) {
  try {
    const [state, ...more] = await Promise.all([ask("state"), ...(past ? [ask("timeline"), ask("plans"), ask("dead-letters"), ask("periods")] : [])]);
    known.state = state;
    if (past) {
      [known.timeline, known.plans, known.letters, known.periods] = more;
      known.intervals = rates(known.timeline, known.periods);
    }
    if (showCards() || past) drawPast();  // first, because it assigns colours to LLMs
    drawState();
    banner(trouble(state));
    document.body.dataset.drawn = String(state.now);
  } catch (error) {
    const since = known.state ? ` The page shows the state of ${clock(known.state.now)}.` : "";
    banner(`This worker does not answer (${error.message}).${since}`);
  }
}

let lastPast = 0;
async function tick() {
  if (!document.hidden) {
    const past = Date.now() - lastPast >= PAST_MS;
    if (past) lastPast = Date.now();
    await refresh(past);
  }
  setTimeout(tick, STATE_MS);
}

startExplaining();
startSearching(() => known.state);
tick();
