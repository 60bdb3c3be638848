"""Start of a worker: checks before it joins the group, then the app's loop until shutdown."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence

import faust
import structlog

from routing.budgets.schema import CatalogueError
from routing.policy.plan import Plan
from streams.config.log_setup import configure_logs
from streams.config.settings import Settings
from streams.kafka.acls import grants, log_missing_permissions
from streams.kafka.clients import client_config, mishandles_overlapping_transactions, wait_for_broker
from streams.kafka.group_membership import check_membership_format
from streams.kafka.time_limits import exit_after
from streams.kafka.topic_config import read_topic_configs
from streams.kafka.topics import (
    added_partitions,
    existing_partitions,
    topic_problems,
    topic_specs,
    wait_for_leaders,
)
from streams.planner.catalogue_rules import known_llms, unusable_llms
from streams.router.estimation import load_estimation
from streams.worker.lost_topics import check_topics_intact
from streams.worker.process_tuning import (
    calibrate_neighbour_search,
    limit_process,
    limit_threads,
    tune_garbage_collector,
)
from streams.worker.worker import Worker

log = structlog.get_logger(__name__)

SHUTDOWN_SECONDS = 45.0
"""Maximum time from a signal to the end of the process.

A shutdown usually takes a few seconds, or 20 s without a broker.
"""


def main(settings: Settings) -> int:
    """Run a worker until it receives SIGTERM or SIGINT.

    Returns
    -------
    int
        0 after a signal, 1 after an error.
    """
    # until the app installs its own handler, which finishes batches in flight
    signal.signal(signal.SIGTERM, _exit_at_once)
    configure_logs(settings.log_level, settings.log_format)
    limit_process()
    catalogue = settings.read_catalogue()
    # before the topics: the user should not create the topic of an LLM that cannot be used
    llms = known_llms(settings)
    if llms and (problems := unusable_llms(catalogue.names, llms, settings.exploration)):
        raise CatalogueError(problems)
    admin = wait_for_broker(settings)
    in_turn = mishandles_overlapping_transactions(admin)
    if in_turn:
        log.info("transactions_in_turn", reason="this broker mishandles overlapping transactions")
    else:
        check_membership_format(client_config(settings))
    existing = existing_partitions(admin)
    specs = topic_specs(settings, catalogue)
    # a worker needs no permission on topics that it never uses
    used = {grant.name for grant in grants(settings, catalogue, "worker")}
    if missing := [spec.name for spec in specs if spec.name in used and spec.name not in existing]:
        raise ValueError(
            f"topics: {', '.join(missing)} missing, or this user lacks permission to see them; "
            "run `python -m streams topics create`, or grant what `python -m streams acls worker` lists"
        )
    specs = [spec for spec in specs if spec.name in used]
    if problems := topic_problems(specs, existing, read_topic_configs(admin, [spec.name for spec in specs])):
        raise ValueError("; ".join(problems))
    added = added_partitions(specs, existing)
    wait_for_leaders(admin, used & existing.keys())
    log_missing_permissions(admin, settings, catalogue)
    estimating = load_estimation(settings, catalogue)
    if settings.embedder_loads == "start":
        # before the app starts: imports hold the interpreter lock, which would delay heartbeats
        estimating.warm_up()
    return run(Worker(settings.with_preset(estimating.planning), estimating, in_turn=in_turn), added)


def _exit_at_once(number: int, frame: object) -> None:
    """Exit at once: no lane has been opened yet."""
    raise SystemExit(0)


def check_plan_matches_lanes(plan: Plan, partitions: int, overflow: bool) -> None:
    """Check that the plan in force was made for this worker's lanes.

    Otherwise a lane would use the grants of another lane.

    Parameters
    ----------
    plan : Plan
    partitions : int
        Partitions of the queries, by the settings.
    overflow : bool
        True if the settings have an overflow lane.

    Raises
    ------
    ValueError
        The plan was made for other lanes.
    """
    elsewhere = 'or start a new router with another PORT_TOPIC_PREFIX (docs/operations.md, "More partitions")'
    planned = plan.lanes - plan.overflow
    if planned != partitions:
        raise ValueError(
            f"partitions: {partitions}, and the plan in force is for {planned}; "
            f"set PORT_PARTITIONS={planned}, {elsewhere}"
        )
    if plan.overflow != overflow:
        has, value = ("has an", "on") if plan.overflow else ("has no", "off")
        raise ValueError(
            f"overflow: {'on' if overflow else 'off'}, and the plan in force {has} overflow lane; "
            f"set PORT_OVERFLOW={value}, {elsewhere}"
        )


class FaustWorker(faust.Worker):
    """Faust worker that ends a limited time after a signal, even if the shutdown hangs."""

    def _flag_as_shutdown_by_signal(self) -> None:
        exit_after("shutdown", SHUTDOWN_SECONDS)
        super()._flag_as_shutdown_by_signal()


def run(router: Worker, added: Sequence[str] = ()) -> int:
    """Run the app in this thread until shutdown.

    Parameters
    ----------
    router : Worker
    added : sequence of str
        Topics with more partitions than lanes. A router with a plan continues with its lanes; a new router
        does not start.
    """
    worker = FaustWorker(
        router.app, loglevel=None, override_logging=False, redirect_stdouts=False, console_port=0, quiet=True
    )
    # the spinner writes to standard output, which may be collected with the log
    worker.spinner = None
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def prepare() -> None:
        router.prepare()
        while not (router.view.ready and router.plans.ready):
            await asyncio.sleep(0.02)
        await loop.run_in_executor(None, check_topics_intact, router.settings, router.view, router.plans)
        if added and router.plans.latest is None:
            raise ValueError(f"{'; '.join(added)}; or set PORT_PARTITIONS to match: this router is new")
        if router.plans.latest is not None:
            check_plan_matches_lanes(router.plans.latest, router.settings.partitions, router.overflow)
        await router.monitor.start()

    loop.run_until_complete(prepare())
    worker.loop = loop
    calibrate_neighbour_search(router.estimating.history.embeddings)
    # here, too: after a limit in the main thread, OpenBLAS takes no other one from lanes
    limit_threads(router.settings.partitions)
    tune_garbage_collector()
    try:
        return int(worker.execute_from_commandline() or 0)
    except SystemExit as error:
        return int(error.code or 0)
