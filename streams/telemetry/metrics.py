"""Metrics for Prometheus.

Counters and histograms cover one worker: sum them over workers. Gauges of budgets, plan and lag cover the
cluster, and each worker exports them: use their maximum.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from routing.budgets.money import to_usd
from routing.policy.account import Account
from streams.lanes.lanes import Lanes
from streams.lanes.stage_timers import STAGES
from streams.lanes.unreadable import Unreadable
from streams.ledger.record import OUTCOME_KINDS, LedgerRecord
from streams.ledger.reported_quality import ReportedQuality
from streams.telemetry.budget_summary import BudgetSummary
from streams.telemetry.cluster_summary import ClusterSummary, ModelSummary
from streams.telemetry.histogram import QUERIES, SECONDS, Histogram
from streams.telemetry.lag import Lag
from streams.telemetry.topic_monitor import Deleted, TopicState
from streams.telemetry.unanswered import oldest_open

METRIC_PREFIX = "port_"
OUTCOMES = ("served", "unserved", "deferred", "dead")
LANE_EVENTS = ("hole", "tail", "reload", "not_opened")

BUDGET_LABELS = ("budget", "value")
OTHER_VALUES = "*"
"""Label of all values that the catalogue does not list, or beyond the first `NAMED_VALUES`."""

# description and labels by name, without prefix and suffix
COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "queries": (
        "Queries decided by this worker; deferred ones come again on the overflow lane.",
        ("outcome", "model"),
    ),
    "reservations_dollars": ("USD reserved by this worker.", ("model",)),
    "settlements_dollars": ("USD that queries settled by this worker really cost.", ("model",)),
    "settlements": ("Queries settled by this worker.", ("model",)),
    "settled_reservations_dollars": ("USD that had been reserved for those.", ("model",)),
    "outcomes": ("Outcomes taken in by this worker, by what became of them.", ("kind",)),
    "reported_answers": ("Outcomes with a quality.", ("model",)),
    "reported_quality": ("Sum of their qualities.", ("model",)),
    "estimated_quality": ("Sum of the qualities that were estimated for the same queries.", ("model",)),
    "lapsed_reservations": ("Reservations given up without an outcome; they stay charged.", ("model",)),
    "lane_events": (
        "Holes and lost tails fetched again, reloads after an error, failed openings.",
        ("event",),
    ),
    "planner_solves": ("Price solves of the planner, while it was this worker's.", ()),
}
MODEL_COUNTERS = tuple(name for name, (_, labels) in COUNTERS.items() if labels == ("model",))
HISTOGRAMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "stage_seconds": ("Seconds of a batch in each stage.", ("stage",)),
    "latency_seconds": (
        "Seconds from a query's timestamp to the commit that put it in its place, once a query, on whichever "
        "lane; waiting in warm-up and for the overflow lane is in it.",
        (),
    ),
    "batch_queries": ("Queries in a transaction.", ()),
    "planner_solve_seconds": ("Seconds of a price solve.", ()),
}
GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "up_ratio": ("1 when this worker is ready.", ()),
    "lane_pending_queries": ("Queries fetched and waiting, by lane of this worker.", ("lane",)),
    "lane_unreadable_ratio": ("1 while the next records of this worker's lane cannot be read.", ("lane",)),
    "plan_period": ("Period of the plan in force.", ()),
    "plan_version": ("Price solves since the beginning.", ()),
    "plan_revision": ("Published changes of the plan since the beginning.", ()),
    "plan_age_seconds": ("Seconds since the plan was last changed.", ()),
    "planner_silence_seconds": ("Seconds since the planner was last heard of.", ()),
    "price_quality_per_dollar": ("Dual price of an LLM's budget.", ("model",)),
    "period_progress_ratio": ("Share of the period that is over.", ()),
    "period_queries": ("Queries of the period.", ("outcome", "model")),
    "budget_dollars": (
        "Budget of the period; with shared budgets, the smallest dollar budget that covers the LLM.",
        ("model",),
    ),
    "granted_dollars": ("Granted to lanes and not given back.", ("model",)),
    "charged_dollars": ("Settled plus reserved: what counts against the budget.", ("model",)),
    "reserved_dollars": ("Reserved for queries whose outcome has not come.", ("model",)),
    "settled_dollars": ("What settled queries really cost.", ("model",)),
    "left_dollars": ("Budget not charged.", ("model",)),
    "budget_limit_units": (
        "Limit of a budget or value, in its unit (USD, queries or tokens).",
        BUDGET_LABELS,
    ),
    "budget_spent_units": ("What its queries really drew; queries and tokens count at once.", BUDGET_LABELS),
    "budget_reserved_units": ("Reserved on it for queries whose outcome has not come.", BUDGET_LABELS),
    "budget_used_ratio": (
        "Spent and reserved over the limit; of the values not named in the catalogue, the largest.",
        BUDGET_LABELS,
    ),
    "budget_values": ("Values of a budget with `group_by`.", ("budget",)),
    "quality_error_ratio": ("Mean reported quality less mean estimated, since the beginning.", ("model",)),
    "cost_error_ratio": ("Cost of settled queries over what was reserved for them, less 1.", ("model",)),
    "unanswered_queries": (
        "Queries on an LLM's topic, or being answered: reserved for, and no outcome has come yet.",
        ("model",),
    ),
    "oldest_unanswered_seconds": (
        "Age of the oldest open reservation of an LLM on this worker's lanes, 0 without any.",
        ("model",),
    ),
    "paused_ratio": ("Share of the queries that a pause keeps from an LLM; 0 without a pause.", ("model",)),
    "lag_queries": ("Queries that wait on all lanes, those of warm-up included.", ()),
    "lag_worst_queries": ("Queries that wait on the lane furthest behind.", ()),
    "dead_letters": (
        "Records that became dead letters since the beginning, by the topic they came from.",
        ("topic",),
    ),
    "added_partitions": (
        "Partitions of a topic that were added and are neither read nor forwarded.",
        ("topic",),
    ),
    "unread_offsets": ("Offsets on added partitions of the queries that were not forwarded.", ()),
    "deleted_offsets": (
        "Offsets of a topic that were deleted before they were read, transaction markers included, since the "
        "beginning.",
        ("topic",),
    ),
    "deleted_timestamp_seconds": ("When that was noticed last; 0 when it never was.", ("topic",)),
}


def names() -> set[str]:
    """Return all series that a worker exports with their suffixes, except those of its process."""
    counters = {f"{METRIC_PREFIX}{name}_total" for name in COUNTERS}
    parts = {f"{METRIC_PREFIX}{name}_{part}" for name in HISTOGRAMS for part in ("bucket", "count", "sum")}
    return counters | parts | {METRIC_PREFIX + name for name in GAUGES}


@dataclass(frozen=True)
class Sources:
    """Sources of the gauges; each is called in a thread at a scrape.

    Parameters
    ----------
    overview : callable
        Returns the current period over all lanes, or None before there is a plan.
    lag : callable
    lanes : callable
    ready : callable
    planner_heard_at : callable
        Returns the time when the planner last worked, in seconds since the epoch, or 0.
    unreadable : callable
        Returns partitions whose next records cannot be read.
    topics : callable
        Returns the state of the topics.
    deleted : callable
        Returns records that were deleted unread, by topic.
    dead_letters : callable
        Returns the number of dead letters by original topic; empty while unknown.
    """

    overview: Callable[[], ClusterSummary | None]
    lag: Callable[[], Lag]
    lanes: Callable[[], Lanes | None]
    ready: Callable[[], bool]
    planner_heard_at: Callable[[], float]
    unreadable: Callable[[], Mapping[tuple[str, int], Unreadable]] = dict
    topics: Callable[[], TopicState] = TopicState
    deleted: Callable[[], Mapping[str, Deleted]] = dict
    dead_letters: Callable[[], dict[str, int]] = dict


class Metrics(Collector):
    """Counters of a worker, and gauges of the cluster.

    Parameters
    ----------
    sources : Sources
    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._counts: dict[str, Counter[tuple[str, ...]]] = {name: Counter() for name in COUNTERS}
        self.stage_seconds = {stage: Histogram(SECONDS) for stage in STAGES}
        self.latency_seconds, self.batch_queries = Histogram(SECONDS), Histogram(QUERIES)
        self.planner_solve_seconds = Histogram(SECONDS)
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(namespace=METRIC_PREFIX.rstrip("_"), registry=self.registry)

    # ---- updates from the threads of lanes ---------------------------------------------------------------

    def stage(self, name: str, seconds: float, queries: int) -> None:
        """Record the seconds of a batch in a stage (an observer of `Stages`)."""
        if name == "solve":
            self._counts["planner_solves"][()] += 1
            self.planner_solve_seconds.observe(seconds)
        elif queries and (histogram := self.stage_seconds.get(name)) is not None:
            histogram.observe(seconds)
            if name == "intake":
                self.batch_queries.observe(queries)

    def latencies(self, seconds: np.ndarray) -> None:
        """Record the seconds from timestamps of queries to the commit of their outputs."""
        self.latency_seconds.observe_all(np.maximum(seconds, 0.0))

    def committed(self, before: LedgerRecord, after: LedgerRecord) -> None:
        """Count the changes of a lane's record by a transaction."""
        for account in after.accounts:
            last = before.account_of(account.period) or Account.fresh(account.period, len(after.models))
            self._count_account(last, account, after.models)
        for kind, number in after.outcomes.items():
            self._count("outcomes", (kind,), number - before.outcomes.get(kind, 0))
        for model, values in after.reported.items():
            known = before.reported.get(model, ReportedQuality())
            counters = ("reported_answers", "reported_quality", "estimated_quality")
            for name, new, old in zip(counters, values.to_list(), known.to_list(), strict=False):
                self._count(name, (model,), new - old)

    def _count_account(self, before: Account, after: Account, models: tuple[str, ...]) -> None:
        if before is after:
            return
        before, after = before.widened(len(models)), after.widened(len(models))
        served = after.served - before.served
        reserved, settled = after.reserved - before.reserved, after.settled - before.settled
        released = reserved - (after.charged_by_llm - before.charged_by_llm) + settled
        lapsed, settlements = after.lapsed - before.lapsed, after.settlements - before.settlements
        # a small batch changes the figures of a few LLMs only
        for i in np.flatnonzero(np.any([served, reserved, settled, released, lapsed, settlements], axis=0)):
            model = models[i]
            self._count("queries", ("served", model), int(served[i]))
            self._count("reservations_dollars", (model,), float(to_usd(reserved[i])))
            self._count("settlements", (model,), int(settlements[i]))
            self._count("settlements_dollars", (model,), float(to_usd(settled[i])))
            self._count("settled_reservations_dollars", (model,), float(to_usd(released[i])))
            self._count("lapsed_reservations", (model,), int(lapsed[i]))
        for name in ("unserved", "deferred", "dead"):
            self._count("queries", (name, ""), getattr(after, name) - getattr(before, name))

    def _count(self, name: str, labels: tuple[str, ...], amount: float) -> None:
        if amount:
            self._counts[name][labels] += amount  # type: ignore[assignment]

    # ---- scrapes -----------------------------------------------------------------------------------------

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format; call it in a thread, as it takes milliseconds."""
        return generate_latest(self.registry)

    def describe(self) -> Iterable[Any]:
        """Return no families, so that registration does not collect."""
        return []

    def collect(self) -> Iterable[Any]:
        """Yield all metric families."""
        overview = self._sources.overview()
        yield from self._counter_families(overview)
        for name in HISTOGRAMS:
            text, labels = HISTOGRAMS[name]
            family = HistogramMetricFamily(METRIC_PREFIX + name, text, labels=labels)
            histograms = self.stage_seconds if labels else {"": getattr(self, name)}
            for label, histogram in histograms.items():
                _, total = histogram.counts()
                family.add_metric([label] if labels else [], histogram.buckets(), total)
            yield family
        yield from self._gauge_families(overview)

    def _counter_families(self, overview: ClusterSummary | None) -> Iterable[CounterMetricFamily]:
        lanes = self._sources.lanes()
        events = lanes.events if lanes is not None else {}
        self._counts["lane_events"] = Counter({(event,): events.get(event, 0) for event in LANE_EVENTS})
        for kind in OUTCOME_KINDS:
            self._counts["outcomes"].setdefault((kind,), 0)
        for name in OUTCOMES[1:]:
            self._counts["queries"].setdefault((name, ""), 0)
        self._counts["planner_solves"].setdefault((), 0)
        # Prometheus sees no increase in a series that begins with its first event, so each begins with zero
        for model in overview.models if overview is not None else ():
            self._counts["queries"].setdefault(("served", model.name), 0)
            for name in MODEL_COUNTERS:
                self._counts[name].setdefault((model.name,), 0)
        for name, (text, labels) in COUNTERS.items():
            family = CounterMetricFamily(METRIC_PREFIX + name, text, labels=labels)
            for values, number in sorted(self._counts[name].items()):
                family.add_metric(values, number)
            yield family

    def _gauge_families(self, overview: ClusterSummary | None) -> Iterable[GaugeMetricFamily]:
        values: dict[str, list[tuple[tuple[str, ...], float]]] = {name: [] for name in GAUGES}
        lag, lanes, now = self._sources.lag(), self._sources.lanes(), time.time()
        values["up_ratio"].append(((), float(self._sources.ready())))
        unreadable = self._sources.unreadable()
        for (topic, partition), lane in list(lanes.all.items()) if lanes is not None else []:
            if lane.assigned:
                label = (f"{topic}:{partition}",)
                values["lane_pending_queries"].append((label, len(lane.pending)))
                values["lane_unreadable_ratio"].append((label, float((topic, partition) in unreadable)))
        values["lag_queries"].append(((), lag.total))
        values["lag_worst_queries"].append(((), lag.worst))
        for topic, number in self._sources.dead_letters().items():
            values["dead_letters"].append(((topic,), number))
        topics = self._sources.topics()
        values["added_partitions"] += [((topic,), number) for topic, number in topics.added.items()]
        values["unread_offsets"].append(((), topics.unread))
        for topic, deleted in self._sources.deleted().items():
            values["deleted_offsets"].append(((topic,), deleted.offsets))
            values["deleted_timestamp_seconds"].append(((topic,), deleted.at))
        if heard := self._sources.planner_heard_at():
            values["planner_silence_seconds"].append(((), max(0.0, now - heard)))
        if overview is not None:
            values["plan_period"].append(((), overview.period))
            values["plan_version"].append(((), overview.version))
            values["plan_revision"].append(((), overview.revision))
            values["plan_age_seconds"].append(((), max(0.0, now - overview.created_at)))
            values["period_progress_ratio"].append(((), overview.progress))
            for name in OUTCOMES[1:]:
                values["period_queries"].append(((name, ""), getattr(overview, name)))
            for budget in overview.budgets:
                _add_budget(budget, values)
            oldest = oldest_open(lanes)
            for model in overview.models:
                age = max(0.0, now - oldest.get(model.name, now))
                values["oldest_unanswered_seconds"].append(((model.name,), age))
                share = 1 - overview.paused[model.name].share if model.name in overview.paused else 0.0
                values["paused_ratio"].append(((model.name,), share))
                for name, value in _model_gauges(model).items():
                    values[name].append(((model.name,), value))
                values["period_queries"].append((("served", model.name), model.served))
        for name, (text, labels) in GAUGES.items():
            family = GaugeMetricFamily(METRIC_PREFIX + name, text, labels=labels)
            for label_values, value in values[name]:
                family.add_metric(label_values, value)
            yield family


def _add_budget(budget: BudgetSummary, values: dict[str, list[tuple[tuple[str, ...], float]]]) -> None:
    """Append the gauges of a budget: a series for each listed value, and one for the others."""
    if budget.group_by is not None:
        values["budget_values"].append(((budget.name,), budget.values))
    labelled = [(one.value or "", one) for one in budget.counters]
    if budget.others is not None:
        labelled.append((OTHER_VALUES, budget.others))
    for value, one in labelled:
        label = (budget.name, value)
        values["budget_limit_units"].append((label, one.limit))
        values["budget_spent_units"].append((label, one.spent))
        values["budget_reserved_units"].append((label, one.reserved))
        if one.share is not None:
            values["budget_used_ratio"].append((label, one.share))


def _model_gauges(model: ModelSummary) -> dict[str, float]:
    gauges = {
        "price_quality_per_dollar": model.price,
        "budget_dollars": model.budget,
        "granted_dollars": model.granted,
        "charged_dollars": model.charged,
        "reserved_dollars": model.reserved,
        "settled_dollars": model.settled,
        "left_dollars": model.left,
        "unanswered_queries": model.unanswered,
    }
    if model.quality_reported is not None and model.quality_estimated is not None:
        gauges["quality_error_ratio"] = model.quality_reported - model.quality_estimated
    if model.cost_error is not None:
        gauges["cost_error_ratio"] = model.cost_error
    return gauges
