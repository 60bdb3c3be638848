"""A small table in RouterBench's columns and its history, for tests of all file formats."""

from __future__ import annotations

import pandas as pd

from routing.datasets.routerbench_table import from_frame

COLUMNS = {
    "sample_id": ["mmlu.0", "mmlu.1", "mmlu.2"],
    "prompt": ["What is 1?", "Say: a, b; c | d", "What\nis 3?"],
    "eval_name": ["mmlu", "mmlu", "mmlu"],
    "gpt-4": [0.5, 1.0, 0.0],
    "gpt-4|total_cost": [0.01, 0.02, 0.03],
    "mixtral": [1.0, 0.0, 0.25],
    "mixtral|total_cost": [0.001, 0.002, 0.003],
}


def small_table(**changes):
    columns = {name: column for name, column in (COLUMNS | changes).items() if column is not None}
    return pd.DataFrame(columns)


def digest_of(table):
    return from_frame(table, "frame").digest()
