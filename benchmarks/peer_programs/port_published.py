"""The published form of PORT: 5 neighbours by HNSW, prices from estimates of the first queries."""

from __future__ import annotations

import numpy as np

from benchmarks.peer_programs.history import history_of
from benchmarks.peer_programs.measured import PeerInput, report_each
from experiments.policies.port import PortPublished, published_prices
from routing.embedding.query_batch import QueryBatch
from routing.estimators.neighbours import Neighbours
from routing.history.history import EmbeddedHistory

NEIGHBOURS = 5


def main() -> None:
    data, alpha, eps = PeerInput.load(), PortPublished.alpha, PortPublished.eps
    embedded = EmbeddedHistory(history_of(data), data.past_embeddings, "all-MiniLM-L6-v2")
    neighbours = Neighbours(embedded, k=NEIGHBOURS, index="hnsw")
    sample = max(1, int(eps * len(data.prompts)))
    first = neighbours.estimate(QueryBatch(data.prompts[:sample], data.embeddings[:sample]))
    budgets = np.full(len(data.models), data.target * len(data.prompts) / len(data.models))
    prices = published_prices(alpha * first.quality, first.cost, budgets * eps)

    def decide(number: int) -> None:
        batch = QueryBatch([data.prompts[number]], data.embeddings[number : number + 1])
        estimates = neighbours.estimate(batch)
        (alpha * estimates.quality - prices * estimates.cost).argmax(1)

    report_each(decide, len(data.prompts))


if __name__ == "__main__":
    main()
