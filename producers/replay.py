"""`python -m producers.replay`: send a prepared data set to the router and report the results."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from routing.extras import require_extra

if __name__ == "__main__":
    require_extra("replay")

import numpy as np
import orjson
from numpy.typing import NDArray

from producers.evaluation.accounting import latencies, locate_queries, score_replay
from producers.evaluation.baselines import (
    BaselineScore,
    score_approximate_optimum,
    score_best_single,
    score_random,
)
from producers.evaluation.budgets import budget_form, budgets_of, over_periods
from producers.evaluation.embeddings import embed_with_progress
from producers.evaluation.outcomes import OutcomesByPosition, read_outcome_costs
from producers.evaluation.prepared_data import VARIABLES, VECTORS, Prepared, save_vectors
from producers.evaluation.queries import ReplayQueries, select_queries
from producers.evaluation.report import Report, per_second
from producers.query_producer import QueryProducer, encode_query
from producers.result_collector import ResultCollector
from routing.arguments import non_negative_int, positive_float, positive_int, rate_per_second
from routing.budgets.catalogue import Catalogue
from routing.budgets.counters import Counters
from routing.embedding.embedder import load_embedder
from routing.history.history import EmbeddedHistory
from routing.history.rules import HistoryError
from routing.progress import Progress
from streams.commands.program import add_env_file, apply_env_file, program_name, run_command
from streams.config.cpus import library_threads
from streams.config.env_files import read_variables, set_variables
from streams.config.planning_settings import few_samples_warning
from streams.config.settings import Settings
from streams.kafka.clients import reach_broker
from streams.kafka.topics import end_offsets, existing_partitions

POLL_SECONDS = 0.2


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog=program_name("producers.replay"), description=__doc__)
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="folder written by `python -m producers.prepare`"
    )
    parser.add_argument(
        "--rate",
        type=rate_per_second,
        metavar="Q",
        help="queries per second; 0: no limit [0]",
    )
    parser.add_argument("--limit", type=positive_int, metavar="N", help="send only the first N queries")
    parser.add_argument(
        "--repeat",
        type=positive_int,
        default=1,
        metavar="R",
        help="repeat the whole replay R times [%(default)s]",
    )
    parser.add_argument(
        "--order", choices=["file", "random", "task"], default="file", help="order of sending [%(default)s]"
    )
    parser.add_argument(
        "--seed", type=non_negative_int, default=0, help="seed of --order random [%(default)s]"
    )
    parser.add_argument(
        "--carry-embeddings",
        action="store_true",
        help="send embeddings with the queries, so that the router computes none",
    )
    parser.add_argument(
        "--deadline",
        type=positive_float,
        default=120.0,
        metavar="S",
        help="give up after S seconds without a result [%(default)s]",
    )
    parser.add_argument(
        "--no-optimum",
        action="store_true",
        help="do not solve the linear program for the approximate optimum",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result to FILE")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    add_env_file(parser)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 1 if a query is undelivered, missing or duplicated, or a budget exceeded."""
    command = parser()
    options = command.parse_args(arguments)
    apply_env_file(command, options)
    return run_command(lambda: run(options))


def run(options: argparse.Namespace) -> int:
    """Replay the data set, collect the results, and print the report."""
    prepared = Prepared.load(options.folder)
    if (options.folder / VARIABLES).exists():
        set_variables(read_variables(options.folder / VARIABLES))
    settings = Settings()
    catalogue = settings.read_catalogue()
    if options.json:  # before the replay, so that an invalid path fails at once
        options.json.parent.mkdir(parents=True, exist_ok=True)
    report = replay(settings, catalogue, prepared, options)
    if options.json:  # before printing, because a closed pipe ends the program
        options.json.write_bytes(orjson.dumps(report.to_dict(), option=orjson.OPT_INDENT_2) + b"\n")
    print(report.text())
    return 1 if report.problems else 0


def replay(
    settings: Settings, catalogue: Catalogue, prepared: Prepared, options: argparse.Namespace
) -> Report:
    """Replay a prepared data set.

    Raises
    ------
    BrokerUnreachable, ValueError
        The broker does not answer, a topic does not exist, or the catalogue has LLMs unknown to the data set.
    """
    history = _with_models_of(prepared.history, catalogue)
    queries = select_queries(
        prepared.queries.with_models(catalogue.names),
        options.order,
        options.seed,
        options.limit,
        options.repeat,
    )
    vectors = None
    if options.carry_embeddings:
        vectors = query_vectors(prepared, options.folder) if prepared.carried is None else prepared.carried
    producer, collector, seconds, outcomes = send_and_collect(settings, catalogue, queries, vectors, options)
    placements = locate_queries(queries.ids, collector.results)
    counters = budgets_of(catalogue, history.history)
    score = score_replay(placements.last, queries, counters, outcomes)
    warning = few_samples_warning(settings, len(catalogue.models), catalogue.period)
    counters = over_periods(counters, score.periods)
    best, baselines = compare(queries, history, counters)
    if not options.no_optimum:
        vectors = query_vectors(prepared, options.folder)
        baselines["approx-optimum"] = score_approximate_optimum(
            queries, vectors[queries.rows], history, counters
        )
    return Report(
        models=catalogue.names,
        placements=placements,
        score=score,
        latencies=latencies(placements.first, producer.produced_at),
        delivery_errors=producer.errors,
        produce_seconds=producer.seconds,
        total_seconds=seconds,
        baselines=baselines,
        best_single=best,
        budget_form=budget_form(counters, prepared.origin.get("split")),
        run=_description(options, settings, prepared),
        warnings=[warning] if warning else [],
    )


