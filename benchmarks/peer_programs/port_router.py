"""This project's decision, one query at a time; the arguments are the data's folder and the preset."""

from __future__ import annotations

import sys
import time

import numpy as np

from benchmarks.peer_programs.measured import PeerInput, report
from routing.budgets.budget import Budget
from routing.budgets.catalogue import TOTAL
from routing.embedding.query_batch import QueryBatch
from routing.fitting.fit import fit
from routing.fitting.presets import choose_preset
from routing.history.history import History
from routing.planning.planner import Planner
from routing.planning.schedule import PlanningSettings
from routing.policy.account import Account
from routing.policy.policy import route


def main() -> None:
    data, name = PeerInput.load(), sys.argv[2]
    rows = len(data.past_prompts)
    ids = [str(number) for number in range(rows)]
    history = History(
        ids, data.past_prompts, ["past"] * rows, tuple(data.models), data.past_quality, data.past_cost
    )
    preset, _ = choose_preset(rows, name)
    fitted = fit(history, preset, embeddings=data.past_embeddings)
    carried = preset.embedder == "model"
    settings = PlanningSettings(horizon=len(data.prompts), warmup="history", solver="newton")
    total = (Budget(TOTAL, limit=data.target * len(data.prompts)),)
    own = fitted.estimator.leave_one_out()
    plan = Planner(settings, tuple(data.models), total, history=own).start_period()
    account, seconds, begun = Account.fresh(0, len(data.models)), [], time.perf_counter()
    for number, prompt in enumerate(data.prompts):
        decided = time.perf_counter()
        if carried:
            batch = QueryBatch([prompt], data.embeddings[number : number + 1])
        else:
            batch = fitted.embedder.embed([prompt])
        routed = route(account, plan, 0, fitted.estimator.estimate(batch), np.array([number]))
        account = routed.account
        seconds.append(time.perf_counter() - decided)
    report(seconds, time.perf_counter() - begun)


if __name__ == "__main__":
    main()
