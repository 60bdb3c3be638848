"""The circuit breaker: pauses LLMs that fail, tests them after a back-off, and ends the pause."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import structlog

from routing.arrays import IntArray
from routing.policy.pause import Pause
from streams.config.settings import Settings
from streams.ledger.record import LedgerRecord
from streams.messages.pause import ManualPause

log = structlog.get_logger(__name__)


@dataclass
class _Recent:
    """Results of one LLM in the sliding window, and since its tests began."""

    results: deque[tuple[float, int, int]] = field(default_factory=deque)
    """Time, successes and failures of each increment."""
    tested: int = 0
    """Successes since the tests began."""

    def counts(self, since: float) -> tuple[int, int]:
        """Return successes and failures since a time; forget older ones."""
        while self.results and self.results[0][0] < since:
            self.results.popleft()
        return sum(one[1] for one in self.results), sum(one[2] for one in self.results)


class CircuitBreaker:
    """Pauses by LLM, from the ledgers' counts of settled and failed queries.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._counted: dict[tuple[int, int], tuple[IntArray, IntArray]] = {}
        """Settled and failed queries by lane and period, as counted last."""
        self._recent: dict[str, _Recent] = {}
        self._pauses: dict[str, Pause] = {}
        self._waiting: dict[str, Pause] = {}
        """Pauses because of backlogs."""
        self._started = False

    def resume(self, paused: Mapping[str, Pause]) -> None:
        """Take over the pauses of the plan in force."""
        self._pauses = {name: pause for name, pause in paused.items() if pause.backoff}
        self._counted, self._recent, self._started = {}, {}, False

    def update(
        self, now: float, ledgers: Mapping[int, LedgerRecord], manual: Mapping[str, ManualPause]
    ) -> dict[str, Pause]:
        """Return all pauses at a time.

        Parameters
        ----------
        now : float
            Seconds since the epoch.
        ledgers : mapping of int to LedgerRecord
            By lane.
        manual : mapping of str to ManualPause
            By LLM, as operators set them.
        """
        failing = self._count(now, ledgers)
        for name, recent in self._recent.items():
            self._step(name, recent, now, name in failing)
        self._watch_backlogs(now, ledgers)
        by_hand: dict[str, Pause] = {}
        for name, order in manual.items():
            if order.until is None or order.until > now:
                by_hand[name] = Pause("paused by hand", order.since, order.until)
            elif order.resumes and name in self._pauses and order.since > self._pauses[name].since:
                self._end_pause(name, now, "by hand")
        return self._pauses | self._waiting | by_hand

    def _count(self, now: float, ledgers: Mapping[int, LedgerRecord]) -> set[str]:
        """Record what the ledgers counted since the last call; return the LLMs with failures."""
        failing: set[str] = set()
        counted: dict[tuple[int, int], tuple[IntArray, IntArray]] = {}
        for lane, ledger in ledgers.items():
            for account in ledger.accounts:
                key = lane, account.period
                counted[key] = account.settlements, account.failed
                none = np.zeros(0, dtype=np.int64)
                old_settled, old_failed = self._counted.get(key, (none, none))
                if not self._started or (account.settlements is old_settled and account.failed is old_failed):
                    continue
                for i, name in enumerate(ledger.models[: len(account.settlements)]):
                    before = (int(old_settled[i]), int(old_failed[i])) if i < len(old_settled) else (0, 0)
                    bad = int(account.failed[i]) - before[1]
                    good = int(account.settlements[i]) - before[0] - bad
                    if good or bad:
                        self._recent.setdefault(name, _Recent()).results.append((now, good, bad))
                        self._recent[name].tested += good
                    if bad:
                        failing.add(name)
        self._counted, self._started = counted, True
        return failing

    def _step(self, name: str, recent: _Recent, now: float, failing: bool) -> None:
        s, pause = self._settings, self._pauses.get(name)
        good, bad = recent.counts(now - s.breaker_window_seconds)
        if pause is None:
            if bad >= s.breaker_failures and bad >= s.breaker_threshold * (good + bad):
                reason = f"{bad} of {good + bad} queries failed in {s.breaker_window_seconds:g} s"
                self._close(name, reason, now, s.breaker_backoff_seconds)
        elif pause.share == 0:
            if pause.until is not None and now >= pause.until:
                recent.results.clear()
                recent.tested = 0
                self._pauses[name] = replace(
                    pause, share=s.breaker_test_share, until=None, reason=f"tested; {pause.reason}"
                )
                log.info("llm_tested", model=name, share=s.breaker_test_share)
        elif failing:
            longer = min(2 * pause.backoff, s.breaker_max_backoff_seconds)
            self._close(name, "a test failed", now, longer)
        elif recent.tested >= s.breaker_successes:
            self._end_pause(name, now, f"after {recent.tested} successful tests")

    def _end_pause(self, name: str, now: float, reason: str) -> None:
        pause = self._pauses.pop(name)
        if name in self._recent:
            self._recent[name].results.clear()
        log.info("llm_resumed", model=name, reason=reason, seconds=round(now - pause.since, 1))

    def _close(self, name: str, reason: str, now: float, backoff: float) -> None:
        since = self._pauses[name].since if name in self._pauses else now
        self._pauses[name] = Pause(reason, since, now + backoff, 0.0, backoff)
        log.error("llm_paused", model=name, reason=reason, test_in_seconds=backoff)

    def _watch_backlogs(self, now: float, ledgers: Mapping[int, LedgerRecord]) -> None:
        """Pause LLMs whose oldest query waits too long, and resume the others."""
        limit = self._settings.max_backlog_seconds
        if limit is None:
            return
        oldest: dict[str, float] = {}
        for ledger in ledgers.values():
            for name, at in ledger.oldest_open.items():
                oldest[name] = min(at, oldest.get(name, at))
        late = {name for name, at in oldest.items() if now - at > limit}
        for name in late - self._waiting.keys():
            self._waiting[name] = Pause(f"its oldest query waits for more than {limit:g} s", now)
            log.error("llm_paused", model=name, reason=self._waiting[name].reason)
        for name in self._waiting.keys() - late:
            pause = self._waiting.pop(name)
            log.info("llm_resumed", model=name, reason="its backlog", seconds=round(now - pause.since, 1))
