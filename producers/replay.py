"""`python -m producers.replay`: puts a prepared data set on the stream and says what the routing achieved."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from tqdm import tqdm

from producers.accounting import achieve, latencies, place_all
from producers.asked import Asked, ask
from producers.collecting import Collector
from producers.comparing import Reached, reach_approximate_optimum, reach_best_single, reach_random
from producers.paid import Paid, read_paid
from producers.prepared import VARIABLES, VECTORS, Prepared, save_vectors
from producers.producing import Load, encode_query
from producers.report import Report, per_second
from producers.vectors import embed_with_progress
from routing.arguments import count, positive, rate, whole
from routing.catalogue import Catalogue
from routing.embedding import load_embedder
from routing.history import EmbeddedHistory, HistoryError
from streams.command_line import load_variables, told_in_a_line
from streams.kafka import reach_broker
from streams.settings import Settings
from streams.topics import end_offsets, existing_partitions

POLL_SECONDS = 0.2


def parser() -> argparse.ArgumentParser:
    """What the command can be told."""
    parser = argparse.ArgumentParser(prog="python -m producers.replay", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="made by `python -m producers.prepare`")
    parser.add_argument(
        "--rate", type=rate, metavar="Q", help="queries a second; 0, the default: as fast as it goes"
    )
    parser.add_argument(
        "--limit", type=count, metavar="N", help="only the first N, in the order of the replay"
    )
    parser.add_argument(
        "--repeat", type=count, default=1, metavar="R", help="all of it R times [%(default)s]"
    )
    parser.add_argument(
        "--order", choices=["file", "random", "task"], default="file", help="of sending [%(default)s]"
    )
    parser.add_argument("--seed", type=whole, default=0, help="of --order random [%(default)s]")
    parser.add_argument(
        "--carry-embeddings", action="store_true", help="messages carry embeddings: the router makes none"
    )
    parser.add_argument(
        "--deadline",
        type=positive,
        default=120.0,
        metavar="S",
        help="give up when no query came for S seconds [%(default)s]",
    )
    parser.add_argument("--no-optimum", action="store_true", help="leave out the linear programme")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there too")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; 1 when a query was not delivered, is missing or twice, or a budget is broken."""
    given = parser().parse_args(arguments)
    return told_in_a_line(lambda: run(given))


def run(given: argparse.Namespace) -> int:
    """Replays, collects, accounts and reports."""
    prepared = Prepared.load(given.folder)
    load_variables(str(given.folder / VARIABLES))
    settings = Settings()
    catalogue = settings.read_catalogue()
    if given.json:  # before the replay: a folder that cannot be made is not found after an hour
        given.json.parent.mkdir(parents=True, exist_ok=True)
    report = replay(settings, catalogue, prepared, given)
    if given.json:  # before it is printed: who reads that may leave early
        given.json.write_bytes(orjson.dumps(report.to_dict(), option=orjson.OPT_INDENT_2) + b"\n")
    print(report.text())
    return 1 if report.problems else 0


def replay(settings: Settings, catalogue: Catalogue, prepared: Prepared, given: argparse.Namespace) -> Report:
    """The replay itself.

    Raises
    ------
    BrokerUnreachable, ValueError
        The broker does not answer; a topic is not there; the catalogue has other LLMs than the data set.
    """
    history = _with_all(prepared.history, catalogue)
    asked = ask(
        prepared.queries.with_models(catalogue.names), given.order, given.seed, given.limit, given.repeat
    )
    vectors = None
    if given.carry_embeddings:
        vectors = query_vectors(prepared, given.folder) if prepared.carried is None else prepared.carried
    load, collector, seconds, paid = send_and_collect(settings, catalogue, asked, vectors, given)
    places = place_all(asked.ids, collector.arrivals)
    budgets = catalogue.budgets(history.history.quality.mean(0), history.history.cost.mean(0))
    achieved = achieve(places.first, asked, budgets, paid)
    best, baselines = compare(asked, history, achieved.budgets)
    if not given.no_optimum:
        vectors = query_vectors(prepared, given.folder)
        baselines["approx-optimum"] = reach_approximate_optimum(
            asked, vectors[asked.rows], history, achieved.budgets
        )
    return Report(
        models=catalogue.names,
        places=places,
        achieved=achieved,
        latencies=latencies(places.first, load.produced_at),
        delivery_errors=load.errors,
        produce_seconds=load.seconds,
        total_seconds=seconds,
        baselines=baselines,
        best_single=best,
        run=_description(given, settings, prepared),
    )


