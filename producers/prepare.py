"""`python -m producers.prepare`: split a data set into queries and history, and set budgets for its LLMs."""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from routing.extras import require_extra

if __name__ == "__main__":
    require_extra("replay")

from pydantic import ValidationError

from producers.evaluation.budgets import budget_form, budgets_of, total_money
from producers.evaluation.embeddings import embed_with_progress
from producers.evaluation.prepared_data import HISTORY, Prepared, budgeted_catalogue
from routing.arguments import non_negative_int, positive_float, positive_int
from routing.budgets.splits import SHARED, SPLITS
from routing.datasets.demo import FIT as DEMO_FIT
from routing.datasets.load import load_dataset
from routing.datasets.routerbench_table import Incomplete
from routing.datasets.split import split_rows
from routing.embedding.embedder import load_embedder
from routing.embedding.model_files import DEFAULT
from routing.embedding.stored_vectors import stored_vectors
from routing.fitting.fit import (
    fit,
)
from routing.fitting.presets import NAMES, Preset, choose_preset, short_history
from routing.fitting.saved_fit import (
    FitFacts,
    load_fitted,
    save_fitted,
)
from routing.history.history import EmbeddedHistory
from routing.history.rules import HistoryError
from streams.commands.program import program_name
from streams.config.catalogue_file import (
    PREFIX,
)
from streams.config.cpus import library_threads
from streams.config.planning_settings import few_samples_warning
from streams.config.settings import (
    Settings,
)

