"""Errors of an endpoint, and how long it asks to wait."""

from email.utils import formatdate
from time import time

from producers.fleet.endpoint_errors import retry_after


def test_retry_after_dates_return_seconds():
    assert 55 < (retry_after({"retry-after": formatdate(time() + 60, usegmt=True)}) or 0) <= 60
    assert retry_after({"retry-after": formatdate(time() - 60)}) == 0
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({"retry-after": "-5"}) is None


def test_retry_after_points_in_time_return_seconds():
    assert 55 < (retry_after({"retry-after": str(time() + 60)}) or 0) <= 60
    assert 55 < (retry_after({"retry-after": str(int((time() + 60) * 1000))}) or 0) <= 60
    assert retry_after({"retry-after": "1700000000"}) == 0
    assert retry_after({"retry-after": "86400"}) == 86400
    assert retry_after({"retry-after": "34.5s"}) == 34.5
