"""The topics that the checker is measured on are those of a router that did everything right."""

from benchmarks.checking import BATCH, TOPICS, MadeUp
from streams.checker import check


def test_the_checker_has_nothing_to_say_of_what_is_made_up():
    verdict = check(MadeUp(4 * BATCH, 2), TOPICS, complete=True)
    assert verdict.fine, verdict.text()
    assert (verdict.queries, verdict.served) == (4 * BATCH, 4 * BATCH)
