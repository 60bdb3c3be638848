"""Catalogue changes while a worker runs: no restart, no overspend, no lost query.

Needs Apache Kafka (the fixture `bootstrap_servers` finds or starts it).
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from routing.policy.alignment import MIN_REPORTED_ANSWERS
from streams.audit.outputs import OutputRecord
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.fake_fleet import apply, command, report, reserved, served, total, wait_counted
from tests.end_to_end.router_under_test import Router, assert_whole
from tests.end_to_end.small_dataset import Small
from tests.end_to_end.worker_process import wait_for

NEW = "example/brand-new"


def rich(small: Small) -> list[dict[str, Any]]:
    """Return the LLMs with ample budgets and list prices, the best by the history last."""
    quality = small.prepared.history.history.quality.mean(0)
    order = np.argsort(quality, kind="stable")
    names = [small.prepared.history.models[i] for i in order]
    return [{"name": name, "budget_usd": 1.0, "input_price": 1.0, "output_price": 2.0} for name in names]


def started(router: MakeRouter, models: list[dict[str, Any]], folder: Path, **settings: object) -> Router:
    file = folder / "first.yaml"
    file.write_text(yaml.safe_dump({"models": models}), encoding="utf-8")
    stream = router(catalogue=file, period_seconds=1e6, horizon=400, **settings)
    stream.start(ready=True)
    return stream


def send(stream: Router, rows: range, tag: str) -> list[OutputRecord]:
    """Send prepared queries, wait until they have landed, and return the served ones."""
    known = set(stream.sent)
    stream.send(rows, tag=tag)
    stream.all_landed()
    new = set(stream.sent) - known
    return [one for one in served(stream) if (one.source or (one.lane, one.offset)) in new]


def in_force(stream: Router, version: int) -> None:
    """Wait until the lane decides by the plan of a catalogue's version."""
    plan = wait_for(
        lambda: (p := stream.plan()).catalogue >= version and p, 60, f"catalogue {version} applied"
    )
    # A lane without grants to return applies a plan with its next query.
    wait_for(lambda: stream.plan().revision >= plan.revision, 10, "the plan is published")


def on(landings: list[OutputRecord], model: str) -> list[OutputRecord]:
    return [one for one in landings if one.model == model]


def charges(landings: list[OutputRecord], model: str) -> dict[str, int]:
    """Return picodollars reserved on an LLM, by the query's id without its tag."""
    return {one.id.split("-", 1)[1]: one.charge for one in on(landings, model)}


def test_plan_apply_adds_and_removes_llms_and_changes_budgets_and_prices(
    router: MakeRouter, small: Small, tmp_path: Path
) -> None:
    models = rich(small)
    names = [model["name"] for model in models]
    stream = started(router, models[:4], tmp_path)
    assert send(stream, range(100), "a-")

    # Add two better LLMs; their prices are learned from new samples.
    assert f"{names[5]}: added" in apply(stream, models, tmp_path)
    in_force(stream, 1)
    assert stream.plan().models == tuple(names)
    send(stream, range(100), "b-")
    wait_for(lambda: stream.plan().version >= 2, 30, "prices are learned again")
    with_all = send(stream, range(100, 250), "c-")
    assert on(with_all, names[5])

    # The amounts that `plan show` prints sum to the budgets.
    shown = command(stream, "plan", "show")
    (budget, *amounts) = map(float, shown.split("\nall ")[1].split("\n")[0].split())
    assert budget == len(models)
    assert sum(amounts) == pytest.approx(budget, abs=1e-5)
    assert "{" not in shown

    # Remove the best LLM.
    assert f"{names[5]}: removed" in apply(stream, models[:5], tmp_path)
    in_force(stream, 2)
    assert not on(send(stream, range(100, 250), "d-"), names[5])
    assert stream.plan().active.tolist() == [True] * 5 + [False]

    # Lower a budget to the amount spent, so that no query goes there; raise another, which is granted.
    charged = total(stream, "charged")
    busy = int(charged[:5].argmax())
    other = (busy + 1) % 5
    models[busy]["budget_usd"] = float(charged[busy]) / 1e12
    models[other]["budget_usd"] = 3.0
    assert f"{names[busy]}: budget_usd" in apply(stream, models[:5], tmp_path)
    in_force(stream, 3)
    wait_for(lambda: stream.plan().granted[:, other].sum() == 3 * 10**12, 20, "the rise is granted")
    assert not on(send(stream, range(100, 250), "e-"), names[busy])

    # Raise a price by half; the same prompts then reserve half as much again.
    models[busy]["budget_usd"] = 1.0
    apply(stream, models[:5], tmp_path)
    in_force(stream, 4)
    before = charges(send(stream, range(250, 400), "f-"), names[busy])
    models[busy] |= {"input_price": 1.5, "output_price": 3.0}
    apply(stream, models[:5], tmp_path)
    in_force(stream, 5)
    later = charges(send(stream, range(250, 400), "g-"), names[busy])
    same = sorted(before.keys() & later.keys())
    assert same, "some prompts went there before and after"
    np.testing.assert_allclose([later[one] for one in same], [1.5 * before[one] for one in same], rtol=1e-6)

    (worker,) = stream.workers
    assert worker.alive, "nothing was restarted"
    assert assert_whole(stream).overdrawn_pico == 0


