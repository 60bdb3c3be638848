"""`python -m streams plan`: shows the plan in force, and changes the catalogue while workers run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import orjson

from routing.catalogue import Catalogue
from routing.list_prices import PriceChange, cost_factors, first_listed, listed
from routing.money import to_usd
from routing.plan import Plan
from streams.catalogue_change import as_planned, differences, estimate_changes
from streams.catalogue_versions import CATALOGUE_KEY, CatalogueVersion
from streams.kafka import reach_broker, reader_config, transactional_config
from streams.plan_messages import encode_plan
from streams.plans import plan_in_force
from streams.settings import Settings, read_catalogue
from streams.topics import create_topics, topic_specs
from streams.transactions import FencedProducer, read_to_end


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sub-commands `show` and `apply`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="show the plan in force")
    show.add_argument("--json", action="store_true", help="as it is on the topic")
    apply = actions.add_parser("apply", help="show what another catalogue changes, and publish it")
    apply.add_argument("file", type=Path, metavar="CATALOGUE", help="YAML file of the LLMs")
    apply.add_argument("--yes", action="store_true", help="publish without asking")
    apply.add_argument(
        "--new-history", action="store_true",
        help="workers have a history whose costs are by this catalogue's prices: changes count from now on",
    )  # fmt: skip
    apply.add_argument("--dry-run", action="store_true", help="only show the difference")


def run(arguments: argparse.Namespace) -> int:
    """Runs the sub-command."""
    settings = Settings()
    if arguments.action == "show":
        return show_plan(settings, as_json=arguments.json)
    return apply_catalogue(
        settings, arguments.file, ask=not arguments.yes, dry=arguments.dry_run,
        new_history=arguments.new_history,
    )  # fmt: skip


def catalogue_in_force(settings: Settings, plan: Plan | None) -> CatalogueVersion:
    """The newest catalogue on the topic; while there is none, what workers started with, by their plan."""
    found = CatalogueVersion(0, as_planned(settings.read_catalogue(), plan))
    for message in read_to_end(reader_config(settings), settings.topics.catalogue, 0):
        value = message.value()
        if message.key() == CATALOGUE_KEY and value is not None:
            found = CatalogueVersion.decode(value)
    return found


def history_prices(
    current: CatalogueVersion, plan: Plan | None, file: Catalogue
) -> dict[str, list[float | None]]:
    """The prices that the history's costs are by, with those of LLMs that came later."""
    known = current.priced_by
    if known is None:
        known = current.list_prices_since(file).told_by(plan, current.version)
    return first_listed(known, listed(current.catalogue))


def show_plan(settings: Settings, *, as_json: bool) -> int:
    """Print the plan in force; 1 when there is none."""
    reach_broker(settings)
    plan = plan_in_force(settings)
    if plan is None:
        print(f"no plan on {settings.topics.plans}: no worker has run yet", file=sys.stderr)
        return 1
    if as_json:
        sys.stdout.buffer.write(encode_plan(plan) + b"\n")
        return 0
    state = "prices learned" if plan.learned else "warm-up, no prices yet"
    print(f"period {plan.period}, plan {plan.version}, revision {plan.revision}: {state}")
    print(f"horizon {plan.horizon} queries, catalogue version {plan.catalogue}")
    for name, factor in plan.cost_factor.items():
        print(f"estimated costs of {name}: the history's times {factor:g}, by the change of its list price")
    print(f"solved from {orjson.dumps(plan.solved_from).decode()}")
    print(f"\n{'LLM':44} {'price 1/USD':>12} {'budget USD':>12} {'granted USD':>12}")
    granted = to_usd(plan.granted.sum(0))
    for i, name in enumerate(plan.models):
        label = name if plan.active[i] else f"{name} (removed)"
        budget = float(to_usd(plan.budgets[i]))
        print(f"{label:44} {plan.prices[i]:12.4g} {budget:12.6f} {granted[i]:12.6f}")
    return 0


def apply_catalogue(
    settings: Settings, file: Path, *, ask: bool, dry: bool, new_history: bool = False
) -> int:
    """Show the difference, then publish the next version of the catalogue.

    It carries the prices that the history's costs are by, so that no worker need know them from its file.

    Returns
    -------
    int
        0 when published or nothing is different; 1 when not confirmed.
    """
    wanted = read_catalogue(file)
    admin = reach_broker(settings)
    # the fence comes before the look, so that of two that apply at once one fails instead of being lost
    producer = FencedProducer(transactional_config(settings, "catalogue"))
    plan = plan_in_force(settings)
    current = catalogue_in_force(settings, plan)
    before = history_prices(current, plan, settings.read_catalogue())
    after = listed(wanted) if new_history else first_listed(before, listed(wanted))
    factors = cost_factors(listed(current.catalogue), before)
    if plan is not None and plan.catalogue == current.version:
        factors = plan.cost_factor
    changes = [
        *map(str, differences(current.catalogue, wanted)),
        *estimate_changes(factors, PriceChange(listed(wanted), after)),
    ]
    if not changes:
        print(f"nothing changes: catalogue version {current.version} is in force")
        return 0
    for change in changes:
        print(change)
    if dry:
        return 0
    if ask and not _confirmed():
        print("not published", file=sys.stderr)
        return 1
    for topic, made in create_topics(
        admin, topic_specs(settings, wanted), settings.replication_factor
    ).items():
        if made:
            print(f"created {topic}")
    version = CatalogueVersion(current.version + 1, wanted, after)
    producer.begin()
    producer.produce(settings.topics.catalogue, version.encode(), CATALOGUE_KEY, partition=0)
    producer.commit()
    print(f"published catalogue version {version.version}")
    return 0


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        print("not a terminal: give --yes to publish", file=sys.stderr)
        return False
    return input("publish? [y/N] ").strip().lower() in ("y", "yes")
