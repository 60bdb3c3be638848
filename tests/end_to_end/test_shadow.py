"""A shadow decides live queries by another catalogue and estimator, and changes nothing.

Needs Apache Kafka (the fixture `bootstrap_servers` finds or starts it).
"""

import io
import os
from contextlib import redirect_stdout
from pathlib import Path
from unittest import mock

import orjson

from streams.__main__ import main
from tests.end_to_end.conftest import MakeRouter
from tests.end_to_end.fake_fleet import rebudgeted
from tests.end_to_end.router_under_test import Router, assert_whole
from tests.end_to_end.small_dataset import Small
from tests.end_to_end.worker_process import wait_for

SHADOW = ("--shadow", "--from", "earliest")


def report_of(stream: Router) -> dict:
    """Return the output of `python -m streams shadow report`."""
    with mock.patch.dict(os.environ, stream.variables), redirect_stdout(io.StringIO()) as out:
        main(["shadow", "report", "--json"])
    return orjson.loads(out.getvalue())


def test_shadow_decides_the_same_queries_and_charges_nothing(
    router: MakeRouter, small: Small, tmp_path: Path
) -> None:
    stream = router(partitions=2, warmup="history", period_seconds=1e6, horizon=200)
    stream.start()
    # a tenth of the budgets, other neighbours, and a warm-up of its own
    other = {"catalogue": rebudgeted(small, tmp_path, 0.1), "k": 20, "warmup": "buffer", "eps": 0.1}
    shadow = stream.start(options=SHADOW, **other)
    stream.send(range(60))
    stream.all_landed()
    report = wait_for(lambda: (r := report_of(stream))["compared"] == 60 and r, 60, "the shadow decided 60")
    assert 0 < report["agreement"] < 1
    assert report["shadow"]["served"] < report["in_force"]["served"], "it has a tenth of the money"
    assert report["shadow"]["cost_usd"] < report["in_force"]["cost_usd_by_shadow"]
    in_force = {name: counts["in_force"] for name, counts in report["by_llm"].items()}
    assert sum(in_force.values()) == sum(counts["shadow"] for counts in report["by_llm"].values()) == 60
    assert in_force == {**dict.fromkeys(in_force, 0), **count_llms(stream)}

    shadow.kill()
    stream.send(range(60, 80), tag="late-")
    stream.start(options=SHADOW, **other | {"warmup": "history"})
    stream.all_landed()
    wait_for(lambda: report_of(stream)["compared"] == 80, 60, "another process continues")
    assert_whole(stream)


def count_llms(stream: Router) -> dict[str, int]:
    """Return the number of queries that were routed to each LLM, or left unserved."""
    counts: dict[str, int] = {}
    for (landing,) in stream.landed.values():
        name = landing.model or "(unserved)"
        counts[name] = counts.get(name, 0) + 1
    return counts
