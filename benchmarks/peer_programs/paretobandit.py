"""ParetoBandit with its budget pacer, as in its demo: it learns on the history, then on the queries."""

from __future__ import annotations

import logging
import time

import numpy as np
from pareto_bandit import demo
from pareto_bandit.budget_pacer import BudgetPacer, PacingMode

from benchmarks.peer_programs.measured import PeerInput, report
from experiments.studies.paretobandit_features import FIRST_SEED, features_of


def main() -> None:
    data = PeerInput.load()
    logging.disable(logging.WARNING)
    past, queries = features_of(data.past_embeddings), features_of(data.embeddings)
    pacer = BudgetPacer(target_avg_spend_usd=data.target, mode=PacingMode.ADAPTIVE)
    pacer.reset()
    router = demo._create_router(past.shape[1], cost_penalty=0.0, budget_pacer=pacer, seed=FIRST_SEED)
    for row in np.random.default_rng(FIRST_SEED).permutation(len(past)):
        model, log = router.route(past[row])
        column = data.models.index(model)
        log.cost_usd = float(data.past_cost[row, column])
        router.process_feedback(log.request_id, reward=float(data.past_quality[row, column]))
    seconds, choice, begun = [], [], time.perf_counter()
    for row, query in enumerate(queries):
        decided = time.perf_counter()
        model, log = router.route(query)
        seconds.append(time.perf_counter() - decided)
        column = data.models.index(model)
        log.cost_usd = float(data.cost[row, column])
        router.process_feedback(log.request_id, reward=float(data.quality[row, column]))
        choice.append(column)
    report(seconds, time.perf_counter() - begun, choice)


if __name__ == "__main__":
    main()
