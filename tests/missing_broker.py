"""What becomes of a test whose broker cannot be had on this machine."""

import os
from typing import NoReturn

import pytest


def no_broker(reason: object) -> NoReturn:
    """Skip the test; but where CI runs it, fail: a run without the stream's tests must not look like one."""
    told = f"no Kafka for this test: {reason}"
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(f"{told} (CI is set, so this is no skip)", pytrace=False)
    pytest.skip(told)
