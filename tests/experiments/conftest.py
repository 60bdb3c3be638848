"""A small data set with random embeddings, and the laboratory's command on it."""

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.runs.runner import ExperimentData
from routing.history.history import EmbeddedHistory, History


def sample_data(rows=700, models=3, seed=0):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    quality = np.clip(0.5 + vectors[:, :1] + np.linspace(-0.2, 0.2, models), 0, 1)
    prompts = [f"question {i} " + "word " * int(n) for i, n in enumerate(rng.integers(5, 40, rows))]
    cost = np.array([[len(p)] for p in prompts]) * np.logspace(-7, -5, models)
    tasks = [f"task-{i % 3}" for i in range(rows)]
    ids = [f"q{i}" for i in range(rows)]
    return History(ids, prompts, tasks, [f"m{i}" for i in range(models)], quality, cost), vectors


@pytest.fixture(scope="session")
def data():
    return sample_data()


@pytest.fixture
def experiment(data):
    return ExperimentData(*data, "made")


@pytest.fixture
def command(data, tmp_path):
    history, vectors = data
    EmbeddedHistory(history, vectors, "made").save(tmp_path / "data")
    np.save(tmp_path / "vectors.npy", vectors)
    data_options = ["--dataset", str(tmp_path / "data"), "--embeddings", str(tmp_path / "vectors.npy")]

    def run(name, *more):
        return main(
            [name, *data_options, "--queries", "200", "--json", str(tmp_path / f"{name}.json"), *more]
        )

    return run
