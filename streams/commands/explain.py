"""`python -m streams explain QUERY_ID`: why a query went where it went."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime
from typing import Any

import orjson

from routing.arguments import count, positive
from routing.history import HistoryError
from streams.estimating import Estimating, load_estimating
from streams.explaining import NEIGHBOURS, explain
from streams.kafka import reach_broker
from streams.logs import configure_logs
from streams.settings import Settings

COLUMNS = (
    ("quality", 9), ("cost", 12), ("price", 12), ("score", 9), ("charge", 12),
    ("available_before", 18), ("available_after", 18),
)  # fmt: skip
SHOWN_PROMPT = 72


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command can be told."""
    parser.add_argument("query_id", metavar="QUERY_ID")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument(
        "--neighbours", type=count, default=NEIGHBOURS, metavar="N", help="rows of the history [%(default)s]"
    )
    parser.add_argument("--hours", type=positive, metavar="H", help="look no further back")
    parser.add_argument(
        "--recorded-only", action="store_true", help="do not load the history: no estimates, no neighbours"
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints; 1 when there is no such query."""
    settings = Settings()
    configure_logs("warning", settings.log_format)
    reach_broker(settings)
    since = None if arguments.hours is None else time.time() - 3600 * arguments.hours
    estimating = None if arguments.recorded_only else load(settings)
    try:
        told = explain(settings, estimating, arguments.query_id, since=since, neighbours=arguments.neighbours)
    except LookupError as error:
        print(f"error: {error.args[0]}", file=sys.stderr)
        return 1
    print(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode() if arguments.json else text(told))
    return 0


def load(settings: Settings) -> Estimating | None:
    """What the workers estimate with, or a word about why there is nothing."""
    try:
        return load_estimating(settings, settings.read_catalogue())
    except (HistoryError, ValueError, FileNotFoundError) as error:
        print(f"note: without estimates and neighbours: {error}", file=sys.stderr)
        return None


def text(told: dict[str, Any]) -> str:
    """For people."""
    lines = [f"query {told['id']}: {_short(told['prompt'])}"]
    for decision in told["decisions"]:
        lines += ["", *_decision(decision)]
    return "\n".join(lines)


def _decision(decision: dict[str, Any]) -> list[str]:
    where = "overflow lane" if decision["pool"] else f"lane {decision['lane']}"
    at = datetime.fromtimestamp(decision["at"], UTC).isoformat(sep=" ", timespec="milliseconds")
    went = f" to {decision['model']}" if decision["model"] else ""
    lines = [f"{decision['stage']}{went} by the {where} at offset {decision['offset']}, {at}"]
    if decision["reason"]:
        lines.append(f"  because {decision['reason']}")
    if decision["found"]:
        lines.append(f"  it is at {decision['found']}")
    if (plan := decision["plan"]) is not None:
        learned = "" if plan["learned"] else ", before there were prices"
        lines.append(f"  plan {plan['version']} of period {plan['period']}{learned}")
    if decision["explored"]:
        lines.append("  it was to measure an LLM without a history")
    if decision["models"]:
        lines += _models(decision["models"])
    if decision["agrees"] is not None:
        again = "comes out the same" if decision["agrees"] else "comes out otherwise: the history has changed"
        lines.append(f"  the decision, made again, {again} (estimates: {decision['estimated_by']})")
    if (outcome := decision["outcome"]) is not None:
        quality = "" if outcome["quality"] is None else f", quality {outcome['quality']:.3f}"
        lines.append(f"  answered for {outcome['cost']:.9f} USD{quality}")
    elif decision["stage"] == "routed":
        lines.append("  its outcome has not come")
    return lines + _neighbours(decision)


def _models(models: list[dict[str, Any]]) -> list[str]:
    width = max(len(model["name"]) for model in models) + 2
    head = "".join(f"{name.replace('_', ' '):>{room}}" for name, room in COLUMNS)
    lines = [f"  {'LLM':<{width}}{head}  mask"]
    for model in models:
        numbers = "".join(f"{_number(model.get(name)):>{room}}" for name, room in COLUMNS)
        mark = "* " if model["chosen"] else "  "
        lines.append(f"{mark}{model['name']:<{width}}{numbers}  {_mask(model)}")
    return lines


def _mask(model: dict[str, Any]) -> str:
    """Why an LLM could not be chosen."""
    if not model["active"]:
        return "closed"
    if model.get("comparable") is False:
        return "not measured yet"
    if model.get("can_pay") is False:
        return "cannot pay"
    return "not worth its price" if model.get("worth") is False else ""


def _neighbours(decision: dict[str, Any]) -> list[str]:
    if not decision["neighbours"]:
        return []
    lines = ["  nearest in the history: similarity, mean quality, task, prompt"]
    for near in decision["neighbours"]:
        mean = sum(near["quality"].values()) / len(near["quality"])
        lines.append(
            f"    {near['similarity']:.3f}  {mean:.2f}  {near['task'][:20]:<20}  {_short(near['prompt'])}"
        )
    return lines


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.3e}"


def _short(text: str | None) -> str:
    if text is None:
        return "(its prompt is gone)"
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_PROMPT else line[: SHOWN_PROMPT - 3] + "..."
