import pytest
from confluent_kafka import KafkaError, KafkaException

from routing.policy.account import Account
from streams.ledger.record import LedgerRecord
from streams.router import deleted_queries
from streams.router.deleted_queries import count_deleted
from tests.streams.memory_topics import settings_of


@pytest.mark.parametrize(
    ("read_to", "sampled", "start", "lost"),
    [
        # the group is past the markers after the last query
        (15, 10, 12, 0),
        (12, 10, 12, 0),
        # nothing is known of what was deleted
        (None, 10, 12, 2),
        (10, 10, 12, 2),
        (11, 10, 12, 2),
        # queries that were sampled and waited for prices are lost, markers after them are not
        (20, 14, 16, 4),
        (20, 14, 12, 2),
    ],
)
def test_count_deleted_leaves_out_what_the_group_has_passed(
    monkeypatch: pytest.MonkeyPatch, read_to: int | None, sampled: int, start: int, lost: int
) -> None:
    record = LedgerRecord(0, (), Account.fresh(0, 0), next=10, sampled=sampled)
    offsets = {} if read_to is None else {3: read_to}
    monkeypatch.setattr(deleted_queries, "read_group_offsets", lambda *given: offsets)
    assert count_deleted(settings_of(), record, "queries", 3, start) == lost


def test_count_deleted_counts_all_offsets_when_the_group_is_not_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*given: object) -> dict[int, int]:
        raise KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))

    monkeypatch.setattr(deleted_queries, "read_group_offsets", fail)
    record = LedgerRecord(0, (), Account.fresh(0, 0), next=10)
    assert count_deleted(settings_of(), record, "queries", 3, 12) == 2