DEMO = "demo"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog=program_name("producers.prepare"), description=__doc__)
    parser.add_argument(
        "--dataset", required=True, metavar="FILE", help=f"data set of answered queries, or `{DEMO}`"
    )
    parser.add_argument("--embeddings", type=Path, metavar="NPY", help="embeddings of its rows [computed]")
    parser.add_argument(
        "--embedder",
        default=DEFAULT,
        help="name or folder of the embedding model [%(default)s]",
    )
    parser.add_argument(
        "--embed-queries", action="store_true", help="also embed the queries, for messages to carry"
    )
    parser.add_argument(
        "--queries",
        type=positive_int,
        metavar="N",
        help="number of rows to use as queries; the rest is the history [1000, at most a third]",
    )
    parser.add_argument("--seed", type=non_negative_int, default=0, help="seed of the split [%(default)s]")
    parser.add_argument(
        "--budget-factor",
        type=positive_float,
        default=1.0,
        help="total budget as a multiple of the cheapest LLM's cost [%(default)s]",
    )
    parser.add_argument(
        "--split",
        choices=(*SPLITS, SHARED),
        default="weighted",
        help="how the total is split over the LLMs, or shared by all [%(default)s]",
    )
    parser.add_argument(
        "--preset",
        choices=NAMES,
        default="auto",
        help="auto chooses by the size of the history; paper reproduces the paper [%(default)s]",
    )
    parser.add_argument(
        "--incomplete",
        choices=get_args(Incomplete),
        default="error",
        help="how to treat rows with missing values [%(default)s]",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="setting of the worker, such as resolve=geometric; repeatable",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to write")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return the exit status."""
    options = parser().parse_args(arguments)
    try:
        variables = settings_variables(options.set)
        prepared = prepare(options)
        preset, reason = choose_preset(len(prepared.history), options.preset)
        variables = {
            "PORT_HORIZON": str(len(prepared.queries)),
            "PORT_PRESET": preset.name,
            **variables,
        }
        if preset.name == "paper":
            prepared.save(options.out, variables)
        else:
            save_fit(prepared, preset, reason, variables, options)
    except (HistoryError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    warning = short_history(len(prepared.history))
    if warning is not None:
        print(f"warning: {warning}", file=sys.stderr)
    warn_of_few_samples(variables, len(prepared.catalogue.models))
    counters = budgets_of(prepared.catalogue, prepared.history.history)
    print(
        f"{options.out}: {len(prepared.queries)} queries, history of {len(prepared.history)} rows, "
        f"{len(prepared.catalogue.models)} LLMs, budget {total_money(counters):.6g} USD, "
        f"{budget_form(counters, options.split)}"
    )
    return 0


def save_fit(
    prepared: Prepared, preset: Preset, reason: str, variables: dict[str, str], options: argparse.Namespace
) -> None:
    """Fit a preset to the history, using its embeddings, and save everything.

    The demo's fit of `fast` is shipped, because `fit` loads the embedding model.
    """
    history = prepared.history
    shipped = (options.dataset, options.preset, options.embedder) == (DEMO, "fast", DEFAULT)
    origin = prepared.origin | {"fit": "shipped with the demo" if shipped else "fitted to the history"}
    prepared = replace(prepared, origin=origin)
    # saving deletes the folder's old content, so an embedding table is distilled elsewhere
    with tempfile.TemporaryDirectory() as folder:
        if shipped:
            fitted = load_fitted(DEMO_FIT)
        else:
            fitted = fit(
                history.history,
                preset,
                out=Path(folder),
                embeddings=history.embeddings,
                model=options.embedder,
            )
        if fitted.embedder.identity != history.embedder:
            carried = fitted.embedder.embed(prepared.queries.texts).embeddings
            prepared = replace(prepared, carried=carried)
        prepared.save(options.out, variables)
        facts = FitFacts(preset.name, reason, fitted.history.digest(), options.embedder)
        save_fitted(options.out / HISTORY, fitted, facts)


def warn_of_few_samples(variables: dict[str, str], models: int) -> None:
    """Print a warning if the replay has too few first queries to price the LLMs."""
    fields: dict[str, Any] = {name.removeprefix(PREFIX).lower(): value for name, value in variables.items()}
    try:
        warning = few_samples_warning(Settings(**fields), models)
    except ValidationError:  # the worker reports the invalid value of --set
        return
    if warning is not None:
        print(f"warning: {warning}", file=sys.stderr)


def settings_variables(pairs: list[str]) -> dict[str, str]:
    """Return NAME=VALUE pairs as environment variables of the worker.

    Raises
    ------
    ValueError
        A setting does not exist.
    """
    variables = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name.lower() not in Settings.model_fields:
            raise ValueError(
                f"--set: {pair!r} is not NAME=VALUE of a setting; `config check` lists the settings"
            )
        variables[PREFIX + name.upper()] = value
    return variables


def prepare(options: argparse.Namespace) -> Prepared:
    """Split and embed the data set, and set budgets, as the arguments say."""
    if options.dataset == DEMO:
        history, queries, vectors = _demo(options)
    else:
        history, queries, vectors = _split(options)
    catalogue = budgeted_catalogue(
        queries, history.history, options.budget_factor, options.split, options.seed
    )
    origin = {
        "dataset": Path(options.dataset).name,
        "embedder": options.embedder,
        "queries": len(queries),
        "history": len(history),
        "seed": options.seed,
        "budget_factor": options.budget_factor,
        "split": options.split,
        "digest": history.digest(),
    }
    return Prepared(queries, vectors, history, catalogue, origin)


def _split(options: argparse.Namespace):  # type: ignore[no-untyped-def]
    data = load_dataset(options.dataset, options.incomplete)
    count = min(1000, len(data) // 3) if options.queries is None else options.queries
    query_rows, history_rows = split_rows(len(data), count, options.seed)
    queries, past = data.select(query_rows), data.select(history_rows)
    embedder = load_embedder(options.embedder, threads=library_threads())
    if options.embeddings is not None:
        vectors = stored_vectors(options.embeddings, len(data))
        return EmbeddedHistory(past, vectors[history_rows], embedder.identity), queries, vectors[query_rows]
    embedded = EmbeddedHistory(past, embed_with_progress(embedder, past.texts, "history"), embedder.identity)
    # if another text than the prompt is embedded, messages must carry the embedding
    carry = options.embed_queries or queries.embed_texts is not None
    return embedded, queries, embed_with_progress(embedder, queries.texts, "queries") if carry else None


def _demo(options: argparse.Namespace):  # type: ignore[no-untyped-def]
    from routing.datasets.demo import load_demo, load_demo_vectors

    history, queries = load_demo()
    vectors = load_demo_vectors()
    if options.queries is not None:
        rows = range(min(options.queries, len(queries)))
        queries, vectors = queries.select(rows), vectors[: len(rows)]
    return history, queries, vectors


if __name__ == "__main__":
    sys.exit(main())
