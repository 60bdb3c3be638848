"""Preparing a replay: the published split and budgets, saved and loaded again."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pandas as pd
import pytest
from dotenv import dotenv_values

from producers.evaluation.baselines import score_approximate_optimum, score_best_single, score_random
from producers.evaluation.budgets import budgets_of, total_money
from producers.evaluation.prepared_data import Prepared
from producers.evaluation.queries import select_queries
from producers.prepare import main
from routing.budgets.splits import best_single, split_budget, total_budget
from routing.datasets.load import load_dataset
from routing.datasets.split import split_rows
from routing.embedding.static_embedder import StaticEmbedder
from routing.fitting.saved_fit import (
    fit_facts,
    load_fitted,
)
from streams.__main__ import main as streams_main
from tests.tiny_bert import make_small_bert


@pytest.fixture
def prepare(dataset: tuple[Path, Path], tmp_path: Path) -> Callable[..., Prepared]:
    def run(*more: str) -> Prepared:
        data, vectors = dataset
        out = tmp_path / "prepared"
        arguments = ["--dataset", str(data), "--embeddings", str(vectors), "--out", str(out)]
        # `auto` would distil a table from the large model for so few rows
        assert main([*arguments, "--preset", "paper", *more]) == 0
        return Prepared.load(out)

    return run


def test_split_rows_is_the_permutation_of_the_seed(
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


def test_prepare_budgets_use_true_costs_and_history_means(
    prepare: Callable[..., Prepared], dataset: tuple[Path, Path]
):
    prepared = prepare("--queries", "40", "--budget-factor", "0.5", "--split", "cost")

    data = load_dataset(dataset[0])
    query_rows, known = split_rows(120, 40, 0)
    total = total_budget(data.cost[query_rows], 0.5)
    expected = split_budget(total, data.quality[known].mean(0), data.cost[known].mean(0), "cost")
    np.testing.assert_allclose(prepared.catalogue.budget_per_llm([], []), expected, rtol=1e-12)
    assert prepared.catalogue.names == ("small", "vendor/middle", "large")


def test_prepare_writes_the_workers_variables(prepare: Callable[..., Prepared], tmp_path: Path):
    prepare("--queries", "40", "--preset", "paper", "--set", "resolve=geometric")

    variables = dotenv_values(tmp_path / "prepared" / "settings.env")
    assert variables == {
        "PORT_CATALOGUE": str(tmp_path / "prepared" / "catalogue.yaml"),
        "PORT_HISTORY": str(tmp_path / "prepared" / "history"),
        "PORT_HORIZON": "40",
        "PORT_PRESET": "paper",
        "PORT_RESOLVE": "geometric",
    }


@pytest.mark.parametrize("name", ["it's here", 'a "b" c', "x #1", "two\nlines", "${HOME}", "back\\"])
def test_prepare_folder_with_special_name_settings_apply(
    name: str,
    dataset: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    data, vectors = dataset
    out = tmp_path / name
    assert (
        main(
            [
                "--dataset",
                str(data),
                "--embeddings",
                str(vectors),
                "--queries",
                "40",
                "--out",
                str(out),
                "--preset",
                "paper",
            ]
        )
        == 0
    )
    for variable in ("PORT_CATALOGUE", "PORT_HISTORY", "PORT_HORIZON", "PORT_PRESET"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    capsys.readouterr()

    streams_main(["config", "check", "--offline", "--json", "--env-file", str(out / "settings.env")])

    rows = {row["name"]: row["value"] for row in orjson.loads(capsys.readouterr().out)["settings"]}
    assert (rows["history"], rows["catalogue"]) == (str(out / "history"), str(out / "catalogue.yaml"))


def test_prepare_hnsw_index_is_saved_with_the_history(prepare: Callable[..., Prepared], tmp_path: Path):
    folder = tmp_path / "prepared" / "history"

    graph = prepare("--queries", "40", "--set", "index=hnsw").history.load_index(folder)
    assert graph is not None
    assert (graph.kind, len(graph)) == ("hnsw", 80)

    assert prepare("--queries", "40").history.load_index(folder) is None


def test_prepare_small_data_set_uses_a_third_as_queries(prepare: Callable[..., Prepared]):
    prepared = prepare()

    assert (len(prepared.queries), len(prepared.history)) == (40, 80)


def test_prepare_demo_has_a_fixed_split(tmp_path: Path):
    assert main(["--dataset", "demo", "--out", str(tmp_path / "demo"), "--preset", "paper"]) == 0

    prepared = Prepared.load(tmp_path / "demo")
    assert (len(prepared.queries), len(prepared.history), len(prepared.catalogue.models)) == (1000, 2000, 16)
    assert prepared.embeddings is not None
    assert prepared.embeddings.shape == (1000, 384)
    assert prepared.carried is None


def test_prepare_default_preset_depends_on_the_history(tmp_path: Path):
    assert main(["--dataset", "demo", "--out", str(tmp_path / "demo")]) == 0

    assert dotenv_values(tmp_path / "demo" / "settings.env")["PORT_PRESET"] == "fast"
    assert fit_facts(tmp_path / "demo" / "history").preset == "fast"


def test_prepare_incomplete_rows_are_dropped_on_request(
    dataset: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    table = pd.read_parquet(dataset[0])
    table.loc[[3, 5], "small"] = None
    table.to_parquet(dataset[0])
    np.save(dataset[1], np.delete(np.load(dataset[1]), [3, 5], axis=0))
    command = ["--dataset", str(dataset[0]), "--embeddings", str(dataset[1]), "--preset", "paper"]

    assert main([*command, "--out", str(tmp_path / "x")]) == 1
    errors = capsys.readouterr().err
    assert "row 4" in errors
    option = re.search(r"--incomplete drop", errors)
    assert option is not None
    assert main([*command, "--out", str(tmp_path / "x"), *option[0].split()]) == 0
    assert re.search(r"rows_left_out.*120", capsys.readouterr().out)
    prepared = Prepared.load(tmp_path / "x")
    assert len(prepared.queries) + len(prepared.history) == 118


def test_prepare_free_llm_leaves_other_budgets(
    dataset: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    table = pd.read_parquet(dataset[0])
    table["small|total_cost"] = 0.0
    table.to_parquet(dataset[0])
    command = ["--dataset", str(dataset[0]), "--embeddings", str(dataset[1]), "--preset", "paper"]

    assert main([*command, "--queries", "40", "--out", str(tmp_path / "x")]) == 0
    prepared = Prepared.load(tmp_path / "x")
    budgets = prepared.catalogue.budget_per_llm([], [])
    assert budgets.sum() == pytest.approx(prepared.queries.cost[:, 1].sum())
    assert (budgets > 0).all()
    queries = select_queries(prepared.queries, "file")
    counters = budgets_of(prepared.catalogue, prepared.history.history)
    assert score_random(queries, counters).cost <= budgets.sum()

    for model in ("vendor/middle", "large"):
        table[f"{model}|total_cost"] = 0.0
    table.to_parquet(dataset[0])
    assert main([*command, "--queries", "40", "--out", str(tmp_path / "y")]) == 1
    assert "every LLM costs nothing" in capsys.readouterr().err


def test_prepare_short_history_warns_with_the_required_size(
    prepare: Callable[..., Prepared], capsys: pytest.CaptureFixture[str]
):
    prepare("--queries", "116")
    assert re.search(r"warning: .* 4 rows, too few .* 250 or more", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--queries", "120"], "120 must be between 1 and 119"),
        (["--queries", "1000"], "1000 must be between 1 and 119"),
        (["--queries", "9", "--set", "resolv=once"], "'resolv=once' is not NAME=VALUE"),
        (["--queries", "9", "--dataset", "nothing.parquet"], "nothing.parquet"),
    ],
)
def test_prepare_invalid_arguments_are_reported(
    dataset: tuple[Path, Path],
    tmp_path: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
):
    data, vectors = dataset
    words = ["--dataset", str(data), "--embeddings", str(vectors), "--out", str(tmp_path / "x"), *arguments]

    assert main(words) == 1
    assert message in capsys.readouterr().err


def test_prepare_embeddings_of_another_size_are_reported(
    dataset: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    np.save(tmp_path / "other.npy", np.ones((7, 8)))
    arguments = ["--dataset", str(dataset[0]), "--embeddings", str(tmp_path / "other.npy")]

    assert main([*arguments, "--queries", "9", "--out", str(tmp_path / "x")]) == 1
    assert "the data set has 120 rows" in capsys.readouterr().err


def test_prepared_load_unprepared_folder_is_reported(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"producers\.prepare"):
        Prepared.load(tmp_path)


# --- what others reach --------------------------------------------------------------------------------------


def test_baselines_stay_within_the_budgets(prepare: Callable[..., Prepared]):
    prepared = prepare("--queries", "40")
    queries = select_queries(prepared.queries, "file")
    budgets = prepared.catalogue.budget_per_llm([], [])
    counters = budgets_of(prepared.catalogue, prepared.history.history)

    name, single = score_best_single(queries, prepared.history.history, counters)
    drawn = score_random(queries, counters)
    assert prepared.embeddings is not None
    best = score_approximate_optimum(queries, prepared.embeddings, prepared.history, counters)

    history = prepared.history.history
    means = history.quality.mean(0), history.cost.mean(0)
    assert name == history.models[best_single(*means, budgets, len(queries))]
    assert single.cost <= budgets.max()
    for score in (single, drawn, best):
        assert 0 < score.cost <= budgets.sum()
        assert 0 < score.performance <= score.throughput
    assert drawn == score_random(queries, counters)

    shared = budgets_of(prepare("--queries", "40", "--split", "shared").catalogue, history)
    assert (shared.names, total_money(shared)) == (("total",), pytest.approx(budgets.sum()))
    name, single = score_best_single(queries, history, shared)
    total = np.full(3, budgets.sum())
    assert name == history.models[best_single(*means, total, len(queries))]
    optimum = score_approximate_optimum(queries, prepared.embeddings, prepared.history, shared)
    for score in (single, score_random(queries, shared), optimum):
        assert 0 < score.cost <= budgets.sum() * (1 + 1e-9)


@pytest.mark.parametrize("name", ["open_llm", "routerbench_subset"])
def test_approximate_optimum_matches_the_published_implementation(
    shared_file: Callable[[str], Path], tmp_path: Path, name: str
):
    data = "open_llm_v2" if name == "open_llm" else name
    reference = orjson.loads(shared_file(f"reference/{name}.json").read_bytes())
    assert (
        main(
            [
                "--dataset",
                str(shared_file(f"data/{data}.parquet")),
                "--embeddings",
                str(shared_file(f"data/{data}.minilm.f16.npy")),
                "--queries",
                "1000",
                "--preset",
                "paper",
                "--out",
                str(tmp_path / name),
            ]
        )
        == 0
    )
    prepared = Prepared.load(tmp_path / name)
    budgets = prepared.catalogue.budget_per_llm([], [])
    np.testing.assert_allclose(budgets, list(reference["budgets"].values()), rtol=1e-9)
    assert prepared.embeddings is not None

    score = score_approximate_optimum(
        select_queries(prepared.queries, "file"),
        prepared.embeddings,
        prepared.history,
        budgets_of(prepared.catalogue, prepared.history.history),
    )

    published = reference["results"]["approx_optimum"]
    assert score.performance == pytest.approx(published["performance"], rel=0.01)
    assert score.cost == pytest.approx(published["cost"], rel=0.01)
    assert score.throughput == pytest.approx(published["throughput"], rel=0.01)


def test_prepare_fitted_preset_keeps_the_reference_history(tmp_path: Path):
    out = tmp_path / "fitted"
    assert main(["--dataset", "demo", "--preset", "fast", "--out", str(out)]) == 0

    prepared = Prepared.load(out)
    embedder, estimator, history = load_fitted(out / "history")
    assert dotenv_values(out / "settings.env")["PORT_PRESET"] == "fast"
    assert prepared.history.embedder != embedder.identity
    assert prepared.history.dimension == 384
    assert prepared.carried is not None
    assert prepared.carried.shape == (1000, history.dimension)
    embeddings = embedder.embed(prepared.queries.texts[:5]).embeddings
    np.testing.assert_allclose(prepared.carried[:5], embeddings, atol=1e-3)
    assert estimator.models == prepared.history.models


def test_prepare_distilled_table_is_saved_with_its_history(
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
