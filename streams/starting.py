"""A worker's start: what must be there before it takes partitions, then the app's loop until its end."""

from __future__ import annotations

import asyncio
import signal

import faust
import structlog
from confluent_kafka.admin import AdminClient

from routing.plan import Plan
from streams.estimating import load_estimating
from streams.kafka import loses_overlapping, wait_for_broker
from streams.logs import configure_logs
from streams.losses import look_for_losses
from streams.machine import fit_search, spare_collector
from streams.permissions import grants, tell_refused
from streams.settings import Settings
from streams.topics import existing_partitions, mismatches, topic_specs, wait_for_leaders
from streams.worker import Router

log = structlog.get_logger(__name__)


def main(settings: Settings) -> int:
    """Run a worker until it is told to stop.

    Returns
    -------
    int
        0 when it was told to stop, 1 when something made it stop.
    """
    # from its first moment on; the app has a handler of its own, which lets batches in flight finish
    signal.signal(signal.SIGTERM, _told_to_stop)
    configure_logs(settings.log_level, settings.log_format)
    catalogue = settings.read_catalogue()
    admin = wait_for_broker(settings)
    settings = _with_transactions(settings, admin)
    existing = existing_partitions(admin)
    specs = topic_specs(settings, catalogue)
    # topics that a worker has no business with it need not be allowed to see
    used = {grant.name for grant in grants(settings, catalogue, "worker")}
    if missing := [spec.name for spec in specs if spec.name in used and spec.name not in existing]:
        raise ValueError(
            f"topics: {', '.join(missing)} missing, or this user may not see them; "
            "run `python -m streams topics create`, or grant what `python -m streams acls worker` lists"
        )
    if problems := mismatches(specs, existing):
        raise ValueError("; ".join(problems))
    wait_for_leaders(admin, used & existing.keys())
    tell_refused(admin, settings, catalogue)
    estimating = load_estimating(settings, catalogue)
    if settings.embedder_loads == "start":
        # not beside the app: what is imported holds the interpreter, and heartbeats would be late
        estimating.warm_up()
    return run(Router(settings.with_preset(estimating.planning), estimating))


def _with_transactions(settings: Settings, admin: AdminClient) -> Settings:
    """The same with what this broker makes of transactions that overlap, where nobody said anything."""
    if settings.transactions != "auto":
        return settings
    in_turn = loses_overlapping(admin)
    if in_turn:
        log.info("transactions_in_turn", reason="this broker loses sight of those that overlap")
    return settings.model_copy(update={"transactions": "in-turn" if in_turn else "overlapping"})


def _told_to_stop(number: int, frame: object) -> None:
    """Nothing was begun that had to be finished."""
    raise SystemExit(0)


def see_that_lanes_fit(plan: Plan, partitions: int, overflow: bool) -> None:
    """See that the plan in force has a worker's lanes: another would take one lane's rights for another's.

    Parameters
    ----------
    plan : Plan
    partitions : int
        Of the queries, by the settings.
    overflow : bool
        Whether there is an overflow lane, by the settings.

    Raises
    ------
    ValueError
        It was made for other lanes, which is settled when a router is new.
    """
    elsewhere = 'or begin anew with another PORT_TOPIC_PREFIX (docs/operations.md, "More partitions")'
    made_for = plan.lanes - plan.overflow
    if made_for != partitions:
        raise ValueError(
            f"partitions: {partitions}, and the plan in force is for {made_for}; "
            f"set PORT_PARTITIONS={made_for}, {elsewhere}"
        )
    if plan.overflow != overflow:
        has, then = ("has an", "on") if plan.overflow else ("has no", "off")
        raise ValueError(
            f"overflow: {'on' if overflow else 'off'}, and the plan in force {has} overflow lane; "
            f"set PORT_OVERFLOW={then}, {elsewhere}"
        )


def run(router: Router) -> int:
    """Run a router's app in this thread."""
    worker = faust.Worker(
        router.app, loglevel=None, override_logging=False, redirect_stdouts=False, console_port=0
    )
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def prepare() -> None:
        router.prepare()
        while not (router.view.ready and router.plans.ready):
            await asyncio.sleep(0.02)
        await loop.run_in_executor(None, look_for_losses, router.settings, router.view, router.plans)
        if router.plans.latest is not None:
            see_that_lanes_fit(router.plans.latest, router.settings.partitions, router.overflow)
        await router.observation.start()

    loop.run_until_complete(prepare())
    worker.loop = loop
    fit_search(router.estimating.history.embeddings)
    spare_collector()
    try:
        return int(worker.execute_from_commandline() or 0)
    except SystemExit as error:
        return int(error.code or 0)
