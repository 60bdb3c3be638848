"""Calls that do not return: the process ends with status 1, or the call is abandoned."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.kafka import bounded_clients
from streams.kafka.bounded_clients import Producer
from streams.kafka.time_limits import TICK_SECONDS, Abandonable, CallOverdue, Watchdog
from tests.conftest import ROOT

WAIT = 30.0


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Lets calls return that a test left standing."""
    event = threading.Event()
    yield event
    event.set()


class Ends:
    """Calls for which a watchdog would have ended the process."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.came = threading.Event()

    def __call__(self, call: str, seconds: float) -> None:
        self.calls.append(call)
        self.came.set()


def run(program: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_time_limit_overdue_call_ends_the_process_with_its_name() -> None:
    program = run(
        "import threading\n"
        "from streams.config.log_setup import configure_logs\n"
        "from streams.kafka.time_limits import time_limit\n"
        "configure_logs()\n"
        "with time_limit('Consumer.close', 0.1):\n"
        "    threading.Event().wait()\n"
    )
    _, errors = program.communicate(timeout=WAIT)
    assert program.returncode == 1
    assert '"call":"Consumer.close"' in errors
    assert '"event":"call_overdue"' in errors


def test_time_limit_unread_log_does_not_keep_the_process_alive() -> None:
    program = run(
        "import threading, os, sys\n"
        "from streams.config.log_setup import configure_logs\n"
        "from streams.kafka.time_limits import exit_after\n"
        "configure_logs()\n"
        "os.set_blocking(2, False)\n"
        "try:\n"
        "    while True: os.write(2, b'x' * 4096)\n"
        "except BlockingIOError:\n"
        "    os.set_blocking(2, True)\n"
        "exit_after('shutdown', 0.1)\n"
        "threading.Event().wait()\n"
    )
    assert program.wait(WAIT) == 1
    program.communicate()


def test_time_limit_frozen_time_does_not_count() -> None:
    program = run(
        "import time\n"
        "from streams.kafka.time_limits import time_limit\n"
        "import sys\n"
        "with time_limit('Consumer.poll', 2.0):\n"
        "    print('begun', file=sys.stderr, flush=True)\n"
        "    time.sleep(1.0)\n"
    )
    assert program.stderr is not None
    assert program.stderr.readline() == "begun\n"
    program.send_signal(signal.SIGSTOP)
    time.sleep(4.0)
    program.send_signal(signal.SIGCONT)
    _, errors = program.communicate(timeout=WAIT)
    assert (program.returncode, errors) == (0, "")


def test_time_limit_calls_in_time_do_not_end_the_process() -> None:
    ends = Ends()
    watchdog = Watchdog(ends)
    for _ in range(3):
        with watchdog.limit("short", 0.0):
            pass
    with pytest.raises(ValueError, match="own"), watchdog.limit("fails", 0.0):
        raise ValueError("own")
    with watchdog.limit("overdue", 0.0):
        assert ends.came.wait(WAIT)
    assert ends.calls == ["overdue"]


def test_time_limit_inner_limit_suspends_the_outer() -> None:
    # a rebalance calls back within a poll, and waits for answers for as long as it may
    ends = Ends()
    watchdog = Watchdog(ends)
    with watchdog.limit("outer", TICK_SECONDS):
        with watchdog.limit("inner", WAIT):
            time.sleep(6 * TICK_SECONDS)
        assert ends.calls == []
        assert ends.came.wait(WAIT)
    assert ends.calls == ["outer"]


def test_call_within_returns_and_raises_like_the_function() -> None:
    calls = Abandonable(0, Ends())
    assert calls.call("add", WAIT, lambda a, b: a + b, 1, 2) == 3
    with pytest.raises(ZeroDivisionError):
        calls.call("divide", WAIT, lambda: 1 / 0)


def test_call_within_too_many_abandoned_calls_end_the_process(release: threading.Event) -> None:
    ends = Ends()
    calls = Abandonable(2, ends)
    for number in range(3):
        assert ends.calls == []
        with pytest.raises(CallOverdue, match=f"call {number} did not return within 0.01 s"):
            calls.call(f"call {number}", 0.01, release.wait)
    assert ends.calls == ["call 2"]


def test_call_within_calls_that_returned_late_do_not_count(release: threading.Event) -> None:
    ends = Ends()
    calls = Abandonable(1, ends)
    for _ in range(4):
        returns = threading.Event()
        with pytest.raises(CallOverdue):
            calls.call("late", 0.01, returns.wait)
        returns.set()
        for thread in threading.enumerate():
            if thread.name == "late":
                thread.join(WAIT)
    assert ends.calls == []


def test_producer_with_abandoned_call_times_out_and_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch, release: threading.Event
) -> None:
    calls = Abandonable(9, Ends())
    monkeypatch.setattr(
        bounded_clients, "call_within", lambda name, *arguments: calls.call(name, 0.01, release.wait)
    )
    producer = Producer({"bootstrap.servers": "127.0.0.1:9", "transactional.id": "t", "log_level": 0})
    with pytest.raises(KafkaException, match="send_offsets_to_transaction did not return") as raised:
        producer.send_offsets_to_transaction([], None, 15.0)
    assert raised.value.args[0].code() == KafkaError._TIMED_OUT
    with pytest.raises(KafkaException, match="was abandoned") as raised:
        producer.abort_transaction(2.0)
    assert raised.value.args[0].code() == KafkaError._STATE


@pytest.mark.parametrize("folder", ["streams", "producers"])
def test_clients_are_always_the_bounded_ones(folder: str) -> None:
    imports = re.compile(r"^from confluent_kafka[.\w]* import (\([^)]*\)|[^\n]*)", re.M)
    clients = {"Consumer", "Producer", "AdminClient"}
    unbounded = {
        str(path.relative_to(ROOT))
        for path in (ROOT / folder).rglob("*.py")
        for names in imports.findall(path.read_text())
        if clients & set(re.findall(r"\w+", names))
    }
    assert not unbounded, "import these from streams.kafka.bounded_clients, which limits their blocking calls"
