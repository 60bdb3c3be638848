"""Other routers beside this one: the same queries, the same machine, the same run.

    python -m benchmarks.peers --dataset ../shared/data/paretobandit_k3.parquet \
        --embeddings ../shared/data/paretobandit_k3.minilm.f16.npy --json docs/results/peers.json

Each router runs in a virtual environment of its own under build/peers, made here from a pinned version. One
that cannot be installed or run is skipped, with its reason. The data set has a column `split` with `val` (the
history) and `test`, as ParetoBandit's has.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.machine import describe
from benchmarks.peer_programs.measured import PeerInput
from benchmarks.program import ROOT
from benchmarks.result_file import save
from experiments.cases import Split
from experiments.policies.registry import Context, make_policy
from experiments.studies.paretobandit import rows_of, targets_of, with_one_total
from routing.datasets.load import load_dataset
from routing.embedding.unit_vectors import as_stored

ENVIRONMENTS = ROOT / "build" / "peers"
INSTALL_SECONDS, RUN_SECONDS = 900, 600
FIGURES = ("decision_us_p50", "decision_us_p99", "queries_per_second", "rss_mb")


@dataclass(frozen=True)
class Peer:
    """A router to compare with.

    Parameters
    ----------
    name : str
    program : str
        Module of `benchmarks.peer_programs`, with its arguments.
    requirements : tuple of str
        Packages with their versions; none for the project's own environment.
    skipped : str
        Why it cannot run without a network.
    """

    name: str
    program: str = ""
    requirements: tuple[str, ...] = ()
    skipped: str = ""


PEERS = (
    Peer("port-router, fast", "port_router fast"),
    Peer("port-router, best", "port_router best"),
    Peer("PORT as published", "port_published"),
    Peer("ParetoBandit", "paretobandit", ("paretobandit==0.1.1",)),
    Peer("LiteLLM Router", "litellm_router", ("litellm==1.110.2", "numpy")),
    Peer(
        "llmrouter-lib, kNN",
        requirements=("llmrouter-lib==0.4.0",),
        skipped="it embeds each query with Longformer from the model hub",
    ),
    Peer(
        "RouteLLM",
        requirements=("routellm==0.2.0",),
        skipped="its routers load models from the hub, or embed by a hosted service",
    ),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dataset", required=True, type=Path, metavar="FILE")
    parser.add_argument("--embeddings", required=True, type=Path, metavar="NPY", help="MiniLM's, of its rows")
    parser.add_argument("--budget", type=int, default=3, metavar="B", help="0 to 6, of ParetoBandit's [3]")
    parser.add_argument("--rounds", type=int, default=3, help="the median counts [%(default)s]")
    parser.add_argument("--json", type=Path, metavar="OUT")
    options = parser.parse_args()
    split, target = data_of(options)
    with tempfile.TemporaryDirectory() as folder:
        peer_input(split, target).save(Path(folder))
        rows = [{"peer": peer.name, **run(peer, Path(folder), options.rounds)} for peer in PEERS]
    for row in rows:
        if (choice := row.pop("choice", None)) is not None:
            row |= outcome_of(split, np.array(choice), target)
    spent = next((row["spend_over_target"] for row in rows if "reward" in row), 1.0)
    for row in rows[:2]:
        row |= port_at(split, f"port-{row['peer'].rpartition(' ')[2]}", spent * target, target)
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()), file=sys.stderr)
    facts = {"command": " ".join(["python -m benchmarks.peers", *sys.argv[1:]]), "machine": describe()}
    save(options.json, {**facts, "queries": len(split.test), "target_usd": target, "rows": rows})
    return 0


def data_of(options: argparse.Namespace) -> tuple[Split, float]:
    """Return history and queries, and the budget in USD per query."""
    data, past = load_dataset(options.dataset), rows_of(options.dataset, "val")
    test = rows_of(options.dataset, "test")
    vectors = as_stored(np.load(options.embeddings, allow_pickle=False))
    split = Split(data, vectors, "all-MiniLM-L6-v2", test, past, 0)
    return split, targets_of(data, past, test)[options.budget]


def peer_input(split: Split, target: float) -> PeerInput:
    """Return the data as the programs read it."""
    data, past, test = split.data, split.past, split.test
    return PeerInput(
        list(data.models),
        [data.texts[row] for row in past],
        [data.texts[row] for row in test],
        split.embeddings[past],
        split.embeddings[test],
        data.quality[past],
        data.cost[past],
        data.quality[test],
        data.cost[test],
        target,
    )


def run(peer: Peer, folder: Path, rounds: int) -> dict[str, Any]:
    """Run a router `rounds` times; return its figures, or why there are none."""
    facts = {"version": ", ".join(peer.requirements) or "this project"}
    if peer.skipped:
        return {**facts, "skipped": peer.skipped}
    try:
        python = environment_of(peer)
        results = [decisions(python, peer.program, folder) for _ in range(rounds)]
    except (subprocess.SubprocessError, OSError) as error:
        output = getattr(error, "stderr", None) or str(error)
        return {**facts, "skipped": output.strip().splitlines()[-1][:200]}
    return {
        **facts,
        **{name: median(result[name] for result in results) for name in FIGURES},
        "choice": results[0]["choice"],
    }


def environment_of(peer: Peer) -> Path:
    """Return the Python that has a router installed; install it if it is missing."""
    if not peer.requirements:
        return Path(sys.executable)
    folder = ENVIRONMENTS / peer.program
    python, installed = folder / "bin" / "python", folder / "installed"
    if not installed.exists() or installed.read_text() != repr(peer.requirements):
        call([sys.executable, "-m", "venv", "--clear", str(folder)], INSTALL_SECONDS)
        call([str(python), "-m", "pip", "install", "--quiet", *peer.requirements], INSTALL_SECONDS)
        installed.write_text(repr(peer.requirements))
    return python


def decisions(python: Path, program: str, folder: Path) -> dict[str, Any]:
    """Run a program once, in one thread, and return what it reports."""
    module, *arguments = program.split()
    command = [str(python), "-m", f"benchmarks.peer_programs.{module}", str(folder), *arguments]
    result: dict[str, Any] = json.loads(call(command, RUN_SECONDS).strip().splitlines()[-1])
    return result


def call(command: list[str], seconds: float) -> str:
    """Run a command and return its output."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | threads,
        check=True,
        timeout=seconds,
        capture_output=True,
        text=True,
    )
    return done.stdout


def outcome_of(split: Split, choice: np.ndarray, target: float) -> dict[str, float]:
    """Return mean reward, and mean spend as a share of the budget, of a router that serves every query."""
    rows = np.arange(len(choice))
    reward = split.data.quality[split.test][rows, choice].mean()
    spent = split.data.cost[split.test][rows, choice].mean()
    return {"reward": round(float(reward), 4), "spend_over_target": round(float(spent / target), 4)}


def port_at(split: Split, policy: str, mean_budget: float, target: float) -> dict[str, float]:
    """Return the same of this project's policy with one total of so many USD per query."""
    chosen, order = make_policy(policy, Context(len(split.past))), np.arange(len(split.test))
    result = with_one_total(split, chosen, mean_budget, order, seed=0)
    return {"reward": round(result["reward"], 4), "spend_over_target": round(result["cost"] / target, 4)}


if __name__ == "__main__":
    raise SystemExit(main())