def send_and_collect(
    settings: Settings,
    catalogue: Catalogue,
    asked: Asked,
    vectors: NDArray[np.float32] | None,
    given: argparse.Namespace,
) -> tuple[Load, Collector, float, Paid]:
    """Sends all, and reads until each is accounted for or none came for long.

    Returns
    -------
    load : Load
    collector : Collector
        Stopped.
    seconds : float
        Until the last query was accounted for.
    paid : mapping
        The outcomes that were written meanwhile.
    """
    admin = reach_broker(settings)
    partitions = existing_partitions(admin).get(settings.topics.queries, 0)
    if not partitions:
        raise ValueError(
            f"topic {settings.topics.queries}: is not there; run `python -m streams topics create`"
        )
    before = end_offsets(admin, [settings.topics.outcomes])
    load = Load(settings, partitions, given.rate)
    collector = Collector(settings, catalogue, admin, load.places)
    began = time.monotonic()
    try:
        with tqdm(total=len(asked), unit="query", disable=given.quiet) as bar:
            load.run(_messages(asked, vectors), lambda: _show(bar, load, collector))
            collector.until(asked.ids)
            while collector.running and time.monotonic() - collector.newest < given.deadline:
                _show(bar, load, collector)
                time.sleep(POLL_SECONDS)
            _show(bar, load, collector)
    finally:
        collector.stop()
    if collector.failure:
        raise ValueError(f"bootstrap_servers: reading from {settings.bootstrap_servers}: {collector.failure}")
    return load, collector, collector.newest - began, read_paid(settings, before)


def compare(
    asked: Asked, history: EmbeddedHistory, budgets: NDArray[np.float64]
) -> tuple[str, dict[str, Reached]]:
    """What simpler ways reach, by name, and which LLM is the best single one."""
    name, best = reach_best_single(asked, history.history, budgets)
    return name, {"random": reach_random(asked, budgets), "best-single": best}


def query_vectors(prepared: Prepared, folder: Path) -> NDArray[np.float32]:
    """Embeddings of all prepared queries, [rows, d]; made and kept in the folder where it has none.

    Raises
    ------
    ValueError
        They would be another embedder's than the history's.
    """
    if prepared.embeddings is not None:
        return prepared.embeddings
    if (folder / VECTORS).exists():
        return Prepared.load(folder).embeddings  # type: ignore[return-value]
    embedder = load_embedder(prepared.origin["embedder"])
    if embedder.identity != prepared.history.embedder:
        raise ValueError(
            f"embedder: {prepared.origin['embedder']} is not what embedded the history; prepare the data "
            "anew, or leave the linear programme out (--no-optimum)"
        )
    vectors = embed_with_progress(embedder, prepared.queries.texts, "embedding queries")
    save_vectors(folder, vectors)
    return vectors


def _with_all(history: EmbeddedHistory, catalogue: Catalogue) -> EmbeddedHistory:
    if lacking := sorted(set(catalogue.names) - set(history.models)):
        raise HistoryError(f"catalogue: the data set knows nothing of {', '.join(lacking)}; remove them")
    return history.with_models(catalogue.names)


def _messages(asked: Asked, vectors: NDArray[np.float32] | None) -> Iterator[tuple[str, bytes]]:
    for number, (identity, row) in enumerate(zip(asked.ids, asked.rows, strict=True)):
        embedding = None if vectors is None else vectors[row]
        task = {"task": asked.data.tasks[row]}
        yield identity, encode_query(identity, asked.prompts[number], embedding, metadata=task)


def _show(bar: Any, load: Load, collector: Collector) -> None:
    bar.n = min(collector.count, bar.total)
    rate = per_second(load.sent, load.seconds)
    bar.set_postfix_str(f"sent {load.sent} at {rate:.0f}/s, lag {max(0, load.sent - collector.count)}")


def _description(given: argparse.Namespace, settings: Settings, prepared: Prepared) -> dict[str, Any]:
    names = ("rate", "limit", "repeat", "order", "seed", "carry_embeddings")
    told = ("partitions", "horizon", "preset", "warmup", "resolve", "eps", "reserve", "lockstep")
    return {
        "data": prepared.origin,
        "replay": {name: getattr(given, name) for name in names},
        "settings": {name: getattr(settings, name) for name in told},
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
    }


if __name__ == "__main__":
    sys.exit(main())
