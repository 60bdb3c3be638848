"""Input and output of the programs; only NumPy and the standard library."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ARRAYS, PROMPTS = "arrays.npz", "prompts.json"


class PeerInput(NamedTuple):
    """The data of a comparison: H rows of history, n queries, M LLMs.

    Parameters
    ----------
    models : list of str, length M
    past_prompts, prompts : list of str, length H and n
    past_embeddings, embeddings : ndarray of float32, shape [H, d] and [n, d]
    past_quality, past_cost : ndarray of float64, shape [H, M]
    quality, cost : ndarray of float64, shape [n, M]
        For feedback about the chosen LLM only.
    target : float
        Budget in USD per query.
    """

    models: list[str]
    past_prompts: list[str]
    prompts: list[str]
    past_embeddings: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    past_quality: NDArray[np.float64]
    past_cost: NDArray[np.float64]
    quality: NDArray[np.float64]
    cost: NDArray[np.float64]
    target: float

    def save(self, folder: Path) -> None:
        """Write the data to a folder."""
        texts = {name: value for name, value in self._asdict().items() if isinstance(value, list)}
        arrays = {name: value for name, value in self._asdict().items() if name not in texts}
        (folder / PROMPTS).write_text(json.dumps(texts))
        np.savez(folder / ARRAYS, **arrays)

    @classmethod
    def load(cls) -> PeerInput:
        """Read the data from the folder that the first argument of the program names."""
        folder = Path(sys.argv[1])
        texts = json.loads((folder / PROMPTS).read_text())
        with np.load(folder / ARRAYS) as arrays:
            return cls(
                **texts,
                **{name: arrays[name] for name in arrays.files if name != "target"},
                target=float(arrays["target"]),
            )


def report_each(decide: Callable[[int], object], count: int) -> None:
    """Make `count` decisions one after the other, and print their figures."""
    seconds, begun = [], time.perf_counter()
    for number in range(count):
        decided = time.perf_counter()
        decide(number)
        seconds.append(time.perf_counter() - decided)
    report(seconds, time.perf_counter() - begun)


def report(decisions: Sequence[float], total_seconds: float, choice: Sequence[int] | None = None) -> None:
    """Print the figures as one line of JSON.

    Parameters
    ----------
    decisions : sequence of float, length n
        Seconds of each decision.
    total_seconds : float
        Of all n queries, with what the router does after a decision.
    choice : sequence of int, optional
        LLM of each query, -1 if none; None for routers that do not estimate quality.
    """
    microseconds = 1e6 * np.asarray(decisions)
    figures: dict[str, Any] = {
        "decision_us_p50": round(float(np.percentile(microseconds, 50)), 1),
        "decision_us_p99": round(float(np.percentile(microseconds, 99)), 1),
        "queries_per_second": round(len(microseconds) / total_seconds, 1),
        "rss_mb": round(largest_memory() / 1e6),
        "choice": None if choice is None else list(map(int, choice)),
    }
    print(json.dumps(figures))


def largest_memory() -> int:
    """Return the largest resident memory of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
