"""Fetches are answered at once while little comes, and every few milliseconds while much does."""

from streams.lanes.fetch_tuning import BUSY_BYTES, BUSY_RATE, BUSY_WAIT_MS, QUIET_WAIT_MS, FetchPace


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def fetched(rate: float, seconds: float = 1.0) -> tuple[FetchPace, Clock]:
    """A pace after so many records a second, one at a time."""
    clock = Clock()
    pace = FetchPace(clock)
    for _ in range(int(rate * seconds)):
        clock.now += 1 / rate
        pace.count(1)
    return pace, clock


def test_fetch_pace_few_records_are_answered_at_once():
    pace, _ = fetched(100)
    assert (pace.min_bytes, pace.wait_ms) == (1, QUIET_WAIT_MS)


def test_fetch_pace_many_records_are_collected():
    pace, _ = fetched(2 * BUSY_RATE)
    assert abs(pace.rate / (2 * BUSY_RATE) - 1) < 0.1
    assert (pace.min_bytes, pace.wait_ms) == (BUSY_BYTES, BUSY_WAIT_MS)


def test_fetch_pace_after_a_burst_is_quiet_again():
    pace, clock = fetched(10 * BUSY_RATE)
    clock.now += 1
    pace.count(0)
    assert (pace.min_bytes, pace.wait_ms) == (1, QUIET_WAIT_MS)
