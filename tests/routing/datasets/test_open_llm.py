import json
import pickle

import numpy as np
import pandas as pd
import pytest

from routing.datasets.load import load_dataset
from routing.datasets.open_llm import load_open_llm
from routing.history.rules import HistoryError

REPOSITORIES = [
    "open-llm-leaderboard/Qwen__Qwen2.5-72B-Instruct-details",
    "open-llm-leaderboard/01-ai__Yi-34B-Chat-details",
    "open-llm-leaderboard/somebody__unpriced-details",
]


def publish(folder, drop=None):
    """Write the two files that CARROT publishes, for three LLMs and three scenarios."""
    questions = {
        "leaderboard_bbh_navigate": {"Qs": ["left?", "right?"], "Ps": ["Example. left?", "Example. right?"]},
        "leaderboard_mmlu_pro": {"Qs": ["why?"], "Ps": ["Choose. why?"]},
        "leaderboard_ifeval": {"Qs": ["do it"], "Ps": ["do it"]},
    }
    answers = {
        "leaderboard_bbh_navigate": {
            "correctness": np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]),
            "models": REPOSITORIES,
        },
        "leaderboard_mmlu_pro": {
            "correctness": np.array([[1.0], [0.0], [0.0]]),
            "models": REPOSITORIES[::-1],
        },
        "leaderboard_ifeval": {"correctness": {"correctness_inst": np.ones((3, 1))}, "models": REPOSITORIES},
    }
    folder.mkdir()
    if drop != "questions":
        (folder / "data_QA.json").write_text(json.dumps(questions))
    if drop != "answers":
        (folder / "new_leaderboard_processed_20241205.pickle").write_bytes(pickle.dumps(answers, protocol=5))
    return folder


def test_load_open_llm_folder_gives_correctness_and_costs(tmp_path):
    history = load_dataset(publish(tmp_path / "open-llm-lb-v2"))
    assert history.models == ("01-ai/Yi-34B-Chat", "Qwen/Qwen2.5-72B-Instruct")
    assert history.ids == ("bbh_navigate.0", "bbh_navigate.1", "mmlu_pro.0")
    assert history.tasks == ("bbh_navigate", "bbh_navigate", "mmlu_pro")
    assert history.prompts == ("Example. left?", "Example. right?", "Choose. why?")
    assert history.texts == ("left?", "right?", "why?")
    assert history.quality.tolist() == [[0, 1], [1, 0], [0, 0]]
    assert history.cost == pytest.approx(np.array([[4, 4, 3]]).T * [0.8e-6, 1.2e-6])


def test_load_open_llm_uses_the_given_token_counter(tmp_path):
    counts = {"01-ai/Yi-34B-Chat": [10, 20, 30], "Qwen/Qwen2.5-72B-Instruct": [1, 2, 3]}
    folder = publish(tmp_path / "open-llm-lb-v2")
    history = load_open_llm(folder, count_tokens=lambda llm, texts: counts[llm])
    assert history.cost == pytest.approx(np.array([[8e-6, 1.2e-6], [16e-6, 2.4e-6], [24e-6, 3.6e-6]]))
    with pytest.raises(HistoryError, match="count_tokens"):
        load_open_llm(folder, count_tokens=lambda llm, texts: [1])


def test_load_open_llm_reads_the_table_made_from_it(tmp_path):
    path = tmp_path / "leaderboard.parquet"
    table = pd.DataFrame({"prompt": ["abcd" * 5, "x"], "google/gemma-2-9b-it": [1.0, 0.0], "index": [7, 8]})
    table.to_parquet(path)
    history = load_dataset(path)
    assert history.models == ("google/gemma-2-9b-it",)
    assert history.ids == ("7", "8")
    assert history.cost[:, 0] == pytest.approx([5 * 0.3e-6, 0.3e-6])


def test_load_open_llm_missing_data_is_named(tmp_path):
    with pytest.raises(HistoryError, match=r"leaderboard_processed.* is missing beside data_QA\.json"):
        load_dataset(publish(tmp_path / "a", drop="answers"))
    with pytest.raises(HistoryError, match="prices: none for"):
        load_dataset(publish(tmp_path / "b"), prices={"another": (1.0, 1.0)})
