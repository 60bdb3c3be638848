"""Records of running brokers: kept, read again, and swept away when their owner is gone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.broker import BrokerError, record
from infra.broker.native import sweep
from infra.broker.processes import ProcessId, spawn
from infra.broker.record import Record, folder_of, forget, load, load_all


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "BROKERS", tmp_path)


def test_what_is_saved_is_loaded() -> None:
    me = ProcessId.of(os.getpid())
    kept = Record("mine", "native", "127.0.0.1:1,127.0.0.1:2", (me, ProcessId(1, 2.5)), owner=me)
    kept.save()
    assert load("mine") == kept
    assert list(load_all()) == [kept]
    forget("mine")
    assert load("mine") is None
    assert list(load_all()) == []


def test_the_abandoned_are_swept_and_the_others_left(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = ProcessId.of(gone.pid)
    gone.communicate(b"\n")
    orphan = spawn([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path / "log")
    Record("orphan", "native", "127.0.0.1:1", (orphan,), owner).save()
    Record("owned", "native", "127.0.0.1:2", (), ProcessId.of(os.getpid())).save()
    Record("staying", "native", "127.0.0.1:3").save()
    sweep()
    assert not orphan.alive
    assert [kept.name for kept in load_all()] == ["owned", "staying"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "-x"])
def test_names_that_could_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(BrokerError, match="use lower-case letters"):
        folder_of(name)
