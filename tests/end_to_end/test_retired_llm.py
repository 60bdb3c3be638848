"""Workers that start after `plan apply` removed an LLM which only the plan still names.

Needs Apache Kafka (the fixture `bootstrap_servers` finds or starts it).
"""

from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.fake_fleet import apply, command
from tests.end_to_end.router_under_test import Router, assert_whole
from tests.end_to_end.small_dataset import Small
from tests.end_to_end.test_catalogue_changes import in_force, on, rich, send, started
from tests.end_to_end.worker_process import Worker, wait_for


def save_catalogue(models: list[dict[str, Any]], file: Path) -> Path:
    file.write_text(yaml.safe_dump({"models": models}), encoding="utf-8")
    return file


def keep_newest_version(stream: Router) -> None:
    """Delete all but the newest catalogue from its topic, as compaction does eventually."""
    topic = stream.topics.catalogue

    def set_policy(policy: str) -> None:
        entry = ConfigEntry("cleanup.policy", policy, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        stream.admin.incremental_alter_configs([resource])[resource].result(30)

    with stream.logs() as logs:
        newest = list(logs.read(topic))[-1].offset
    set_policy("compact,delete")  # Kafka deletes no records of a topic that is only compacted
    place = TopicPartition(topic, 0, newest)
    stream.admin.delete_records([place])[place].result(30)
    set_policy("compact")
    with stream.logs() as logs:
        assert len(list(logs.read(topic))) == 1


def assert_routes(stream: Router, worker: Worker, removed: str, rows: range, tag: str) -> None:
    """Check that the worker routes queries, but none to the removed LLM."""
    assert not on(send(stream, rows, tag), removed)
    assert worker.alive
    assert not worker.logged("lane_died")


@pytest.mark.parametrize("reserve", ["estimate", "bound"])
def test_worker_starts_after_an_llm_was_removed_from_file_and_catalogue(
    router: MakeRouter, small: Small, tmp_path: Path, reserve: str
) -> None:
    models = rich(small)[:3]
    best = models[-1]["name"]
    stream = started(router, models, tmp_path, reserve=reserve, partitions=2, warmup="history")
    before = send(stream, range(100), "a-")
    assert on(before, best), "the best LLM is in use"
    save_catalogue(models[:2], tmp_path / "first.yaml")
    apply(stream, models[:2], tmp_path)
    in_force(stream, 1)
    assert stream.workers[0].stop() == 0

    second = stream.start(ready=True)
    assert_routes(stream, second, best, range(100, 200), "b-")
    assert stream.plan().models[-1] == best, "the plan names it until the period ends"
    # An earlier query is explained by its cost at that time.
    explanation = command(stream, "explain", on(before, best)[0].id)
    assert f"routed to {best}" in explanation
    assert "recomputed decision is the same" in explanation
    for name in ("bill", "check"):
        command(stream, name)
    assert "(removed)" in command(stream, "plan", "show")
    assert_whole(stream)


@pytest.mark.parametrize("reserve", ["estimate", "bound"])
def test_worker_starts_on_its_old_file_if_only_the_newest_catalogue_is_kept(
    router: MakeRouter, small: Small, tmp_path: Path, reserve: str
) -> None:
    """`plan apply` added and removed the LLM: no file names it, and after compaction no catalogue does."""
    models = rich(small)[:3]
    best = models[-1]["name"]
    stream = started(router, models[:2], tmp_path, reserve=reserve, partitions=2, warmup="history")
    apply(stream, models, tmp_path)
    in_force(stream, 1)
    wait_for(lambda: stream.plan().granted[:, 2].any(), 30, "the new LLM's budget is handed out")
    before = send(stream, range(100), "a-")
    apply(stream, models[:2], tmp_path)
    in_force(stream, 2)
    cheaper = [models[0] | {"budget_usd": 0.9}, models[1]]
    apply(stream, cheaper, tmp_path)
    in_force(stream, 3)
    keep_newest_version(stream)
    assert stream.workers[0].stop() == 0

    second = stream.start(ready=True)
    assert_routes(stream, second, best, range(100, 200), "b-")
    for landing in on(before, best)[:1]:
        assert f"routed to {best}" in command(stream, "explain", landing.id)
    assert_whole(stream)


@pytest.mark.parametrize("reserve", ["estimate", "bound"])
def test_worker_on_a_file_without_an_llm_of_the_plan_still_routes_to_it(
    router: MakeRouter, small: Small, tmp_path: Path, reserve: str
) -> None:
    """A catalogue file that was not published changes nothing."""
    models = rich(small)[:3]
    best = models[-1]["name"]
    stream = started(router, models, tmp_path, reserve=reserve, partitions=2, warmup="history")
    known = {one.id.split("-", 1)[1]: one for one in send(stream, range(100), "a-")}
    assert stream.workers[0].stop() == 0

    other = save_catalogue(models[:2], tmp_path / "other.yaml")
    second = stream.start(ready=True, catalogue=other)
    again = send(stream, range(100), "b-")
    assert on(again, best)
    for one in again:
        first = known[one.id.split("-", 1)[1]]
        assert (one.model, one.charge) == (first.model, first.charge)
    wait_for(lambda: second.logged("catalogue_file_differs"), 30, "the worker reports it")
    assert_whole(stream)
