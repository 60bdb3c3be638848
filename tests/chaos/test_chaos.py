"""The short form of `make chaos`: five faults on one broker, one of them the broker's own death.

Needs a native Apache Kafka of its own (Java; Maven once), since it kills the broker.
"""

import random
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.campaign import Result, one_round, say
from tests.conftest import ClusterStarter
from tests.end_to_end.data import make_small

FAULTS = (
    ("kill", "warm-up"),
    ("freeze", "settlement"),
    ("stop", "re-solving"),
    ("broker", "routing"),
    ("kill_all", "roll-over"),
)


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
        for kind, phase in FAULTS:
            this.fault(kind, phase)
            this.settle_down(20)
        result = this.conclude()
    assert result.fine, result.broken
    assert result.faults == 5
    assert Counter({kind: result.kinds[kind] for kind, _ in FAULTS}) == Counter(kind for kind, _ in FAULTS)
    assert result.phases == Counter(phase for _, phase in FAULTS), "each met what it was meant for"
    assert result.queries > 0


def test_the_line_tells_of_every_invariant_and_of_what_was_met() -> None:
    result = Result(faults=2, phases=Counter({"routing": 2}), kinds=Counter(kill=2), seconds=[1.0, 4.0])
    line = result.to_dict()
    assert list(line)[:8] == [
        "faults", "queries", "missing", "twice", "overspent", "ledger_differs", "seconds_to_recover_p50",
        "seconds_to_recover_max",
    ]  # fmt: skip
    assert (line["fine"], line["phases"]["routing"], line["kinds"]) == (True, 2, {"kill": 2})
    assert result.seldom(1) == ["warm-up", "re-solving", "settlement", "roll-over"]
    result.counts["rights"] = 1
    line = result.to_dict()
    assert (line["fine"], line["missing"], line["ledger_differs"]) == (False, 0, 0)
