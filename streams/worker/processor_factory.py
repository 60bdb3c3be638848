"""Creation of lane processors from a worker's settings, history and readers."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException

from routing.budgets.cost_quantile import quantile_level
from routing.estimators.base import Estimates
from routing.planning.planner import Planner
from routing.policy.alignment import Alignment
from streams.config.planning_settings import planning_settings
from streams.config.settings import Settings
from streams.lanes.processor import LaneProcessor
from streams.ledger.view import LedgerView
from streams.planner.catalogue_reader import CatalogueReader
from streams.planner.catalogue_rules import lacking_prices
from streams.planner.planner import PlannerProcessor
from streams.router.admission import validate_bounded
from streams.router.charges import AnswerLimit, Charger, charge_bounds, charge_estimates, charge_quantiles
from streams.router.context import WorkerContext
from streams.router.estimate_cache import EstimateCache
from streams.router.estimation import Estimation
from streams.router.field_notes import FieldNotes
from streams.router.overflow_intake import OverflowIntake
from streams.router.query_intake import QueryIntake
from streams.router.router import RouterProcessor
from streams.router.token_counts import TokenCounter, bounded_tokens, expected_tokens

CATALOGUE_SECONDS = 30.0
"""Maximum time that a new planner waits for the catalogue's topic to be read."""


def make_charger(settings: Settings, catalogue: CatalogueReader, estimation: Estimation) -> Charger:
    """Return the rule for what a query reserves, as `settings.reserve` selects it.

    Parameters
    ----------
    settings : Settings
    catalogue : CatalogueReader
    estimation : Estimation
        Its history shows the quantiles of costs.

    Raises
    ------
    ValueError
        `reserve=bound` needs list prices that the catalogue lacks.
    """
    if settings.reserve == "estimate":
        return charge_estimates

    def fee(name: str) -> float:
        model = catalogue.models.get(name)
        return 0.0 if model is None else model.request_fee or 0.0

    if (level := quantile_level(settings.reserve)) is not None:
        return charge_quantiles(estimation.cost_quantile(level), catalogue.prices, fee)
    if problem := lacking_prices(catalogue.latest.catalogue):
        raise ValueError(problem)
    return charge_bounds(catalogue.prices, settings.default_max_tokens, fee)


def make_answer_limit(
    settings: Settings, catalogue: CatalogueReader, estimation: Estimation
) -> AnswerLimit | None:
    """Return the rule that ends answers if `settings.reserve` is a percentile; otherwise None."""
    if (level := quantile_level(settings.reserve)) is None:
        return None
    return AnswerLimit(settings.reserve, estimation.cost_quantile(level), catalogue.prices)


def make_token_counter(settings: Settings, catalogue: CatalogueReader) -> TokenCounter:
    """Return the rule for the tokens that a query draws, as `settings.reserve` selects it."""
    if settings.reserve == "bound":
        return bounded_tokens(settings.default_max_tokens)
    return expected_tokens(catalogue.prices, settings.default_max_tokens)


class ProcessorFactory:
    """Creates the processor of each lane.

    Parameters
    ----------
    context : WorkerContext
        Shared by the processors of all lanes.
    estimation : Estimation
    view : LedgerView
    overflow : bool
        The router has an overflow lane.
    """

    def __init__(
        self, context: WorkerContext, estimation: Estimation, view: LedgerView, overflow: bool
    ) -> None:
        self._context, self._estimation = context, estimation
        self._view, self._overflow = view, overflow
        self._notes = FieldNotes()
        self._cache = EstimateCache(context.settings.estimate_cache)

    def create(self, topic: str, partition: int) -> LaneProcessor:
        """Return the processor of an input partition: a router, or the planner for the samples.

        Parameters
        ----------
        topic : str
            The topic of queries, of deferred queries or of samples.
        partition : int
        """
        context, estimation = self._context, self._estimation
        settings, topics = context.settings, context.settings.topics
        if topic == topics.samples:
            return PlannerProcessor(
                settings,
                self._make_planner,
                self._view,
                context.stages,
                context.catalogue,
                estimation,
                access=context.access,
                clock=context.clock,
            )
        clusters = estimation.clusters
        admit = validate_bounded if settings.reserve == "bound" else None
        intake = QueryIntake(
            estimation.embedder,
            estimation.dimension,
            estimation.estimator,
            admit,
            notes=self._notes,
            cache=self._cache,
            clusters=clusters,
        )
        if topic == topics.overflow:
            lane, ledger = settings.partitions, topics.overflow_ledger
            return RouterProcessor(context, lane, OverflowIntake(intake.clusters), ledger, 0, intake)
        return RouterProcessor(context, partition, intake, topics.ledger, partition)

    def _make_planner(self) -> Planner:
        """Return a planner for the catalogue in force, before its first period."""
        settings, catalogue = self._context.settings, self._context.catalogue
        if not catalogue.wait(CATALOGUE_SECONDS):
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "the catalogue's topic was not read"))
        version = catalogue.latest
        names = version.catalogue.names

        def history() -> Estimates:
            return Alignment(self._estimation.estimator.models, names).apply(self._estimation.leave_one_out())

        needed_now = settings.warmup == "history" or settings.resolve == "every"
        return Planner(
            planning_settings(settings, version.catalogue.period),
            names,
            self._estimation.budgets(version.catalogue),
            lanes=settings.partitions,
            overflow=self._overflow,
            history=history() if needed_now else history,
            catalogue=version.version,
            list_prices=version.list_prices_since(catalogue.base),
            clock=self._context.clock,
        )
