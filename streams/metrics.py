"""Metrics for Prometheus. Counters and histograms are this worker's own: sum them over workers. Gauges of
budgets, plan and lag are the cluster's, the same from every worker: take their maximum.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from routing.account import Account
from routing.money import to_usd
from streams.histogram import QUERIES, SECONDS, Histogram
from streams.lag import Lag
from streams.lanes import Lanes
from streams.ledger import OUTCOME_KINDS, LedgerRecord
from streams.overview import ModelOverview, Overview
from streams.stages import STAGES

PREFIX = "port_"
OUTCOMES = ("served", "unserved", "deferred", "dead")
LANE_EVENTS = ("hole", "tail", "reload", "not_opened")

# name without prefix and suffix: what it is, labels
COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "queries": (
        "Queries decided by this worker; deferred ones come again on the overflow lane.",
        ("outcome", "model"),
    ),
    "reservations_dollars": ("USD reserved by this worker.", ("model",)),
    "settlements_dollars": ("USD that queries settled by this worker really cost.", ("model",)),
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
    "plan_period": ("Period of the plan in force.", ()),
    "plan_version": ("Price solves since the beginning.", ()),
    "plan_revision": ("Published changes of the plan since the beginning.", ()),
    "plan_age_seconds": ("Seconds since the plan was last changed.", ()),
    "planner_silence_seconds": ("Seconds since the planner was last heard of.", ()),
    "price_quality_per_dollar": ("Dual price of an LLM's budget.", ("model",)),
    "period_progress_ratio": ("Share of the period that is over.", ()),
    "period_queries": ("Queries of the period.", ("outcome", "model")),
    "budget_dollars": ("Budget of the period.", ("model",)),
    "granted_dollars": ("Granted to lanes and not given back.", ("model",)),
    "charged_dollars": ("Settled plus reserved: what counts against the budget.", ("model",)),
    "reserved_dollars": ("Reserved for queries whose outcome has not come.", ("model",)),
    "settled_dollars": ("What settled queries really cost.", ("model",)),
    "left_dollars": ("Budget not charged.", ("model",)),
    "quality_error_ratio": ("Mean reported quality less mean estimated, since the beginning.", ("model",)),
    "cost_error_ratio": ("Cost of settled queries over what was reserved for them, less 1.", ("model",)),
    "lag_queries": ("Queries that wait on all lanes, those of warm-up included.", ()),
    "lag_worst_queries": ("Queries that wait on the lane furthest behind.", ()),
    "dead_letters": (
        "Offsets that a dead-letter topic holds, replayed letters and transaction markers included.",
        ("topic",),
    ),
}


def names() -> set[str]:
    """Every series that a worker exports, with its suffixes, but for those of its process."""
    counters = {f"{PREFIX}{name}_total" for name in COUNTERS}
    parts = {f"{PREFIX}{name}_{part}" for name in HISTOGRAMS for part in ("bucket", "count", "sum")}
    return counters | parts | {PREFIX + name for name in GAUGES}


@dataclass(frozen=True)
class Sources:
    """Where gauges come from; each is called at a scrape, in a thread.

    Parameters
    ----------
    overview : callable
        The period over all lanes, None before there is a plan.
    lag : callable
    lanes : callable
    ready : callable
    planner_heard_at : callable
        Seconds since the epoch, 0 when it never was.
    """

    overview: Callable[[], Overview | None]
    lag: Callable[[], Lag]
    lanes: Callable[[], Lanes | None]
    ready: Callable[[], bool]
    planner_heard_at: Callable[[], float]


class Metrics(Collector):
    """What a worker counts, and what it tells of the cluster.

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
        ProcessCollector(namespace=PREFIX.rstrip("_"), registry=self.registry)

    # ---- what desks tell, in their threads ---------------------------------------------------------------

    def stage(self, name: str, seconds: float, queries: int) -> None:
        """A batch was through a stage (an observer of `Stages`)."""
        if name == "solve":
            self._counts["planner_solves"][()] += 1
            self.planner_solve_seconds.observe(seconds)
        elif queries and (histogram := self.stage_seconds.get(name)) is not None:
            histogram.observe(seconds)
            if name == "intake":
                self.batch_queries.observe(queries)

    def latencies(self, seconds: np.ndarray) -> None:
        """Queries came to their place, so long after their timestamps."""
        self.latency_seconds.observe_all(np.maximum(seconds, 0.0))

    def committed(self, before: LedgerRecord, after: LedgerRecord) -> None:
        """A lane's record was replaced by a transaction."""
        for account in after.accounts:
            last = before.account_of(account.period) or Account.fresh(account.period, len(after.models))
            self._count_account(last, account, after.models)
        for kind, number in after.outcomes.items():
            self._count("outcomes", (kind,), number - before.outcomes.get(kind, 0))
        for model, values in after.reported.items():
            known = before.reported.get(model, (0, 0.0, 0.0))
            counters = ("reported_answers", "reported_quality", "estimated_quality")
            for name, new, old in zip(counters, values[:3], known[:3], strict=True):
                self._count(name, (model,), new - old)

    def _count_account(self, before: Account, after: Account, models: tuple[str, ...]) -> None:
        if before is after:
            return
        before, after = before.widened(len(models)), after.widened(len(models))
        served = after.served - before.served
        reserved, settled = after.reserved - before.reserved, after.settled - before.settled
        released = reserved - (after.charged - before.charged) + settled
        lapsed = after.lapsed - before.lapsed
        for i, model in enumerate(models):
            self._count("queries", ("served", model), int(served[i]))
            self._count("reservations_dollars", (model,), float(to_usd(reserved[i])))
            self._count("settlements_dollars", (model,), float(to_usd(settled[i])))
            self._count("settled_reservations_dollars", (model,), float(to_usd(released[i])))
            self._count("lapsed_reservations", (model,), int(lapsed[i]))
        for name in ("unserved", "deferred", "dead"):
            self._count("queries", (name, ""), getattr(after, name) - getattr(before, name))

    def _count(self, name: str, labels: tuple[str, ...], amount: float) -> None:
        if amount:
            self._counts[name][labels] += amount  # type: ignore[assignment]

    # ---- what Prometheus asks ----------------------------------------------------------------------------

    def text(self) -> bytes:
        """Everything in Prometheus' text format; takes milliseconds, so call it in a thread."""
        return generate_latest(self.registry)

    def describe(self) -> Iterable[Any]:
        """Nothing is collected to find out what there is."""
        return []

    def collect(self) -> Iterable[Any]:
        """All families."""
        overview = self._sources.overview()
        yield from self._counter_families(overview)
        for name in HISTOGRAMS:
            text, labels = HISTOGRAMS[name]
            family = HistogramMetricFamily(PREFIX + name, text, labels=labels)
            histograms = self.stage_seconds if labels else {"": getattr(self, name)}
            for label, histogram in histograms.items():
                _, total = histogram.counts()
                family.add_metric([label] if labels else [], histogram.buckets(), total)
            yield family
        yield from self._gauge_families(overview)

    def _counter_families(self, overview: Overview | None) -> Iterable[CounterMetricFamily]:
        lanes = self._sources.lanes()
        events = lanes.events if lanes is not None else {}
        self._counts["lane_events"] = Counter({(event,): events.get(event, 0) for event in LANE_EVENTS})
        for kind in OUTCOME_KINDS:
            self._counts["outcomes"].setdefault((kind,), 0)
        for name in OUTCOMES[1:]:
            self._counts["queries"].setdefault((name, ""), 0)
        self._counts["planner_solves"].setdefault((), 0)
        # a series that appears with its first event has no increase for Prometheus: the zero goes before
        for model in overview.models if overview is not None else ():
            self._counts["queries"].setdefault(("served", model.name), 0)
            for name in MODEL_COUNTERS:
                self._counts[name].setdefault((model.name,), 0)
        for name, (text, labels) in COUNTERS.items():
            family = CounterMetricFamily(PREFIX + name, text, labels=labels)
            for values, number in sorted(self._counts[name].items()):
                family.add_metric(values, number)
            yield family

    def _gauge_families(self, overview: Overview | None) -> Iterable[GaugeMetricFamily]:
        values: dict[str, list[tuple[tuple[str, ...], float]]] = {name: [] for name in GAUGES}
        lag, lanes, now = self._sources.lag(), self._sources.lanes(), time.time()
        values["up_ratio"].append(((), float(self._sources.ready())))
        for lane in list(lanes.all.values()) if lanes is not None else []:
            if lane.assigned:
                values["lane_pending_queries"].append(
                    ((f"{lane.topic}:{lane.partition}",), len(lane.pending))
                )
        values["lag_queries"].append(((), lag.total))
        values["lag_worst_queries"].append(((), lag.worst))
        values["dead_letters"] += [((topic,), number) for topic, number in lag.dead_letters.items()]
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
            for model in overview.models:
                for name, number in _model_gauges(model).items():
                    values[name].append(((model.name,), number))
                values["period_queries"].append((("served", model.name), model.served))
        for name, (text, labels) in GAUGES.items():
            family = GaugeMetricFamily(PREFIX + name, text, labels=labels)
            for label_values, number in values[name]:
                family.add_metric(label_values, number)
            yield family


def _model_gauges(model: ModelOverview) -> dict[str, float]:
    found = {
        "price_quality_per_dollar": model.price,
        "budget_dollars": model.budget,
        "granted_dollars": model.granted,
        "charged_dollars": model.charged,
        "reserved_dollars": model.reserved,
        "settled_dollars": model.settled,
        "left_dollars": model.left,
    }
    if model.quality_reported is not None and model.quality_estimated is not None:
        found["quality_error_ratio"] = model.quality_reported - model.quality_estimated
    if model.cost_error is not None:
        found["cost_error_ratio"] = model.cost_error
    return found
