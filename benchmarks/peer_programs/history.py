"""The history of a comparison as this project's estimators take it."""

from __future__ import annotations

from benchmarks.peer_programs.measured import PeerInput
from routing.history.history import History


def history_of(data: PeerInput) -> History:
    """Return the past queries with the answers of all LLMs."""
    rows = len(data.past_prompts)
    ids = [str(number) for number in range(rows)]
    tasks = ["past"] * rows
    return History(ids, data.past_prompts, tasks, tuple(data.models), data.past_quality, data.past_cost)