def send_and_collect(
    settings: Settings,
    catalogue: Catalogue,
    queries: ReplayQueries,
    vectors: NDArray[np.float32] | None,
    options: argparse.Namespace,
) -> tuple[QueryProducer, ResultCollector, float, OutcomesByPosition]:
    """Send all queries, and read until each is found or none was found for `--deadline` seconds.

    Returns
    -------
    producer : QueryProducer
    collector : ResultCollector
        The stopped collector.
    seconds : float
        Time until the last query was found.
    outcomes : mapping
        The outcomes written meanwhile.
    """
    admin = reach_broker(settings)
    partitions = existing_partitions(admin).get(settings.topics.queries, 0)
    if not partitions:
        raise ValueError(
            f"topic {settings.topics.queries}: does not exist; run `python -m streams topics create`"
        )
    before = end_offsets(admin, [settings.topics.outcomes])
    producer = QueryProducer(settings, partitions, options.rate)
    collector = ResultCollector(settings, catalogue, admin, producer.positions)
    began = time.monotonic()
    try:
        with Progress(len(queries), "arrived", "queries", quiet=options.quiet) as progress:
            producer.run(_messages(queries, vectors), lambda: _show(progress, producer, collector))
            collector.stop_after(queries.ids)
            while collector.running and time.monotonic() - collector.newest < options.deadline:
                _show(progress, producer, collector)
                time.sleep(POLL_SECONDS)
            _show(progress, producer, collector)
    finally:
        collector.stop()
    if collector.failure:
        raise ValueError(f"bootstrap_servers: reading from {settings.bootstrap_servers}: {collector.failure}")
    return producer, collector, collector.newest - began, read_outcome_costs(settings, before)


def compare(
    queries: ReplayQueries, history: EmbeddedHistory, counters: Counters
) -> tuple[str, dict[str, BaselineScore]]:
    """Return the name of the best single LLM, and the scores of simple baselines by name."""
    name, best = score_best_single(queries, history.history, counters)
    return name, {"random": score_random(queries, counters), "best-single": best}


def query_vectors(prepared: Prepared, folder: Path) -> NDArray[np.float32]:
    """Return the embeddings of all prepared queries, [rows, d]; compute and save them if missing.

    Raises
    ------
    ValueError
        The history was embedded by another model.
    """
    if prepared.embeddings is not None:
        return prepared.embeddings
    if (folder / VECTORS).exists():
        return Prepared.load(folder).embeddings  # type: ignore[return-value]
    embedder = load_embedder(prepared.origin["embedder"], threads=library_threads())
    if embedder.identity != prepared.history.embedder:
        raise ValueError(
            f"embedder: {prepared.origin['embedder']} did not embed the history; prepare the data "
            "again, or skip the linear program (--no-optimum)"
        )
    vectors = embed_with_progress(embedder, prepared.queries.texts, "embedding queries")
    save_vectors(folder, vectors)
    return vectors


def _with_models_of(history: EmbeddedHistory, catalogue: Catalogue) -> EmbeddedHistory:
    if missing := sorted(set(catalogue.names) - set(history.models)):
        raise HistoryError(f"catalogue: the data set has no answers of {', '.join(missing)}; remove them")
    return history.with_models(catalogue.names)


def _messages(queries: ReplayQueries, vectors: NDArray[np.float32] | None) -> Iterator[tuple[str, bytes]]:
    for number, (identity, row) in enumerate(zip(queries.ids, queries.rows, strict=True)):
        embedding = None if vectors is None else vectors[row]
        task = {"task": queries.data.tasks[row]}
        yield identity, encode_query(identity, queries.prompts[number], embedding, metadata=task)


def _show(progress: Progress, producer: QueryProducer, collector: ResultCollector) -> None:
    sent, rate = producer.sent, per_second(producer.sent, producer.seconds)
    arrived = collector.count
    progress.move_to(arrived, f"sent {sent} at {rate:.0f}/s, lag {max(0, sent - arrived)}")


def _description(options: argparse.Namespace, settings: Settings, prepared: Prepared) -> dict[str, Any]:
    names = ("rate", "limit", "repeat", "order", "seed", "carry_embeddings")
    setting_names = ("partitions", "horizon", "preset", "warmup", "resolve", "eps", "reserve", "lockstep")
    return {
        "data": prepared.origin,
        "replay": {name: getattr(options, name) for name in names},
        "settings": {name: getattr(settings, name) for name in setting_names},
        "torch": importlib.util.find_spec("torch") is not None,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
    }


if __name__ == "__main__":
    sys.exit(main())
