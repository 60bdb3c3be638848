"""`python -m producers.prepare`: splits a data set into queries and history, and budgets its LLMs."""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from producers.prepared import HISTORY, Prepared, budgeted_catalogue, split_rows
from producers.vectors import embed_with_progress, stored_vectors
from routing.arguments import count, positive, whole
from routing.budgets import SPLITS
from routing.datasets import load_dataset
from routing.embedding import DEFAULT, load_embedder
from routing.fitting import FitFacts, fit, save_fitted
from routing.history import EmbeddedHistory, HistoryError
from routing.presets import NAMES, Preset, choose_preset
from streams.settings import PREFIX, Settings

DEMO = "demo"


def parser() -> argparse.ArgumentParser:
    """What the command can be told."""
    parser = argparse.ArgumentParser(prog="python -m producers.prepare", description=__doc__)
    parser.add_argument(
        "--dataset", required=True, metavar="FILE", help=f"data set of answered queries, or `{DEMO}`"
    )
    parser.add_argument(
        "--embeddings", type=Path, metavar="NPY", help="embeddings of its rows; else they are made now"
    )
    parser.add_argument(
        "--embedder",
        default=DEFAULT,
        help="name or folder of the model that makes or made them [%(default)s]",
    )
    parser.add_argument("--embed-queries", action="store_true", help="embed the queries too, to be carried")
    parser.add_argument(
        "--queries",
        type=count,
        metavar="N",
        help="rows that are queries, the rest is the history [1000, or a third of fewer]",
    )
    parser.add_argument("--seed", type=whole, default=0, help="of the split [%(default)s]")
    parser.add_argument(
        "--budget-factor", type=positive, default=1.0, help="times the cost of the cheapest LLM [%(default)s]"
    )
    parser.add_argument("--split", choices=SPLITS, default="weighted", help="of the budget [%(default)s]")
    parser.add_argument(
        "--preset",
        choices=NAMES,
        default="paper",
        help="fitted to the history, but for `paper`; auto takes what its size allows [%(default)s]",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="further setting of the worker, such as resolve=geometric; may be given often",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    given = parser().parse_args(arguments)
    try:
        variables = settings_variables(given.set)
        prepared = prepare(given)
        preset, reason = choose_preset(len(prepared.history), given.preset)
        variables = {
            "PORT_HORIZON": str(len(prepared.queries)), "PORT_PRESET": preset.name, **variables,
        }  # fmt: skip
        if preset.name == "paper":
            prepared.save(given.out, variables)
        else:
            save_fit(prepared, preset, reason, variables, given)
    except (HistoryError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    budget = sum(model.budget_usd or 0 for model in prepared.catalogue.models)
    print(
        f"{given.out}: {len(prepared.queries)} queries, history of {len(prepared.history)} rows, "
        f"{len(prepared.catalogue.models)} LLMs, budget {budget:.6g} USD"
    )
    return 0


def save_fit(
    prepared: Prepared, preset: Preset, reason: str, variables: dict[str, str], given: argparse.Namespace
) -> None:
    """Fits a preset to the history, from the embeddings that it has already, and saves all."""
    known = prepared.history
    # what was there before is deleted when the new is saved, so a table is not distilled there
    with tempfile.TemporaryDirectory() as folder:
        fitted = fit(
            known.history, preset, out=Path(folder), embeddings=known.embeddings, model=given.embedder
        )
        if fitted.embedder.identity != known.embedder:
            carried = fitted.embedder.embed(prepared.queries.texts).embeddings
            prepared = replace(prepared, carried=carried)
        prepared.save(given.out, variables)
        facts = FitFacts(preset.name, reason, fitted.history.digest(), given.embedder)
        save_fitted(given.out / HISTORY, fitted, facts)


def settings_variables(pairs: list[str]) -> dict[str, str]:
    """NAME=VALUE pairs as variables of the worker.

    Raises
    ------
    ValueError
        There is no such setting.
    """
    variables = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name.lower() not in Settings.model_fields:
            raise ValueError(f"--set: {pair!r} is no NAME=VALUE of a setting; `config check` lists them")
        variables[PREFIX + name.upper()] = value
    return variables


def prepare(given: argparse.Namespace) -> Prepared:
    """Splits, embeds and budgets as the arguments say."""
    if given.dataset == DEMO:
        history, queries, vectors = _demo(given)
    else:
        history, queries, vectors = _split(given)
    catalogue = budgeted_catalogue(queries, history.history, given.budget_factor, given.split, given.seed)
    origin = {
        "dataset": Path(given.dataset).name,
        "embedder": given.embedder,
        "queries": len(queries),
        "history": len(history),
        "seed": given.seed,
        "budget_factor": given.budget_factor,
        "split": given.split,
        "digest": history.digest(),
    }
    return Prepared(queries, vectors, history, catalogue, origin)


def _split(given: argparse.Namespace):  # type: ignore[no-untyped-def]
    data = load_dataset(given.dataset)
    count = min(1000, len(data) // 3) if given.queries is None else given.queries
    asked, known = split_rows(len(data), count, given.seed)
    queries, rest = data.select(asked), data.select(known)
    embedder = load_embedder(given.embedder)
    if given.embeddings is not None:
        vectors = stored_vectors(given.embeddings, len(data))
        return EmbeddedHistory(rest, vectors[known], embedder.identity), queries, vectors[asked]
    made = EmbeddedHistory(rest, embed_with_progress(embedder, rest.texts, "history"), embedder.identity)
    # where what is embedded is not the prompt, only a carried embedding can say so
    carry = given.embed_queries or queries.embed_texts is not None
    return made, queries, embed_with_progress(embedder, queries.texts, "queries") if carry else None


def _demo(given: argparse.Namespace):  # type: ignore[no-untyped-def]
    from routing.datasets import load_demo, load_demo_vectors

    history, queries = load_demo()
    vectors = load_demo_vectors()
    if given.queries is not None:
        rows = range(min(given.queries, len(queries)))
        queries, vectors = queries.select(rows), vectors[: len(rows)]
    return history, queries, vectors


if __name__ == "__main__":
    sys.exit(main())
