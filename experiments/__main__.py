"""`python -m experiments`: the paper's experiments and further ones, one command for each."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from routing.extras import require_extra

if __name__ == "__main__":
    require_extra("experiments")

from experiments import commands
from experiments.studies import (
    history_growth,
    off_policy,
    paretobandit,
    paretobandit_phases,
    partitions,
    quality_change,
    reserve,
    rounding,
)
from experiments.studies.definitions import STUDIES
from routing.budgets.splits import SHARED, SPLITS
from routing.embedding.model_files import DEFAULT


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    kinds = parser.add_subparsers(dest="experiment", required=True)
    for name, study in STUDIES.items():
        command = kinds.add_parser(name, help=study.summary, description=study.summary)
        _common(command)
        command.add_argument("--policies", metavar="A,B", help=f"default: {','.join(study.policies)}")
        command.add_argument("--values", metavar="X,Y", help=f"points of the {study.axis} axis")
        command.set_defaults(run=commands.run_study)
    equal = kinds.add_parser("equal-spend", help="policies at the same spend", description=commands.EQUAL)
    _common(equal)
    equal.add_argument("--policies", metavar="A,B", help=f"default: {','.join(commands.EQUAL_POLICIES)}")
    equal.add_argument(
        "--tolerance",
        type=float,
        default=0.01,
        help="allowed deviation from the target, as a share of it [%(default)s]",
    )
    equal.set_defaults(run=commands.run_equal_spend)
    shared = kinds.add_parser("partitions", help=partitions.SUMMARY, description=partitions.SUMMARY)
    shared.add_argument("--dataset", required=True, type=Path, metavar="FILE", help="answered queries")
    shared.add_argument("--seeds", default="0", help="for example 0..4 or 0,2,5 [%(default)s]")
    _vectors_and_results(shared)
    partitions.add_options(shared)
    shared.set_defaults(run=commands.run_partitions, table="", roberta="")
    change = kinds.add_parser(
        "quality-change", help=quality_change.SUMMARY, description=quality_change.SUMMARY
    )
    _data(change)
    _vectors_and_results(change)
    quality_change.add_options(change)
    change.set_defaults(run=commands.run_quality_change, table="", roberta="")
    growth = kinds.add_parser(
        "history-growth", help=history_growth.SUMMARY, description=history_growth.SUMMARY
    )
    _data(growth)
    _vectors_and_results(growth)
    history_growth.add_options(growth)
    growth.set_defaults(run=commands.run_history_growth, table="", roberta="")
    logged = kinds.add_parser("off-policy", help=off_policy.SUMMARY, description=off_policy.SUMMARY)
    _data(logged, required=False)
    logged.add_argument(
        "--decisions",
        type=Path,
        metavar="JSONL",
        help="decisions that a router logged, instead of a data set",
    )
    _vectors_and_results(logged)
    off_policy.add_options(logged)
    logged.set_defaults(run=commands.run_off_policy, table="", roberta="")
    pareto = kinds.add_parser("paretobandit", help=paretobandit.SUMMARY, description=paretobandit.SUMMARY)
    pareto.add_argument("--dataset", required=True, type=Path, metavar="FILE", help="ParetoBandit's data")
    pareto.add_argument("--seeds", default="0..4", help="for example 0..4 or 0,2,5 [%(default)s]")
    pareto.add_argument("--embeddings", type=Path, metavar="NPY", required=True, help="MiniLM embeddings")
    pareto.add_argument("--embedder", default=DEFAULT, help="model that made the embeddings [%(default)s]")
    pareto.add_argument("--json", type=Path, metavar="OUT", help="result file")
    pareto.add_argument("--plot", type=Path, metavar="STEM", help="write STEM.png and STEM.svg")
    pareto.add_argument("--cache", type=Path, metavar="FOLDER", help="cache of slow estimates")
    paretobandit.add_options(pareto)
    pareto.set_defaults(run=commands.run_paretobandit, table="", roberta="")
    amounts = kinds.add_parser("reserve", help=reserve.SUMMARY, description=reserve.SUMMARY)
    _data(amounts)
    _vectors_and_results(amounts)
    reserve.add_options(amounts)
    amounts.set_defaults(run=commands.run_reserve, table="", roberta="")
    phases = kinds.add_parser(
        "paretobandit-phases", help=paretobandit_phases.SUMMARY, description=paretobandit_phases.SUMMARY
    )
    phases.add_argument("--dataset", required=True, type=Path, metavar="FILE", help="ParetoBandit's data")
    phases.add_argument("--seeds", default="0..4", help="for example 0..4 or 0,2,5 [%(default)s]")
    _vectors_and_results(phases)
    paretobandit_phases.add_options(phases)
    phases.set_defaults(run=commands.run_paretobandit_phases, table="", roberta="")
    bits = kinds.add_parser("last-bits", help=rounding.SUMMARY, description=rounding.SUMMARY)
    _data(bits)
    bits.add_argument(
        "--embeddings", type=Path, metavar="NPY", required=True, help="stored embeddings of the rows"
    )
    bits.add_argument("--embedder", default=DEFAULT, help="model that made the embeddings [%(default)s]")
    bits.add_argument("--json", type=Path, metavar="OUT", help="result file; gzipped if its name ends in .gz")
    rounding.add_options(bits)
    bits.set_defaults(run=commands.run_last_bits)
    table = kinds.add_parser("table", help="print saved results as Markdown", description=commands.TABLE)
    table.add_argument(
        "json", type=Path, nargs="+", metavar="FILE", help="result file of --json, gzipped or not"
    )
    table.set_defaults(run=commands.run_table)
    plot = kinds.add_parser("plot", help="draw saved results", description=commands.PLOT)
    plot.add_argument("json", type=Path, metavar="FILE", help="result file of --json, gzipped or not")
    plot.add_argument("stem", type=Path, metavar="STEM", help="write STEM.png and STEM.svg")
    plot.add_argument("--kind", choices=("bars", "lines", "spread"), default="lines", help="[%(default)s]")
    plot.add_argument("--measure", default="performance", help="column to draw [%(default)s]")
    plot.add_argument("--title", default="", help="title [the data set and the experiment]")
    plot.set_defaults(run=commands.run_plot)
    train = kinds.add_parser("train", help="fine-tune RoBERTa", description=commands.TRAIN)
    _data(train)
    train.add_argument("--model", default="roberta-base", help="name or folder [%(default)s]")
    train.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="folder for checkpoints and models"
    )
    train.add_argument("--epochs", type=int, default=3, help="maximum number of epochs [%(default)s]")
    train.add_argument("--batch", type=int, default=16, help="queries per step [%(default)s]")
    train.add_argument("--rate", type=float, default=2e-5, help="learning rate [%(default)s]")
    train.add_argument(
        "--patience", type=int, default=1, help="epochs without improvement before it stops [%(default)s]"
    )
    train.add_argument(
        "--tokens", type=int, default=512, help="tokens after which prompts are truncated [%(default)s]"
    )
    train.set_defaults(run=commands.run_train)
    return parser


def _data(command: argparse.ArgumentParser, required: bool = True) -> None:
    command.add_argument("--dataset", required=required, type=Path, metavar="FILE", help="answered queries")
    command.add_argument("--queries", required=required, type=int, metavar="N", help="length of the test set")
    command.add_argument("--seeds", default="0", help="for example 0..4 or 0,2,5 [%(default)s]")


def _vectors_and_results(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--embeddings", type=Path, metavar="NPY", help="embeddings of the rows; computed if missing"
    )
    command.add_argument(
        "--embedder", default=DEFAULT, help="model that makes, or made, the embeddings [%(default)s]"
    )
    command.add_argument(
        "--json", type=Path, metavar="OUT", help="result file; gzipped if its name ends in .gz"
    )
    command.add_argument("--cache", type=Path, metavar="FOLDER", help="cache of slow estimates")


def _common(command: argparse.ArgumentParser) -> None:
    _data(command)
    command.add_argument(
        "--embeddings", type=Path, metavar="NPY", help="embeddings of the rows; computed if missing"
    )
    command.add_argument(
        "--embedder", default=DEFAULT, help="model that makes, or made, the embeddings [%(default)s]"
    )
    command.add_argument(
        "--budget-factor",
        type=float,
        default=1.0,
        help="multiple of the cheapest LLM's total cost [%(default)s]",
    )
    command.add_argument(
        "--split",
        choices=(*SPLITS, SHARED),
        default="weighted",
        help="split of the budget over the LLMs, or one total that they share [%(default)s]",
    )
    command.add_argument(
        "--group-by", default="", metavar="NAME", help="field of groups with budgets of their own"
    )
    command.add_argument(
        "--groups", default="", metavar="A,B", help="shares of the shared total for groups, as 40,30,15,10,5"
    )
    command.add_argument(
        "--order", default="random", help="order of arrival: random, task, or a seed [%(default)s]"
    )
    command.add_argument(
        "--history", type=int, metavar="H", help="rows of the history; default: all other rows"
    )
    command.add_argument(
        "--json",
        type=Path,
        metavar="OUT",
        help="result file, resumed if it exists; gzipped if its name ends in .gz",
    )
    command.add_argument("--plot", type=Path, metavar="STEM", help="write STEM.png and STEM.svg")
    command.add_argument("--cache", type=Path, metavar="FOLDER", help="cache of slow estimates")
    command.add_argument("--table", default="", metavar="FOLDER", help="static table for port-static")
    command.add_argument(
        "--roberta", default="", metavar="FOLDER", help="folder of the models that `train` saved"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (ValueError, FileNotFoundError) as error:
        print(f"{options.experiment}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
