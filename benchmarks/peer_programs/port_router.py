"""This project's decision, one query at a time; the arguments are the data's folder and the preset."""

from __future__ import annotations

import sys

import numpy as np

from benchmarks.peer_programs.history import history_of
from benchmarks.peer_programs.measured import PeerInput, report_each
from routing.budgets.budget import Budget
from routing.budgets.catalogue import TOTAL
from routing.embedding.query_batch import QueryBatch
from routing.fitting.fit import fit
from routing.fitting.presets import choose_preset
from routing.planning.planner import Planner
from routing.planning.schedule import PlanningSettings
from routing.policy.account import Account
from routing.policy.policy import route


def main() -> None:
    data, name = PeerInput.load(), sys.argv[2]
    preset, _ = choose_preset(len(data.past_prompts), name)
    fitted = fit(history_of(data), preset, embeddings=data.past_embeddings)
    carried = preset.embedder == "model"
    settings = PlanningSettings(horizon=len(data.prompts), warmup="history", solver="newton")
    total = (Budget(TOTAL, limit=data.target * len(data.prompts)),)
    own = fitted.estimator.leave_one_out()
    plan = Planner(settings, tuple(data.models), total, history=own).start_period()
    account = Account.fresh(0, len(data.models))

    def decide(number: int) -> None:
        nonlocal account
        prompt = data.prompts[number]
        if carried:
            batch = QueryBatch([prompt], data.embeddings[number : number + 1])
        else:
            batch = fitted.embedder.embed([prompt])
        account = route(account, plan, 0, fitted.estimator.estimate(batch), np.array([number])).account

    report_each(decide, len(data.prompts))


if __name__ == "__main__":
    main()
