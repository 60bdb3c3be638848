"""The published form of PORT: 5 neighbours by HNSW, prices from the first queries."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.peer_programs.measured import PeerInput, report
from experiments.policies.port import published_prices
from routing.embedding.query_batch import QueryBatch
from routing.estimators.neighbours import Neighbours
from routing.history.history import EmbeddedHistory, History

ALPHA, EPS, NEIGHBOURS = 1e-4, 0.025, 5


def main() -> None:
    data = PeerInput.load()
    rows, models = len(data.past_prompts), len(data.models)
    ids = [str(number) for number in range(rows)]
    history = History(
        ids, data.past_prompts, ["past"] * rows, tuple(data.models), data.past_quality, data.past_cost
    )
    embedded = EmbeddedHistory(history, data.past_embeddings, "all-MiniLM-L6-v2")
    neighbours = Neighbours(embedded, k=NEIGHBOURS, index="hnsw")
    own = neighbours.leave_one_out()
    sample = max(1, int(EPS * len(data.prompts)))
    budgets = np.full(models, data.target * len(data.prompts) / models)
    prices = published_prices(ALPHA * own.quality[:sample], own.cost[:sample], budgets * EPS)
    seconds, begun = [], time.perf_counter()
    for number, prompt in enumerate(data.prompts):
        decided = time.perf_counter()
        estimates = neighbours.estimate(QueryBatch([prompt], data.embeddings[number : number + 1]))
        (ALPHA * estimates.quality - prices * estimates.cost).argmax(1)
        seconds.append(time.perf_counter() - decided)
    report(seconds, time.perf_counter() - begun)


if __name__ == "__main__":
    main()
