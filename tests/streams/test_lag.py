"""How far the router is behind, by what the broker has told so far."""

from streams.lag import LagReader
from streams.settings import Settings


def test_what_the_broker_has_not_told_yet_is_not_told_as_zero():
    """Old letters would look like new ones as soon as it tells: alerts go by how the number grows."""
    reader = LagReader(Settings(), None, False)  # type: ignore[arg-type]
    topics = reader._settings.topics
    assert reader.lag({}).dead_letters == {}
    reader._ends[topics.dlq, 0] = 5000
    assert reader.lag({}).dead_letters == {}
    reader._starts[topics.dlq, 0] = 4000
    assert reader.lag({}).dead_letters == {"queries": 1000}
