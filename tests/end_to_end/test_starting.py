"""What a worker does before it takes partitions. Needs Apache Kafka."""

from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.faults import embed_at_once
from tests.end_to_end.workers import wait_for


def test_the_embedding_model_is_loaded_before_partitions_are_taken_unless_queries_carry_vectors(
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


def test_a_worker_that_waits_for_its_broker_can_be_stopped(router: MakeRouter) -> None:
    worker = router().start(bootstrap_servers="127.0.0.1:1")
    wait_for(lambda: worker.logged("broker_unreachable"), 60, "it says that no broker answers")
    assert worker.stop() == 0
