"""`python -m streams explain QUERY_ID`: the decisions about a query, and their reasons."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime
from typing import Any

import orjson

from routing.arguments import positive_float, positive_int
from routing.history.rules import HistoryError
from streams.config.log_setup import configure_logs
from streams.config.settings import Settings
from streams.kafka.clients import reach_broker
from streams.operations.console_table import table_lines
from streams.operations.explain import NEIGHBOURS, explain
from streams.router.estimation import Estimation, load_estimation

COLUMNS = ("quality", "cost", "price", "score", "charge", "available_before", "available_after")
MAX_PROMPT_CHARACTERS = 72


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("query_id", metavar="QUERY_ID")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument(
        "--neighbours",
        type=positive_int,
        default=NEIGHBOURS,
        metavar="N",
        help="number of history rows to show [%(default)s]",
    )
    parser.add_argument("--hours", type=positive_float, metavar="H", help="search only the last H hours")
    parser.add_argument(
        "--recorded-only", action="store_true", help="do not load the history; omit estimates and neighbours"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the decisions; return 1 if there is no such query."""
    settings = Settings()
    configure_logs("warning", settings.log_format)
    reach_broker(settings)
    since = None if arguments.hours is None else time.time() - 3600 * arguments.hours
    estimating = None if arguments.recorded_only else load(settings)
    try:
        explanation = explain(
            settings, estimating, arguments.query_id, since=since, neighbours=arguments.neighbours
        )
    except LookupError as error:
        print(f"error: {error.args[0]}", file=sys.stderr)
        return 1
    print(
        orjson.dumps(explanation, option=orjson.OPT_INDENT_2).decode()
        if arguments.json
        else text(explanation)
    )
    return 0


def load(settings: Settings) -> Estimation | None:
    """Return the estimation of the workers, or print why it is not available and return None."""
    try:
        return load_estimation(settings, settings.read_catalogue())
    except (HistoryError, ValueError, FileNotFoundError) as error:
        print(f"note: without estimates and neighbours: {error}", file=sys.stderr)
        return None


def text(explanation: dict[str, Any]) -> str:
    """Return an explanation as text."""
    lines = [f"query {explanation['id']}: {_short(explanation['prompt'])}"]
    for decision in explanation["decisions"]:
        lines += ["", *_decision(decision)]
    # last, because the decisions answer the question
    for decision in explanation["decisions"]:
        lines += _neighbours(decision)
    return "\n".join(lines)


def _decision(decision: dict[str, Any]) -> list[str]:
    lane = "overflow lane" if decision["pool"] else f"lane {decision['lane']}"
    at = datetime.fromtimestamp(decision["at"], UTC).isoformat(sep=" ", timespec="milliseconds")
    target = f" to {decision['model']}" if decision["model"] else ""
    lines = [f"{decision['stage']}{target} by the {lane} at offset {decision['offset']}, {at}"]
    if decision["attempt"] > 1:
        lines.append(f"  attempt {decision['attempt']}, after {', '.join(decision['tried'])} returned it")
    if decision["reason"]:
        lines.append(f"  because {decision['reason']}")
    if decision["found"]:
        lines.append(f"  it is at {decision['found']}")
    if (plan := decision["plan"]) is not None:
        learned = "" if plan["learned"] else ", before there were prices"
        lines.append(f"  plan {plan['version']} of period {plan['period']}{learned}")
    if decision["explored"]:
        lines.append("  it measured an LLM without a history")
    if decision["models"]:
        lines += _models(decision["models"])
    if decision.get("budgets"):
        headers = ["budget", "unit", "price", "available before"]
        rows = [
            [one["name"], one["unit"], _number(one["price"]), _number(one["available_before"])]
            for one in decision["budgets"]
        ]
        lines += table_lines(headers, rows, left=(0, 1))
    if decision["agrees"] is not None:
        changed = "differs: the history, prices or settings have changed"
        result = "is the same" if decision["agrees"] else changed
        lines.append(f"  the recomputed decision {result} (estimates: {decision['estimated_by']})")
    if (outcome := decision["outcome"]) is not None:
        quality = "" if outcome["quality"] is None else f", quality {outcome['quality']:.3f}"
        lines.append(f"  answered for {outcome['cost']:.9f} USD{quality}")
    elif decision["stage"] == "routed":
        lines.append("  it has no outcome yet")
    return lines


def _models(models: list[dict[str, Any]]) -> list[str]:
    return table_lines(
        ["", "LLM", *(name.replace("_", " ") for name in COLUMNS), "mask"],
        [
            [
                "*" if model["chosen"] else "",
                model["name"],
                *(_number(model.get(name)) for name in COLUMNS),
                _mask(model),
            ]
            for model in models
        ],
        left=(0, 1, 2 + len(COLUMNS)),
    )


def _mask(model: dict[str, Any]) -> str:
    """Return the reason why an LLM could not be chosen."""
    if not model["active"]:
        return "closed"
    if model.get("excluded"):
        return f"excluded: {model['excluded']}"
    if model.get("comparable") is False:
        return "not measured yet"
    if model.get("can_pay") is False:
        return "cannot pay"
    if model.get("cannot_pay") and model.get("worth"):
        return f"cannot pay: {', '.join(model['cannot_pay'])}"
    return "not worth its price" if model.get("worth") is False else ""


def _neighbours(decision: dict[str, Any]) -> list[str]:
    if not decision["neighbours"]:
        return []
    rows = []
    for near in decision["neighbours"]:
        mean = sum(near["quality"].values()) / len(near["quality"])
        rows.append([f"{near['similarity']:.3f}", f"{mean:.2f}", near["task"], _short(near["prompt"])])
    headers = ["similarity", "mean quality", "task", "prompt"]
    return ["  nearest in the history", *table_lines(headers, rows, left=(2, 3), indent=4)]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.3e}"


def _short(text: str | None) -> str:
    if text is None:
        return "(its prompt was deleted)"
    line = " ".join(text.split())
    return line if len(line) <= MAX_PROMPT_CHARACTERS else line[: MAX_PROMPT_CHARACTERS - 3] + "..."
