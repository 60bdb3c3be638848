"""`python -m experiments`: the experiments of the paper and those past it, one command each."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from experiments import commands, last_bits, partitions
from experiments.studies import STUDIES
from routing.budgets import SPLITS
from routing.embedding import DEFAULT


def parser() -> argparse.ArgumentParser:
    """What the command can be told."""
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    kinds = parser.add_subparsers(dest="experiment", required=True)
    for name, study in STUDIES.items():
        one = kinds.add_parser(name, help=study.summary, description=study.summary)
        _common(one)
        one.add_argument("--policies", metavar="A,B", help=f"default: {','.join(study.policies)}")
        one.add_argument("--values", metavar="X,Y", help=f"points of the {study.axis} axis")
        one.set_defaults(run=commands.run_study)
    equal = kinds.add_parser("equal-spend", help="policies at the same spend", description=commands.EQUAL)
    _common(equal)
    equal.add_argument("--policies", metavar="A,B", help=f"default: {','.join(commands.EQUAL_POLICIES)}")
    equal.add_argument("--tolerance", type=float, default=0.01, help="of the spend, a share [%(default)s]")
    equal.set_defaults(run=commands.run_equal_spend)
    shared = kinds.add_parser("partitions", help=partitions.SUMMARY, description=partitions.SUMMARY)
    shared.add_argument("--dataset", required=True, type=Path, metavar="FILE", help="answered queries")
    shared.add_argument("--seeds", default="0", help="as 0..4 or 0,2,5 [%(default)s]")
    shared.add_argument("--embeddings", type=Path, metavar="NPY", help="of the rows; else they are made now")
    shared.add_argument("--embedder", default=DEFAULT, help="model that makes or made them [%(default)s]")
    shared.add_argument("--json", type=Path, metavar="OUT", help="rows are kept there")
    shared.add_argument("--cache", type=Path, metavar="FOLDER", help="keeps slow estimates between runs")
    partitions.add_options(shared)
    shared.set_defaults(run=commands.run_partitions, table="", roberta="")
    bits = kinds.add_parser("last-bits", help=last_bits.SUMMARY, description=last_bits.SUMMARY)
    _data(bits)
    bits.add_argument("--embeddings", type=Path, metavar="NPY", required=True, help="of the rows, as stored")
    bits.add_argument("--embedder", default=DEFAULT, help="model that made them [%(default)s]")
    bits.add_argument("--json", type=Path, metavar="OUT", help="rows are kept there")
    last_bits.add_options(bits)
    bits.set_defaults(run=commands.run_last_bits)
    table = kinds.add_parser("table", help="print saved results as Markdown", description=commands.TABLE)
    table.add_argument("json", type=Path, nargs="+", metavar="FILE", help="what --json wrote")
    table.set_defaults(run=commands.run_table)
    train = kinds.add_parser("train", help="fine-tune RoBERTa", description=commands.TRAIN)
    _data(train)
    train.add_argument("--model", default="roberta-base", help="name or folder [%(default)s]")
    train.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for checkpoints and models")
    train.add_argument("--epochs", type=int, default=3, help="at most so many [%(default)s]")
    train.add_argument("--batch", type=int, default=16, help="queries a step [%(default)s]")
    train.add_argument("--rate", type=float, default=2e-5, help="learning rate [%(default)s]")
    train.add_argument("--patience", type=int, default=1, help="epochs without gain [%(default)s]")
    train.add_argument("--tokens", type=int, default=512, help="at which prompts are cut [%(default)s]")
    train.set_defaults(run=commands.run_train)
    return parser


def _data(one: argparse.ArgumentParser) -> None:
    one.add_argument("--dataset", required=True, type=Path, metavar="FILE", help="answered queries")
    one.add_argument("--queries", required=True, type=int, metavar="N", help="length of the test set")
    one.add_argument("--seeds", default="0", help="as 0..4 or 0,2,5 [%(default)s]")


def _common(one: argparse.ArgumentParser) -> None:
    _data(one)
    one.add_argument("--embeddings", type=Path, metavar="NPY", help="of the rows; else they are made now")
    one.add_argument("--embedder", default=DEFAULT, help="model that makes or made them [%(default)s]")
    one.add_argument("--budget-factor", type=float, default=1.0, help="[%(default)s]")
    one.add_argument("--split", choices=SPLITS, default="weighted", help="of the budget [%(default)s]")
    one.add_argument("--order", default="random", help="random, task, or a seed [%(default)s]")
    one.add_argument("--history", type=int, metavar="H", help="rows of the history; all others are left out")
    one.add_argument("--json", type=Path, metavar="OUT", help="rows are kept there, and gone on from")
    one.add_argument("--plot", type=Path, metavar="STEM", help="writes STEM.png and STEM.svg")
    one.add_argument("--cache", type=Path, metavar="FOLDER", help="keeps slow estimates between runs")
    one.add_argument("--table", default="", metavar="FOLDER", help="static table, for port-static")
    one.add_argument("--roberta", default="", metavar="FOLDER", help="trained models, from `train`")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    given = parser().parse_args(arguments)
    try:
        return int(given.run(given))
    except (ValueError, FileNotFoundError) as error:
        print(f"{given.experiment}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
