"""Broker outages: a worker waits for missing leaders, reports an absent broker, and can be stopped.

Needs Apache Kafka.
"""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from infra.broker.ports import free_ports
from streams.kafka.topics import count_leaderless, existing_partitions, partition_mismatches, topic_specs
from tests.conftest import ClusterStarter
from tests.end_to_end.router_under_test import Router
from tests.end_to_end.small_dataset import Small
from tests.end_to_end.worker_process import ROOT, wait_for


def test_worker_waits_for_partitions_without_a_leader(
    start_cluster: ClusterStarter, small: Small, tmp_path: Path, unique: Callable[[str], str]
) -> None:
    # One replica of each partition, so that a killed broker leaves some without a leader.
    cluster = start_cluster(3, properties={"min.insync.replicas": "1"})
    router = Router(cluster.bootstrap_servers, small, tmp_path, unique("outage"), partitions=4)
    try:
        specs = topic_specs(router.settings, router.catalogue)
        names = [spec.name for spec in specs]
        assert count_leaderless(router.admin, names) == {}
        cluster.kill(1)
        wait_for(lambda: count_leaderless(router.admin, names), 60, "the cluster notices")

        assert partition_mismatches(specs, existing_partitions(router.admin)) == []
        worker = router.start()
        wait_for(lambda: worker.logged("partitions_without_leader"), 60, f"it is logged; {worker.log}")
        assert worker.alive

        cluster.start(1)
        wait_for(lambda: worker.logged("partitions_led"), 60, f"it continues; {worker.log}")
        router.send(range(40))
        router.all_landed()
        assert worker.stop() == 0
    finally:
        router.close()


@contextmanager
def fleet(router: Router, log: Path) -> Iterator[Callable[[str], bool]]:
    """Run a fleet of the first LLM, and yield a function that tests whether it logged an event."""
    command = [sys.executable, "-m", "producers.fleet", "--llm", router.catalogue.names[0]]
    variables = {**os.environ, **router.variables, "OMP_NUM_THREADS": "1"}
    command += ["--cost", "reserved", "--base-url", "http://127.0.0.1:9"]
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=ROOT, env=variables, stdout=output, stderr=output) as process,
    ):
        try:
            yield lambda event: f'"event":"{event}"' in log.read_text().replace(" ", "")
        finally:
            process.kill()


def test_absent_broker_is_reported_and_the_worker_stops_without_it(
    start_cluster: ClusterStarter, small: Small, tmp_path: Path, unique: Callable[[str], str]
) -> None:
    cluster = start_cluster(1)
    router = Router(
        cluster.bootstrap_servers, small, tmp_path, unique("outage"), partitions=2, web_port=free_ports(1)[0]
    )

    def state() -> Any:
        address = f"http://127.0.0.1:{router.settings.web_port}/api/state"
        with urllib.request.urlopen(address, timeout=20) as answer:
            return orjson.loads(answer.read())

    try:
        worker = router.start(ready=True)
        router.send(range(40))
        router.all_landed()
        wait_for(lambda: state()["broker_away_since"] is None, 60, "the page shows no outage")
        with fleet(router, tmp_path / "fleet.log") as logged:
            wait_for(lambda: logged("fleet_assigned"), 60, "the fleet works")
            cluster.kill(1)
            wait_for(lambda: worker.logged("broker_away"), 60, f"the worker reports it; {worker.log}")
            wait_for(lambda: logged("broker_away"), 60, "the fleet reports it")
            assert state()["broker_away_since"] > time.time() - 60
            assert not worker.logged("lag_not_known")
            cluster.start(1)
            wait_for(lambda: worker.logged("broker_back"), 60, f"the worker reports it; {worker.log}")
            wait_for(lambda: logged("broker_back"), 60, "the fleet reports it")
        wait_for(lambda: state()["broker_away_since"] is None, 60, "the page shows no outage any more")
        router.send(range(40, 80))
        router.all_landed()

        reports = len(list(worker.events("broker_away")))
        cluster.kill(1)
        wait_for(lambda: len(list(worker.events("broker_away"))) > reports, 60, "fetches fail now")
        assert worker.stop(45) == 0, "transactions in flight are given up within the chart's grace period"
        assert worker.logged("drained")
    finally:
        router.close()
