"""Preparing a replay: the published split and budgets, saved and loaded again."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest
from dotenv import dotenv_values

from producers.asked import ask
from producers.comparing import reach_approximate_optimum, reach_best_single, reach_random
from producers.prepare import main
from producers.prepared import Prepared, split_rows
from routing.budgets import best_single, split_budget, total_budget
from routing.datasets import load_dataset
from routing.fitting import load_fitted
from routing.static_embedder import StaticEmbedder
from tests.small_bert import make_small_bert


@pytest.fixture
def prepare(dataset: tuple[Path, Path], tmp_path: Path) -> Callable[..., Prepared]:
    def run(*more: str) -> Prepared:
        data, vectors = dataset
        out = tmp_path / "prepared"
        arguments = ["--dataset", str(data), "--embeddings", str(vectors), "--out", str(out), *more]
        assert main(arguments) == 0
        return Prepared.load(out)

    return run


def test_the_split_is_the_permutation_of_the_seed(
    prepare: Callable[..., Prepared], dataset: tuple[Path, Path]
):
    prepared = prepare("--queries", "40", "--seed", "3")

    order = np.random.default_rng(3).permutation(120)
    assert list(prepared.queries.ids) == [f"s{row}" for row in order[:40]]
    assert list(prepared.history.history.ids) == [f"s{row}" for row in order[40:]]
    stored = np.load(dataset[1]).astype(np.float64)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    np.testing.assert_allclose(prepared.history.embeddings, stored[order[40:]], atol=1e-6)
    assert prepared.embeddings is not None
    np.testing.assert_allclose(prepared.embeddings, stored[order[:40]], atol=1e-3)


def test_budgets_are_of_the_queries_true_cost_split_by_the_historys_means(
    prepare: Callable[..., Prepared], dataset: tuple[Path, Path]
):
    prepared = prepare("--queries", "40", "--budget-factor", "0.5", "--split", "cost")

    data = load_dataset(dataset[0])
    asked, known = split_rows(120, 40, 0)
    total = total_budget(data.cost[asked], 0.5)
    expected = split_budget(total, data.quality[known].mean(0), data.cost[known].mean(0), "cost")
    np.testing.assert_allclose(prepared.catalogue.budgets([], []), expected, rtol=1e-12)
    assert prepared.catalogue.names == ("small", "vendor/middle", "large")


def test_the_workers_variables_are_written(prepare: Callable[..., Prepared], tmp_path: Path):
    prepare("--queries", "40", "--preset", "paper", "--set", "resolve=geometric")

    variables = dotenv_values(tmp_path / "prepared" / "settings.env")
    assert variables == {
        "PORT_CATALOGUE": str(tmp_path / "prepared" / "catalogue.yaml"),
        "PORT_HISTORY": str(tmp_path / "prepared" / "history"),
        "PORT_HORIZON": "40",
        "PORT_PRESET": "paper",
        "PORT_RESOLVE": "geometric",
    }


def test_a_graph_that_the_worker_shall_use_is_saved_with_the_history(
    prepare: Callable[..., Prepared], tmp_path: Path
):
    folder = tmp_path / "prepared" / "history"

    graph = prepare("--queries", "40", "--set", "index=hnsw").history.load_index(folder)
    assert graph is not None
    assert (graph.kind, len(graph)) == ("hnsw", 80)

    assert prepare("--queries", "40").history.load_index(folder) is None


def test_a_third_of_a_small_data_set_is_queries(prepare: Callable[..., Prepared]):
    prepared = prepare()

    assert (len(prepared.queries), len(prepared.history)) == (40, 80)


def test_the_demo_has_its_own_split(tmp_path: Path):
    assert main(["--dataset", "demo", "--out", str(tmp_path / "demo")]) == 0

    prepared = Prepared.load(tmp_path / "demo")
    assert (len(prepared.queries), len(prepared.history), len(prepared.catalogue.models)) == (1000, 2000, 16)
    assert prepared.embeddings is not None
    assert prepared.embeddings.shape == (1000, 384)
    assert prepared.carried is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--queries", "120"], "120 must be between 1 and 119"),
        (["--queries", "1000"], "1000 must be between 1 and 119"),
        (["--queries", "9", "--set", "resolv=once"], "'resolv=once' is no NAME=VALUE"),
        (["--queries", "9", "--dataset", "nothing.parquet"], "nothing.parquet"),
    ],
)
def test_what_cannot_be_prepared_is_told(
    dataset: tuple[Path, Path],
    tmp_path: Path,
    arguments: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
):
    data, vectors = dataset
    given = ["--dataset", str(data), "--embeddings", str(vectors), "--out", str(tmp_path / "x"), *arguments]

    assert main(given) == 1
    assert told in capsys.readouterr().err


def test_embeddings_of_another_data_set_are_told(
    dataset: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    np.save(tmp_path / "other.npy", np.ones((7, 8)))
    arguments = ["--dataset", str(dataset[0]), "--embeddings", str(tmp_path / "other.npy")]

    assert main([*arguments, "--queries", "9", "--out", str(tmp_path / "x")]) == 1
    assert "the data set has 120 rows" in capsys.readouterr().err


def test_a_folder_that_was_not_prepared_is_told(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"producers\.prepare"):
        Prepared.load(tmp_path)


# --- what others reach --------------------------------------------------------------------------------------


def test_baselines_stay_within_the_budgets(prepare: Callable[..., Prepared]):
    prepared = prepare("--queries", "40")
    asked = ask(prepared.queries, "file")
    budgets = prepared.catalogue.budgets([], [])

    name, single = reach_best_single(asked, prepared.history.history, budgets)
    drawn = reach_random(asked, budgets)
    assert prepared.embeddings is not None
    best = reach_approximate_optimum(asked, prepared.embeddings, prepared.history, budgets)

    history = prepared.history.history
    means = history.quality.mean(0), history.cost.mean(0)
    assert name == history.models[best_single(*means, budgets, len(asked))]
    assert single.cost <= budgets.max()
    for reached in (single, drawn, best):
        assert 0 < reached.cost <= budgets.sum()
        assert 0 < reached.performance <= reached.throughput
    assert drawn == reach_random(asked, budgets)


@pytest.mark.parametrize("name", ["open_llm", "routerbench_subset"])
def test_the_approximate_optimum_is_that_of_the_published_implementation(
    shared_file: Callable[[str], Path], tmp_path: Path, name: str
):
    data = "open_llm_v2" if name == "open_llm" else name
    reference = orjson.loads(shared_file(f"reference/{name}.json").read_bytes())
    assert main([
        "--dataset", str(shared_file(f"data/{data}.parquet")),
        "--embeddings", str(shared_file(f"data/{data}.minilm.f16.npy")),
        "--queries", "1000", "--out", str(tmp_path / name),
    ]) == 0  # fmt: skip
    prepared = Prepared.load(tmp_path / name)
    budgets = prepared.catalogue.budgets([], [])
    np.testing.assert_allclose(budgets, list(reference["budgets"].values()), rtol=1e-9)
    assert prepared.embeddings is not None

    found = reach_approximate_optimum(
        ask(prepared.queries, "file"), prepared.embeddings, prepared.history, budgets
    )

    published = reference["results"]["approx_optimum"]
    assert found.performance == pytest.approx(published["performance"], rel=0.01)
    assert found.cost == pytest.approx(published["cost"], rel=0.01)
    assert found.throughput == pytest.approx(published["throughput"], rel=0.01)


def test_a_fitted_preset_keeps_what_results_are_compared_by(tmp_path: Path):
    out = tmp_path / "fitted"
    assert main(["--dataset", "demo", "--preset", "fast", "--out", str(out)]) == 0

    prepared = Prepared.load(out)
    embedder, estimator, history = load_fitted(out / "history")
    assert dotenv_values(out / "settings.env")["PORT_PRESET"] == "fast"
    assert prepared.history.embedder != embedder.identity
    assert prepared.history.dimension == 384
    assert prepared.carried is not None
    assert prepared.carried.shape == (1000, history.dimension)
    made = embedder.embed(prepared.queries.texts[:5]).embeddings
    np.testing.assert_allclose(prepared.carried[:5], made, atol=1e-3)
    assert estimator.models == prepared.history.models


def test_a_distilled_table_is_saved_with_its_history(
    prepare: Callable[..., Prepared], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
):
    model = make_small_bert(tmp_path_factory.mktemp("bert"))
    for _ in range(2):  # over what is there, too
        prepared = prepare("--queries", "40", "--preset", "static", "--embedder", str(model))
    fitted = load_fitted(tmp_path / "prepared" / "history")
    assert isinstance(fitted.embedder, StaticEmbedder)
    assert prepared.carried is not None
    expected = fitted.embedder.embed(prepared.queries.texts[:3]).embeddings
    np.testing.assert_allclose(prepared.carried[:3], expected, atol=1e-3)
