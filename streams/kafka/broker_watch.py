"""Detection and reporting of broker outages."""

from __future__ import annotations

import asyncio
import time

from confluent_kafka import KafkaException

from streams.config.log_throttling import RecurringProblem
from streams.config.settings import Settings
from streams.kafka.bounded_clients import AdminClient
from streams.kafka.clients import client_config

METADATA_TIMEOUT_SECONDS = 3.0
PAUSE_SECONDS = 5.0


class BrokerWatch:
    """Requests metadata, which any broker can answer.

    While no broker answers, it logs `broker_away` at once and every half minute; then it logs `broker_back`.
    Error codes of other requests are ambiguous: an admin client reports "no leaders found" for an unreachable
    broker and for a partition without a leader.

    Parameters
    ----------
    settings : Settings
    admin : AdminClient
    """

    def __init__(self, settings: Settings, admin: AdminClient) -> None:
        self._topic, self._admin = settings.topics.queries, admin
        self._trouble = RecurringProblem("broker_away", "broker_back")
        self.away_since: float | None = None
        """Seconds since the epoch; None while a broker answers."""

    def check(self) -> bool:
        """Request metadata; return True if a broker answers. The call blocks."""
        try:
            self._admin.list_topics(self._topic, timeout=METADATA_TIMEOUT_SECONDS)
        except KafkaException as error:
            self.away_since = self.away_since or time.time()
            self._trouble.occurred(reason=str(error)[:200])
            return False
        self.away_since = None
        self._trouble.resolved()
        return True


async def watch_broker(settings: Settings, pause_seconds: float = PAUSE_SECONDS) -> None:
    """Check every `pause_seconds` until cancelled, in programs that have no other check."""
    watch = BrokerWatch(settings, AdminClient(client_config(settings)))
    loop = asyncio.get_running_loop()
    while True:
        await loop.run_in_executor(None, watch.check)
        await asyncio.sleep(pause_seconds)
