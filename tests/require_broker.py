"""Outcome of tests whose broker is not available on this machine."""

import os
from typing import NoReturn

import pytest


def no_broker(reason: object) -> NoReturn:
    """Skip the test, or fail it in CI, where a run without the broker's tests must not succeed."""
    message = f"no Kafka for this test: {reason}"
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(f"{message} (CI is set, so the test fails)", pytrace=False)
    pytest.skip(message)