def test_llm_unknown_to_the_history_is_rejected_by_plan_apply_and_worker(
    router: MakeRouter, small: Small, tmp_path: Path
) -> None:
    models = rich(small)[:2]
    stream = started(router, models, tmp_path)
    file = tmp_path / "renamed.yaml"
    renamed = [models[0], {**models[1], "name": models[1]["name"] + "-latest"}]
    file.write_text(yaml.safe_dump({"models": renamed}), encoding="utf-8")
    with pytest.raises(AssertionError):
        command(stream, "plan", "apply", str(file), "--yes")
    assert "nothing changes" in command(stream, "plan", "apply", str(tmp_path / "first.yaml"), "--yes")

    refused = stream.start(catalogue=file)
    assert refused.wait(60) == 1
    assert f"the history knows nothing of {renamed[1]['name']}" in refused.log.read_text()


def test_llm_without_a_history_is_measured_and_then_routed_to(
    router: MakeRouter, small: Small, tmp_path: Path
) -> None:
    models = rich(small)[:3]
    stream = started(router, models, tmp_path, exploration=0.3)
    send(stream, range(50), "a-")
    new = {"name": NEW, "budget_usd": 5.0, "input_price": 0.1, "output_price": 0.1}
    apply(stream, [*models, new], tmp_path)
    in_force(stream, 1)
    version = stream.plan().version
    explored = on(send(stream, range(200), "b-"), NEW)
    assert 0.15 < len(explored) / 200 < 0.45, "a share of the queries measures it"

    # Its fleet reports a better quality than the other LLMs have.
    report(stream, explored, lambda one: reserved(one, 0.5), lambda one: 1.0)
    wait_counted(stream)
    plan = wait_for(
        lambda: (p := stream.plan()).measured.get(NEW, [0])[0] >= MIN_REPORTED_ANSWERS and p,
        30,
        "it is measured",
    )
    answers, quality, cost = plan.measured[NEW]
    assert answers == len(explored)
    assert quality == pytest.approx(1.0)
    assert cost == pytest.approx(np.mean([reserved(one, 0.5) for one in explored]), rel=1e-6)
    send(stream, range(50), "c-")
    wait_for(lambda: stream.plan().version > version, 30, "its price is learned")
    later = send(stream, range(200, 400), "d-")
    assert len(on(later, NEW)) > 100, "it is better than the others"
    assert_whole(stream)


def test_price_rise_survives_workers_that_start_on_the_edited_file(
    router: MakeRouter, small: Small, tmp_path: Path
) -> None:
    """Edit the file, apply it, restart the worker, and apply a change of budgets, all with one file."""
    models = rich(small)[:4]
    stream = started(router, models, tmp_path, warmup="history")
    file = tmp_path / "first.yaml"

    def publish() -> str:
        file.write_text(yaml.safe_dump({"models": models}), encoding="utf-8")
        return command(stream, "plan", "apply", str(file), "--yes")

    def repeated(tag: str) -> dict[str, int]:
        """Return the reservations of the same queries, by LLM and id."""
        landings = send(stream, range(150), tag)
        return {f"{one.model} {one.id.split('-', 1)[1]}": one.charge for one in landings}

    def compare(later: dict[str, int]) -> None:
        same = sorted(first.keys() & later.keys())
        assert len(same) > 20, "some queries went to the same LLM"
        np.testing.assert_allclose([later[q] for q in same], [2.0 * first[q] for q in same], rtol=1e-6)

    first = repeated("a-")
    for model in models:
        model |= {"input_price": 2.0, "output_price": 4.0}
    output = publish()
    assert f"{models[0]['name']}: input_price 1 -> 2" in output, (
        "the file that workers started with is in force"
    )
    assert f"{models[0]['name']}: estimated costs are the history's times 2 (now times 1)" in output
    assert "published catalogue version 1" in output
    in_force(stream, 1)
    compare(repeated("b-"))

    (worker,) = stream.workers
    assert worker.stop() == 0
    stream.start(ready=True)
    compare(repeated("c-"))
    models[0]["budget_usd"] = 2.0
    assert "estimated costs" not in publish(), "only budgets have changed"
    in_force(stream, 2)
    assert stream.plan().cost_factor == {model["name"]: 2.0 for model in models}
    compare(repeated("d-"))
    # A successor that starts on the newest file.
    stream.workers[-1].kill()
    stream.start(ready=True)
    models[0]["budget_usd"] = 3.0
    publish()
    in_force(stream, 3)
    compare(repeated("e-"))
    assert "times 2" in command(stream, "plan", "show")
    assert publish() == "nothing changes: catalogue version 3 is in force\n"

    # A history recorded at today's prices: the cost factors return to 1.
    output = command(stream, "plan", "apply", str(file), "--yes", "--new-history")
    assert "times 1 (now times 2)" in output
    in_force(stream, 4)
    assert stream.plan().cost_factor == {}
    assert_whole(stream)


def test_worker_on_another_file_follows_the_plan_and_logs_the_difference(
    router: MakeRouter, small: Small, tmp_path: Path
) -> None:
    models = rich(small)[:3]
    stream = started(router, models, tmp_path)
    wait_for(lambda: stream.plan() is not None, 30, "there is a plan")
    (worker,) = stream.workers
    assert not worker.logged("catalogue_file_differs")
    dearer = [model | {"input_price": 3.0} for model in models]
    (tmp_path / "first.yaml").write_text(yaml.safe_dump({"models": dearer}), encoding="utf-8")
    other = stream.start()
    wait_for(lambda: other.logged("catalogue_file_differs"), 60, "the difference is logged")
    (event,) = other.events("catalogue_file_differs")
    assert event["changes"] == [f"{model['name']}: input_price 1 -> 3" for model in models]
    assert not worker.logged("catalogue_file_differs")
