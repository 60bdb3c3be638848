"""The topics that the checker is measured on are those of a router that did everything right."""

from benchmarks.audit import BATCH, TOPICS, MadeUp
from streams.audit.check import check


def test_audit_synthetic_topics_have_no_findings():
    verdict = check(MadeUp(4 * BATCH, 2), TOPICS, complete=True)
    assert verdict.fine, verdict.text()
    assert (verdict.queries, verdict.served) == (4 * BATCH, 4 * BATCH)
