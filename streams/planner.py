"""The planner's desk: samples in, plans out. One partition, so exactly one in the cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import structlog

from routing.estimators.base import Estimates
from routing.plan import Plan
from routing.planning import Planner
from streams.backlog import Record
from streams.bills import Bills
from streams.catalogue_versions import CatalogueReader
from streams.cluster import LedgerView
from streams.estimating import Estimating
from streams.exploring import measured
from streams.kafka import reader_config, transactional_config
from streams.ledger import LedgerRecord, account_from_dict
from streams.losses import shorter
from streams.messages import Refused, decode_samples
from streams.periods import PeriodSummary, decode_period, encode_period
from streams.plan_messages import PLAN_KEY, encode_plan, same_but_for_rights
from streams.plans import plan_in_force
from streams.settings import Settings
from streams.stages import Stages
from streams.transactions import FencedProducer, read_to_end

log = structlog.get_logger(__name__)

HELD_MAX = 100_000
"""Samples that are held for later solves before no more are read: the log of samples keeps them."""

LOOK_SECONDS, SHORTEST_LOOK_SECONDS = 0.15, 0.01
"""Longest and shortest time between two looks at which rights are handed out. The worker asks for one every
0.2 s, and whenever ledgers change."""

FASTEST = 50_000
"""Queries a second that no cluster passes: what a burst can be at most until the next look."""

SUMMARY_SECONDS = 0.2
"""Shortest time between two looks at what periods come to."""

LOOKS = 50
"""Looks that the rest of a period is given where there is time, so that rights follow what is left of it."""


class PlannerDesk:
    """Owns the plan of the cluster while it owns the partition of the samples.

    Its memory is the samples' log: the plan says where the period's samples begin, and the next owner reads
    them again.

    Parameters
    ----------
    settings : Settings
    make_planner : callable
        A planner that has not begun.
    view : LedgerView
        What lanes have committed.
    stages : Stages
    catalogue : CatalogueReader
    estimating : Estimating
        What the history says of LLMs, to split budgets by.
    """

    def __init__(
        self,
        settings: Settings,
        make_planner: Callable[[], Planner],
        view: LedgerView,
        stages: Stages,
        catalogue: CatalogueReader,
        estimating: Estimating,
    ) -> None:
        self._settings, self._topics = settings, settings.topics
        self._make_planner, self._view, self._stages = make_planner, view, stages
        self._catalogue, self._estimating = catalogue, estimating
        self._producer: FencedProducer | None = None
        self._planner: Planner | None = None
        self._next = 0
        self._published = -1
        self._logged: Plan | None = None
        self._first_sample: float | None = None
        self._looked = self._summed = 0.0
        self._until_next = SHORTEST_LOOK_SECONDS
        self._bills = Bills()

    def open(self) -> None:
        """Fence the former planner, read the plan that is in force, and go on from it."""
        self._producer = FencedProducer(
            transactional_config(self._settings, "planner"), in_turn=self._settings.transactions == "in-turn"
        )
        last = plan_in_force(self._settings)
        self._planner = self._make_planner()
        self._first_sample = None
        self._bills = Bills(self._told(0 if last is None else last.billed))
        if last is None:
            self._next = 0
            self._planner.start_period()
            self._publish(self._planner.plan)
        else:
            self._planner.resume(last)
            self._published = last.revision
            self._logged = last
            self._next = self._samples_from(last)
        log.info("planner_open", plan=self._planner.plan.version, samples_from=self._next)

    def _told(self, billed: int) -> list[PeriodSummary]:
        """The newest summary of each period whose bill is not final: the topic has those of all times."""
        newest: dict[bytes, bytes] = {}
        for message in read_to_end(reader_config(self._settings), self._topics.periods, 0):
            key, value = message.key(), message.value()
            if key is not None and value is not None and int(key) > billed:
                newest[key] = value
        return [decode_period(value) for value in newest.values()]

    def _samples_from(self, plan: Plan) -> int:
        """Where the period's samples begin; the beginning of a topic that was deleted and made anew."""
        start = int(plan.solved_from.get("samples_from", 0))
        place = (self._topics.samples, 0)
        if not shorter(reader_config(self._settings), {place: start}):
            return start
        log.warning("samples_lost", samples_from=start)
        return 0

    def close(self) -> None:
        """Give up an open transaction."""
        if self._producer is not None:
            self._producer.close()
            self._producer = None

    def look(self) -> None:
        """The planner makes the plan; there is none to take up."""

    @property
    def position(self) -> int:
        """Offset of the next sample."""
        return self._next

    @property
    def version(self) -> int:
        """Of the prices that it made or took over last."""
        return self._planner.plan.version if self._planner is not None else 0

    @property
    def limit(self) -> int:
        """Messages that it may take, each with the samples of a lane's batch; 0 while enough are held."""
        held = self._planner.held if self._planner is not None else 0
        return max(0, -(-(HELD_MAX - held) // self._settings.batch_max))

    @property
    def restless(self) -> bool:
        """A look is due, or a burst may have begun that must not wait for it."""
        if self._planner is None or time.monotonic() - self._looked >= self._until_next:
            return True
        return self._planner.to_come < LOOKS * LOOK_SECONDS * FASTEST

    def step(self, records: Sequence[Record]) -> None:
        """Observe samples, solve when it is due, hand out rights, close periods."""
        planner = self._planner
        if planner is None:
            return
        for record in records:
            self._observe(planner, record)
        if records:
            self._next = records[-1].offset + 1
        if not self._view.ready:
            return  # ledgers that were not read yet look like lanes that have spent nothing
        since = time.monotonic() - self._looked
        if records and since < self._until_next:
            return
        self._look_at_ledgers(planner)
        for learned in planner.catch_up():
            self._publish(learned)
        if since < self._until_next and not planner.hurried(LOOKS):
            return
        self._look_at_catalogue(planner)
        if self._too_slow(planner) and (plan := planner.solve(early=True)) is not None:
            log.warning("warmup_time_limit", samples=plan.solved_from["observed"])
            self._publish(plan)
        if self._period_over(planner):
            self._begin_period(planner)
        else:
            planner.hand_out()
        self._publish(planner.plan)
        self._schedule(planner, since)
        if time.monotonic() - self._summed >= SUMMARY_SECONDS:
            self._publish_bills(self._view.records())

    def _begin_period(self, planner: Planner) -> None:
        """The next period, once what this one has come to is written, with the budgets that it had."""
        ledgers = self._view.records()
        self._publish_bills(ledgers)
        if self._logged is not None:
            planner.plan = replace(planner.plan, billed=self._bills.final(self._logged, ledgers))
        planner.start_period()
        if planner.plan.learned:
            # else queries wait on: where periods are shorter than their longest wait, it would never be over
            self._first_sample = None
        log.info("period_begins", period=planner.plan.period, billed=planner.plan.billed)

    def _schedule(self, planner: Planner, since: float) -> None:
        """When to look again: soon at the beginning and the end of a period, and where it is short."""
        self._looked = time.monotonic()
        wanted = min(since, LOOK_SECONDS) * planner.looks_left / LOOKS
        self._until_next = min(LOOK_SECONDS, max(SHORTEST_LOOK_SECONDS, wanted))

    def _observe(self, planner: Planner, record: Record) -> None:
        try:
            header, quality, cost = decode_samples(record.value)
            account = account_from_dict(header["account"])
            period, lane, models = header["period"], header["lane"], tuple(header["models"])
        except (Refused, KeyError, TypeError, ValueError) as error:
            log.error("sample_refused", offset=record.offset, reason=repr(error))
            return
        if period != planner.plan.period or models != planner.plan.models or lane >= len(planner.seen):
            return  # of before the plan that is in force: a new one learns from what comes under it
        planner.see(lane, account)
        if self._first_sample is None and len(quality):
            self._first_sample = time.monotonic()
        with self._stages.stage("plan", len(quality)):
            for plan in planner.observe(Estimates(quality, cost)):
                self._publish(plan)

    def _look_at_ledgers(self, planner: Planner) -> None:
        for lane, ledger in self._view.records().items():
            if lane < len(planner.seen):
                planner.see(lane, ledger.account)

    def _look_at_catalogue(self, planner: Planner) -> None:
        """Take up another catalogue, and what is known by now of LLMs without a history."""
        version, plan = self._catalogue.latest, planner.plan
        # an older planner, which took up the same version, knew nothing of the history's prices
        told_otherwise = version.priced_by is not None and version.priced_by != plan.priced_by
        if version.version > plan.catalogue or (version.version == plan.catalogue and told_otherwise):
            planner.apply_catalogue(
                version.version,
                version.catalogue.names,
                self._estimating.budgets(version.catalogue),
                version.list_prices,
            )
            log.info("catalogue_applied", version=version.version, cost_factor=planner.plan.cost_factor)
        known = set(self._estimating.estimator.models)
        unknown = [name for name in planner.plan.models if name not in known]
        planner.measure(measured(unknown, self._catalogue.models, self._view.records()))

    def _too_slow(self, planner: Planner) -> bool:
        """Warm-up lasts longer than queries may wait."""
        return (
            not planner.plan.learned
            and self._first_sample is not None
            and time.monotonic() - self._first_sample > self._settings.warmup_seconds
        )

    def _period_over(self, planner: Planner) -> bool:
        if self._settings.period_seconds is not None:
            return time.time() - planner.plan.began_at >= self._settings.period_seconds
        return planner.decided >= planner.plan.horizon

    def _publish(self, plan: Plan) -> None:
        """Commit a plan, unless it is out already."""
        if plan.revision == self._published or self._producer is None or self._planner is None:
            return
        if plan.solved_from.get("samples_from") is None:
            plan = replace(plan, solved_from={**plan.solved_from, "samples_from": self._next})
            self._planner.plan = replace(self._planner.plan, solved_from=plan.solved_from)
        value = encode_plan(plan)
        self._producer.begin()
        self._producer.produce(self._topics.plans, value, PLAN_KEY, partition=0)
        if self._logged is None or not same_but_for_rights(self._logged, plan):
            self._producer.produce(self._topics.plan_log, value, str(plan.version).encode(), partition=0)
        self._producer.commit()
        self._published, self._logged = plan.revision, plan
        log.info(
            "plan_published", plan=plan.version, revision=plan.revision, period=plan.period,
            learned=plan.learned, **{k: v for k, v in plan.solved_from.items() if k in ("observed", "rows")},
        )  # fmt: skip

    def _publish_bills(self, ledgers: Mapping[int, LedgerRecord]) -> None:
        """Write down what periods come to, of which something changed, under the plan that is published.

        To be called with all ledgers: sums over some of the lanes are nobody's bill.
        """
        if self._producer is None or self._logged is None:
            return
        self._summed = time.monotonic()
        due = self._bills.due(self._logged, ledgers)
        if not due:
            return
        self._producer.begin()
        for summary in due:
            key = str(summary.period).encode()
            self._producer.produce(self._topics.periods, encode_period(summary), key, partition=0)
        self._producer.commit()
        self._bills.wrote(due)
