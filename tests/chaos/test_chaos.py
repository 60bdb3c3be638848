"""The short form of `make chaos`: five faults on one broker, one of them the broker's own death.

Needs a native Apache Kafka of its own (Java; Maven once), since it kills the broker.
"""

import random
from pathlib import Path

import pytest

from tests.chaos.campaign import one_round, say
from tests.conftest import ClusterStarter
from tests.end_to_end.data import make_small


@pytest.mark.chaos
def test_five_faults_leave_every_query_in_one_place_and_every_budget_whole(
    start_cluster: ClusterStarter, tmp_path: Path
) -> None:
    small = make_small(tmp_path / "data", "open_llm_v2", 1000, 1500, factor=4.0, models=6)
    with one_round(
        start_cluster(1), small, tmp_path, random.Random(3),
        kinds=("kill",), workers=2, rate=200.0, say=say,
        partitions=4, horizon=1500, eps=0.2, resolve="geometric",
    ) as this:  # fmt: skip
        for kind, phase in (
            ("kill", "warm-up"),
            ("freeze", "settlement"),
            ("stop", "re-solving"),
            ("broker", "routing"),
            ("kill_all", "roll-over"),
        ):
            this.fault(kind, phase)
            this.settle_down(20)
        result = this.conclude()
    assert result.fine, result.broken
    assert result.faults == 5
    assert result.queries > 0
