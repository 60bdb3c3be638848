"""A worker that starts while a broker is away waits, and does not take missing leaders for a wrong topic; one
whose broker goes away can be stopped.

Needs Apache Kafka.
"""

import time
from collections.abc import Callable
from pathlib import Path

from streams.topics import existing_partitions, mismatches, topic_specs, without_leader
from tests.conftest import ClusterStarter
from tests.end_to_end.data import Small
from tests.end_to_end.routers import Router
from tests.end_to_end.workers import wait_for


def test_a_worker_waits_for_partitions_whose_broker_is_away(
    start_cluster: ClusterStarter, small: Small, tmp_path: Path, unique: Callable[[str], str]
) -> None:
    # one copy of each partition, so that a dead broker takes some with it
    cluster = start_cluster(3, properties={"min.insync.replicas": "1"})
    router = Router(cluster.bootstrap_servers, small, tmp_path, unique("outage"), partitions=4)
    try:
        specs = topic_specs(router.settings, router.catalogue)
        names = [spec.name for spec in specs]
        assert without_leader(router.admin, names) == {}
        cluster.kill(1)
        wait_for(lambda: without_leader(router.admin, names), 60, "the cluster notices")

        assert mismatches(specs, existing_partitions(router.admin)) == []
        worker = router.start()
        wait_for(lambda: worker.logged("partitions_without_leader"), 60, f"it says so; {worker.log}")
        assert worker.alive

        cluster.start(1)
        wait_for(lambda: worker.logged("partitions_led"), 60, f"it goes on; {worker.log}")
        router.send(range(40))
        router.all_landed()
        assert worker.stop() == 0
    finally:
        router.close()


def test_a_worker_whose_broker_is_away_ends_soon_when_it_is_told_to(
    start_cluster: ClusterStarter, small: Small, tmp_path: Path, unique: Callable[[str], str]
) -> None:
    cluster = start_cluster(1)
    router = Router(cluster.bootstrap_servers, small, tmp_path, unique("outage"), partitions=2)
    try:
        worker = router.start()
        router.send(range(40))
        router.all_landed()
        cluster.kill(1)
        time.sleep(3)  # fetches fail by now, and are tried again
        assert worker.stop(25) == 0
        assert worker.logged("drained")
    finally:
        router.close()
