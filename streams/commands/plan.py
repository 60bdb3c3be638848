"""`python -m streams plan`: the plan in force, and changes of the catalogue while workers run."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from routing.arguments import duration
from streams.config.catalogue_file import read_catalogue
from streams.config.settings import Settings
from streams.kafka.clients import reach_broker
from streams.kafka.topics import create_topics, topic_specs
from streams.ledger.committed_ledgers import read_ledgers
from streams.messages.pause import ManualPause
from streams.messages.plan import encode_plan
from streams.operations.plan_table import plan_lines
from streams.operations.top_ups import top_up_amount, top_up_line
from streams.planner.catalogue_publisher import CataloguePublisher
from streams.planner.plan_reader import plan_in_force


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="show the plan in force")
    show.add_argument("--json", action="store_true", help="print the message of the topic")
    pause = actions.add_parser("pause", help="send an LLM no queries; its budget stays")
    pause.add_argument("model", metavar="LLM", help="name of the LLM")
    pause.add_argument(
        "--for", dest="seconds", type=duration, metavar="T", help="such as 10m or 2h [until resumed]"
    )
    resume = actions.add_parser("resume", help="end the pause of an LLM, also one that failures led to")
    resume.add_argument("model", metavar="LLM", help="name of the LLM")
    top_up = actions.add_parser("top-up", help="raise the limit of a budget for the rest of this period")
    top_up.add_argument(
        "counter", metavar="BUDGET", help="name of a budget, BUDGET=VALUE, or an LLM with its own budget"
    )
    top_up.add_argument(
        "amount", type=float, metavar="AMOUNT", help="USD, queries or tokens, as the budget counts"
    )
    apply = actions.add_parser("apply", help="show the changes of another catalogue, and publish it")
    apply.add_argument("file", type=Path, metavar="CATALOGUE", help="YAML file of the LLMs")
    apply.add_argument("--yes", action="store_true", help="publish without asking")
    apply.add_argument(
        "--new-history",
        action="store_true",
        help="workers have a history whose costs are by this catalogue's prices: changes count from now on",
    )
    apply.add_argument("--dry-run", action="store_true", help="only show the difference")


def run(arguments: argparse.Namespace) -> int:
    """Run the sub-command."""
    settings = Settings()
    if arguments.action == "show":
        return show_plan(settings, as_json=arguments.json)
    if arguments.action in ("pause", "resume"):
        seconds = 0.0 if arguments.action == "resume" else arguments.seconds
        return pause_llm(settings, arguments.model, seconds, time.time())
    if arguments.action == "top-up":
        return top_up(settings, arguments.counter, arguments.amount)
    return apply_catalogue(
        settings,
        arguments.file,
        confirm=not arguments.yes,
        dry=arguments.dry_run,
        new_history=arguments.new_history,
    )


def show_plan(settings: Settings, *, as_json: bool) -> int:
    """Print the plan in force; return 1 if there is none."""
    reach_broker(settings)
    plan = plan_in_force(settings)
    if plan is None:
        print(f"no plan on {settings.topics.plans}: no worker has run yet", file=sys.stderr)
        return 1
    if as_json:
        sys.stdout.buffer.write(encode_plan(plan) + b"\n")
        return 0
    ledgers = read_ledgers(settings, plan.lanes, plan.overflow)
    # read the plan again, because lanes may have released more since than the first plan had granted
    print("\n".join(plan_lines(plan_in_force(settings) or plan, ledgers)))
    return 0


def pause_llm(settings: Settings, model: str, seconds: float | None, now: float) -> int:
    """Publish the pause of an LLM.

    Parameters
    ----------
    settings : Settings
    model : str
    seconds : float or None
        Length of the pause; None: without a time limit; 0: the LLM is resumed.
    now : float
        Seconds since the epoch.

    Raises
    ------
    ValueError
        The plan has no such LLM.
    """
    reach_broker(settings)
    plan = plan_in_force(settings)
    known = settings.read_catalogue().names if plan is None else plan.models
    if model not in known:
        raise ValueError(f"LLM: {model!r} is not in the plan, which has {', '.join(known)}; correct it")
    pause = ManualPause(now, None if seconds is None else now + seconds)
    CataloguePublisher(settings).publish_pause(model, pause)
    span = "" if seconds is None else f" for {seconds:g} s"
    print(f"{model}: {'resumed' if pause.resumes else f'paused{span}'}")
    return 0


def top_up(settings: Settings, counter: str, amount: float) -> int:
    """Publish that a counter's limit is raised for the rest of the period; return 1 if there is no plan.

    Parameters
    ----------
    settings : Settings
    counter : str
        Name of the counter.
    amount : float
        In US dollars, queries or tokens.

    Raises
    ------
    ValueError
        The plan has no such counter, or the amount is not valid.
    """
    reach_broker(settings)
    publisher = CataloguePublisher(settings)
    if (plan := plan_in_force(settings)) is None:
        print(f"no plan on {settings.topics.plans}: no worker has run yet", file=sys.stderr)
        return 1
    added = top_up_amount(plan, counter, amount)
    print(top_up_line(plan, counter, added, publisher.publish_top_up(counter, plan.period, added)))
    return 0


def apply_catalogue(
    settings: Settings, file: Path, *, confirm: bool, dry: bool, new_history: bool = False
) -> int:
    """Show the difference, then publish the next version of the catalogue.

    The version contains the list prices of the history, so that no worker depends on its catalogue file.

    Returns
    -------
    int
        0 if published or unchanged; 1 if not confirmed.

    Raises
    ------
    CatalogueError
        A worker would not start with this catalogue. It is not published.
    """
    catalogue = read_catalogue(file)
    admin = reach_broker(settings)
    publisher = CataloguePublisher(settings)
    change = publisher.compare(catalogue, new_history=new_history)
    if not change.differences:
        print(f"nothing changes: catalogue version {change.current.version} is in force")
        return 0
    for line in change.differences:
        print(line)
    if dry:
        return 0
    if confirm and not _confirmed():
        print("not published", file=sys.stderr)
        return 1
    for topic, created in create_topics(
        admin, topic_specs(settings, catalogue), settings.replication_factor
    ).items():
        if created:
            print(f"created {topic}")
    publisher.publish(change.next)
    print(f"published catalogue version {change.next.version}")
    return 0


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        print("not a terminal: give --yes to publish", file=sys.stderr)
        return False
    return input("publish? [y/N] ").strip().lower() in ("y", "yes")
