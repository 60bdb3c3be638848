"""Records of running brokers: kept, read again, and swept away when their owner is gone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.broker import state_file
from infra.broker.errors import BrokerError
from infra.broker.processes import ProcessId, spawn
from infra.broker.state_file import (
    BrokerState,
    delete_files,
    end_abandoned,
    folder_of,
    load_state,
    load_states,
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_file, "BROKERS", tmp_path)


def test_state_saved_is_loaded() -> None:
    me = ProcessId.of(os.getpid())
    state = BrokerState("mine", "native", "127.0.0.1:1,127.0.0.1:2", (me, ProcessId(1, 2.5)), owner=me)
    state.save()
    assert load_state("mine") == state
    assert list(load_states()) == [state]
    delete_files("mine")
    assert load_state("mine") is None
    assert list(load_states()) == []


def test_end_abandoned_ends_only_abandoned_brokers(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = ProcessId.of(ended.pid)
    ended.communicate(b"\n")
    orphan = spawn([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path / "log")
    BrokerState("orphan", "native", "127.0.0.1:1", (orphan,), owner).save()
    BrokerState("owned", "native", "127.0.0.1:2", (), ProcessId.of(os.getpid())).save()
    BrokerState("staying", "native", "127.0.0.1:3").save()
    end_abandoned()
    assert not orphan.alive
    assert [state.name for state in load_states()] == ["owned", "staying"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "-x"])
def test_folder_of_unsafe_names_are_rejected(name: str) -> None:
    with pytest.raises(BrokerError, match="use lower-case letters"):
        folder_of(name)
