// Asks the worker for the cluster's state, and draws it: the state every two seconds, its past every ten.

import { el, replace } from "./charts.js";
import { startExplaining } from "./explain.js";
import { ago, clock, percent, plural, short, span, usd } from "./format.js";
import { drawBudgets, drawFigures, drawLanes, drawLatency, drawLetters, drawPlans, drawQuality, drawWorkers } from "./panels.js";
import { drawBurn, drawRate, drawShare } from "./past.js";

const STATE_MS = 2000, PAST_MS = 10000;
const known = { state: null, timeline: [], plans: [], letters: [] };

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
        settings.period_seconds ? `${span(settings.period_seconds)} long` : plural(overview.horizon, "query").replace("querys", "queries")
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
  if (overview) {
    pills.push(pill(overview.learned ? `plan ${overview.version}` : "warm-up", overview.learned ? "plain" : "warn", `changed ${ago(overview.created_at, state.now)}`));
  }
  replace("pills", ...pills);
  document.getElementById("foot").replaceChildren(
    el("span", {}, `preset ${settings.preset}, warm-up ${settings.warmup}, prices solved ${settings.resolve}, reserving by ${settings.reserve}`),
    el("span", {}, `shown by ${state.worker} at ${new Date(state.now * 1000).toLocaleTimeString("en-GB")}`),
  );
}

function drawState() {
  const state = known.state;
  drawHeader(state);
  drawFigures(state, known.timeline);
  drawBudgets(state);
  drawLatency(state);
  drawQuality(state);
  drawLanes(state);
  drawWorkers(state);
}

function drawPast() {
  drawBurn(known.state, known.timeline);
  drawShare(known.timeline);
  drawRate(known.timeline);
  drawPlans(known.state, known.plans);
  drawLetters(known.state, known.letters);
}

function banner(text) {
  const node = document.getElementById("banner");
  node.hidden = !text;
  node.textContent = text ?? "";
}

async function refresh(past) {
  try {
    const [state, ...more] = await Promise.all([ask("state"), ...(past ? [ask("timeline"), ask("plans"), ask("dead-letters")] : [])]);
    known.state = state;
    if (past) [known.timeline, known.plans, known.letters] = more;
    if (past) drawPast();  // first: it gives LLMs their colours
    drawState();
    banner(null);
    document.body.dataset.drawn = String(state.now);
  } catch (error) {
    const since = known.state ? ` What is shown is of ${clock(known.state.now)}.` : "";
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
tick();
