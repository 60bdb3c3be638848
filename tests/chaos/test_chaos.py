"""The short form of `make chaos`: five faults on one broker, one of which kills the broker.

Needs a separate native Apache Kafka (Java; Maven once), because it kills the broker.
"""

import random
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.budgets import add_all_kinds
from tests.chaos.campaign import one_round, say
from tests.chaos.result import Result
from tests.conftest import ClusterStarter
from tests.end_to_end.small_dataset import make_small

FAULTS = (
    ("kill", "warm-up"),
    ("freeze", "settlement"),
    ("stop", "re-solving"),
    ("broker", "routing"),
    ("kill_all", "roll-over"),
)


@pytest.mark.chaos
def test_round_of_five_faults_loses_duplicates_and_overspends_nothing(
    start_cluster: ClusterStarter, tmp_path: Path
) -> None:
    small = make_small(tmp_path / "data", "open_llm_v2", 1000, 1500, factor=4.0, models=6)
    add_all_kinds(small)
    with one_round(
        start_cluster(1),
        small,
        tmp_path,
        random.Random(3),
        kinds=("kill",),
        workers=2,
        rate=200.0,
        say=say,
        partitions=4,
        horizon=1500,
        eps=0.2,
        resolve="geometric",
    ) as current_round:
        for kind, phase in FAULTS:
            current_round.fault(kind, phase)
            current_round.settle_down(20)
        result = current_round.conclude()
    assert result.fine, result.broken
    assert result.faults == 5
    assert Counter({kind: result.kinds[kind] for kind, _ in FAULTS}) == Counter(kind for kind, _ in FAULTS)
    assert result.phases == Counter(phase for _, phase in FAULTS), "each fault met its phase"
    assert result.queries > 0


def test_result_line_has_every_invariant_and_phase() -> None:
    result = Result(
        faults=2,
        phases=Counter({"routing": 2}),
        kinds=Counter(kill=1, broker=1),
        recoveries=[("kill", 1.0), ("broker", 4.0)],
    )
    line = result.to_dict()
    assert list(line)[:8] == [
        "faults",
        "queries",
        "missing",
        "twice",
        "overspent",
        "ledger_differs",
        "seconds_to_recover_p50",
        "seconds_to_recover_max",
    ]
    assert (line["fine"], line["phases"]["routing"], line["kinds"]) == (True, 2, {"kill": 1, "broker": 1})
    assert line["seconds_to_recover_p50"] == 2.5
    assert line["seconds_to_recover_p50_without_brokers"] == 1.0
    assert Result.of(result.details()).details() == result.details()
    assert result.phases_below(1) == ["warm-up", "re-solving", "settlement", "roll-over"]
    result.counts["rights"] = 1
    line = result.to_dict()
    assert (line["fine"], line["missing"], line["ledger_differs"]) == (False, 0, 0)
