"""Startup of a worker, before it takes partitions. Needs Apache Kafka."""

import orjson
from confluent_kafka.admin import NewPartitions

from streams.kafka.topics import existing_partitions
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.faults import embed_at_once
from tests.end_to_end.worker_process import wait_for


def test_worker_loads_the_embedding_model_at_start_or_with_the_first_text(
    router: MakeRouter,
) -> None:
    stream = router()
    early = stream.start(embed_at_once, embedder_loads="start", ready=True)
    names = [event.get("event") for event in early.events()]
    assert names.index("embedder_loaded") < names.index("lane_open")
    assert early.stop() == 0
    late = stream.start(embed_at_once, embedder_loads="first", ready=True)
    stream.send(range(50))
    assert not late.logged("embedder_loaded")


def test_worker_logs_json_lines_and_reports_one_plan_after_a_restart(router: MakeRouter) -> None:
    stream = router(partitions=2, horizon=200, eps=0.1)
    first = stream.start(embed_at_once, ready=True)
    stream.send(range(200))
    wait_for(lambda: stream.plan().period == 2, 60, "the second period")
    assert first.stop() == 0
    again = stream.start(embed_at_once, ready=True)
    wait_for(lambda: again.logged("lane_open"), 60, "it takes partitions")
    assert again.stop() == 0

    for worker in (first, again):
        for line in worker.log.read_text().splitlines():
            assert isinstance(orjson.loads(line), dict), line
    newest = list(first.events("plan_in_force"))[-1]
    reported = [(event["period"], event["plan"]) for event in again.events("plan_in_force")]
    assert reported[0] == (newest["period"], newest["plan"])
    assert reported == sorted(set(reported))


def test_worker_waiting_for_its_broker_stops_on_sigterm(router: MakeRouter) -> None:
    worker = router().start(bootstrap_servers="127.0.0.1:1")
    wait_for(lambda: worker.logged("broker_unreachable"), 60, "it reports that no broker answers")
    assert worker.stop() == 0


def test_worker_with_other_lanes_than_the_plan_in_force_does_not_start(router: MakeRouter) -> None:
    stream = router(partitions=2)
    first = stream.start()
    wait_for(lambda: first.logged("plan_in_force"), 60, "there is a plan")
    assert first.stop() == 0
    refused = stream.start(overflow="off")
    assert refused.wait(60) == 1
    assert (
        "overflow: off, and the plan in force has an overflow lane; set PORT_OVERFLOW=on"
        in refused.log.read_text()
    )
    # A lane of queries would get the number, and the grants, of the overflow lane.
    counts = {name: n + 1 for name, n in existing_partitions(stream.admin).items() if n in (2, 3)}
    wider = [NewPartitions(name, n) for name, n in counts.items() if name.startswith(stream.name)]
    for future in stream.admin.create_partitions(wider).values():
        future.result(30)
    refused = stream.start(partitions=3)
    assert refused.wait(60) == 1
    assert "partitions: 3, and the plan in force is for 2; set PORT_PARTITIONS=2" in refused.log.read_text()
    assert not refused.logged("lane_open")
