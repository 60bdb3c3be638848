"""Measurements of LLMs without a history."""

from dataclasses import replace

import numpy as np
import pytest

from routing.policy.account import Account
from streams.ledger.record import LedgerRecord
from streams.ledger.reported_quality import ReportedQuality
from streams.planner.measurements import (
    list_cost,
    measure_unknown_models,
)
from tests.streams.sample_cluster import MODELS

WIDE = (*MODELS, "new")


def test_measure_unknown_models_without_recent_settlements_uses_reported_costs():
    """Both periods that ledgers keep are without the LLM, and it may have no list price."""
    reported = {"new": ReportedQuality(40, 30.0, 28.0, 0.08)}
    ledger = replace(LedgerRecord.fresh(0), models=WIDE, account=Account.fresh(5, 3), reported=reported)
    measured = measure_unknown_models(["new"], {}, {0: ledger})
    assert measured["new"] == [40, pytest.approx(0.75), pytest.approx(0.002)]
    recent = replace(ledger.account, settled=np.array([0, 0, 30 * 10**9]), settlements=np.array([0, 0, 10]))
    measured = measure_unknown_models(["new"], {}, {0: replace(ledger, account=recent)})
    assert measured["new"][2] == pytest.approx(0.003)
    assert measure_unknown_models(["new"], {}, {})["new"] == [0, 0, list_cost(None)]
