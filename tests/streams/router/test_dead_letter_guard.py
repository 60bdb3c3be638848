"""The guard: a run of dead letters stops routing, single ones do not."""

import pytest

from streams.router.dead_letter_guard import DeadLetterGuard


def stops_after(guard: DeadLetterGuard, batches: list[tuple[int, int]]) -> int | None:
    """Return the number of the batch (from 0) at which routing stops."""
    return next((n for n, batch in enumerate(batches) if guard.observe(*batch)), None)


@pytest.mark.parametrize(
    ("limit", "batches", "stop"),
    [
        (1.0, [(10, 10)] * 20, 9),
        (1.0, [(10, 9)] * 50, None),
        (0.5, [(10, 5)] * 20, 9),
        (0.5, [(10, 4)] * 50, None),
        (0.0, [(10, 10)] * 50, None),
        (1.0, [(10, 0)] + [(10, 10)] * 20, 10),
        (1.0, [(500, 500)], 0),
        (1.0, [(99, 99)], None),
    ],
    ids=["all", "nearly-all", "half", "below", "off", "deploy-while-running", "large-batch", "too-few"],
)
def test_guard_stops_when_a_full_window_reaches_the_limit(limit, batches, stop):
    assert stops_after(DeadLetterGuard(limit, window=100), batches) == stop


def test_reason_names_the_share_the_setting_and_the_fix():
    guard = DeadLetterGuard(0.5, window=4)
    guard.observe(4, 3)
    assert guard.reason.startswith("3 of the last 4 queries became dead letters, and PORT_DLQ_LIMIT is 0.5")
    assert "`dlq list`" in guard.reason
