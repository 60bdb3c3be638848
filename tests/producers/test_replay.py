"""The replay on a real broker: every query accounted for, the rule applied, and faults of a router found."""

from pathlib import Path

import numpy as np
import orjson
import pytest

from producers.evaluation.prepared_data import Prepared
from producers.evaluation.report import Report
from producers.prepare import main as prepare
from producers.replay import main as replay
from routing.accounting import account_for
from tests.producers.conftest import RouterStarter


@pytest.fixture
def folder(dataset: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    data, vectors = dataset
    out = tmp_path / "prepared"
    assert (
        prepare(
            [
                "--preset",
                "paper",
                "--dataset",
                str(data),
                "--embeddings",
                str(vectors),
                "--queries",
                "60",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    monkeypatch.setenv("PORT_CATALOGUE", str(out / "catalogue.yaml"))
    return out


def replayed(folder: Path, *more: str) -> tuple[int, dict]:
    out = folder / "result" / "replay.json"
    status = replay([str(folder), "--quiet", "--deadline", "20", "--json", str(out), *more])
    return status, orjson.loads(out.read_bytes())


def test_replay_accounts_for_every_query(
    folder: Path, stream: RouterStarter, capsys: pytest.CaptureFixture[str]
):
    stream()

    status, result = replayed(folder, "--carry-embeddings")

    assert status == 0
    assert (result["queries"], result["served"], result["unserved"]) == (60, 54, 6)
    assert (result["dead"], result["missing"], result["twice"], result["over_budget"]) == (0, 0, 0, 0)
    assert result["throughput"] + result["lost"] == 54
    prepared = Prepared.load(folder)
    limits = {model.name: model.budget_usd for model in prepared.catalogue.models}
    assert {name: one["limit"] for name, one in result["by_budget"].items()} == pytest.approx(limits)
    assert result["budget"] == pytest.approx(sum(limits.values()))
    assert result["budget_form"] == "a budget for each LLM (--split weighted)"
    assert 0 < result["cost"] <= result["budget"]
    best = result["baselines"]["approx-optimum"]["performance"]
    assert result["relative"] == pytest.approx(100 * result["performance"] / best)
    assert 0 < result["latency_ms"]["p50"] <= result["latency_ms"]["p95"] <= result["latency_ms"]["p99"]
    assert sum(llm["queries"] for llm in result["by_llm"].values()) == 54
    assert sum(llm["spent"] for llm in result["by_llm"].values()) == pytest.approx(result["cost"])
    table = capsys.readouterr().out
    for text in (
        "this router",
        "random",
        "best-single",
        "approx-optimum",
        "vendor/middle",
        "60 queries: 54 on",
    ):
        assert text in table


def test_replay_shared_total_is_one_budget_of_all_llms(
    folder: Path, stream: RouterStarter, capsys: pytest.CaptureFixture[str]
):
    total = sum(model.budget_usd or 0 for model in Prepared.load(folder).catalogue.models)
    catalogue = {"budget_usd": total, "models": [*Prepared.load(folder).catalogue.names]}
    (folder / "catalogue.yaml").write_bytes(orjson.dumps(catalogue))
    stream().price = total / 10

    status, result = replayed(folder, "--carry-embeddings", "--limit", "20")

    assert (status, result["examples"]["over_budget"]) == (1, ["total"])
    assert list(result["by_budget"]) == ["total"]
    assert result["budget"] == pytest.approx(total)
    assert result["cost"] == pytest.approx(result["by_budget"]["total"]["spent"])
    assert result["baselines"]["approx-optimum"]["cost"] <= total * (1 + 1e-9)
    assert "budgets: one total that all LLMs share" in capsys.readouterr().out


def test_replay_score_matches_the_topics(folder: Path, stream: RouterStarter, read_topics):
    router = stream()

    _, result = replayed(folder, "--no-optimum")

    queries = Prepared.load(folder).queries
    rows = {identity: row for row, identity in enumerate(queries.ids)}
    decisions = []
    for number, slug in enumerate(router.catalogue.slugs):
        for message in read_topics([router.settings.topics.llm(slug)]):
            fields = orjson.loads(message.value())
            decisions.append((fields["routing"]["routed_at"], number, rows[fields["id"]]))
    decisions.sort()
    index = np.array([row for _, _, row in decisions])
    budgets = router.catalogue.budget_per_llm([], [])
    choice = np.array([model for _, model, _ in decisions])
    outcome = account_for(choice, queries.quality[index], queries.cost[index], budgets)
    assert result["performance"] == outcome.performance
    assert result["cost"] == pytest.approx(outcome.cost)
    assert result["throughput"] == outcome.throughput
    assert result["relative"] is None


def test_replay_second_run_ignores_the_first(folder: Path, stream: RouterStarter):
    stream()
    replayed(folder, "--no-optimum", "--limit", "20")

    status, result = replayed(folder, "--no-optimum", "--limit", "20", "--order", "random", "--seed", "3")

    assert status == 0
    assert (result["queries"], result["missing"], result["twice"]) == (20, 0, 0)


def test_replay_repeat_and_rate_are_applied(folder: Path, stream: RouterStarter):
    stream()

    status, result = replayed(folder, "--limit", "10", "--repeat", "3", "--rate", "200", "--no-optimum")

    assert status == 0
    assert result["queries"] == 30
    assert result["produced_per_second"] <= 210


def test_replay_closed_pipe_still_writes_the_json(
    folder: Path, stream: RouterStarter, monkeypatch: pytest.MonkeyPatch
):
    def left(text: str) -> None:
        raise BrokenPipeError

    stream()
    monkeypatch.setattr(Report, "text", left)
    monkeypatch.setattr(
        "streams.commands.program.os.dup2", lambda *numbers: None
    )  # this process's own output

    status, result = replayed(folder, "--limit", "6", "--no-optimum")

    assert (status, result["queries"]) == (1, 6)


def test_replay_lost_and_duplicated_queries_are_reported(
    folder: Path, stream: RouterStarter, capsys: pytest.CaptureFixture[str]
):
    router = stream()
    ids = Prepared.load(folder).queries.ids
    router.lose, router.twice = {ids[3]}, {ids[5], ids[6]}

    status, result = replayed(folder, "--limit", "12", "--no-optimum", "--deadline", "3")

    assert status == 1
    assert (result["missing"], result["examples"]["missing"]) == (1, [ids[3]])
    doubled = set(result["examples"]["twice"])
    assert doubled
    assert doubled <= {ids[5], ids[6]}
    assert "PROBLEM: 1 queries are missing" in capsys.readouterr().out


def test_replay_overspent_budget_is_reported(folder: Path, stream: RouterStarter):
    stream().price = 1.0

    status, result = replayed(folder, "--limit", "12", "--no-optimum")

    assert status == 1
    assert result["over_budget"] == 3


def test_replay_released_money_may_be_spent_again(folder: Path, stream: RouterStarter):
    router = stream()
    router.price, router.paid = 1.0, 1e-9

    status, result = replayed(folder, "--limit", "12", "--no-optimum")

    assert (status, result["over_budget"]) == (0, 0)
    assert sum(llm["reserved"] for llm in result["by_llm"].values()) == 11.0


def test_replay_dead_letters_are_counted(dataset: tuple[Path, Path], folder: Path, stream: RouterStarter):
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "queries.parquet")
    prompts = table.column("prompt").to_pylist()
    prompts[0] = "please refuse me"
    pq.write_table(table.set_column(1, "prompt", [prompts]), folder / "queries.parquet")
    stream()

    status, result = replayed(folder, "--limit", "10", "--no-optimum")

    assert status == 0
    assert result["dead"] == 1


def test_replay_missing_topics_are_reported(
    folder: Path, bootstrap_servers: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", bootstrap_servers)
    monkeypatch.setenv("PORT_TOPIC_PREFIX", "nowhere.")

    assert replay([str(folder), "--quiet"]) == 1
    assert "topics create" in capsys.readouterr().err
