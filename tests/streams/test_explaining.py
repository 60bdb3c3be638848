"""An explanation is what lanes decided, made again from what is written down, on a real broker."""

import re
from itertools import pairwise
from pathlib import Path

import orjson
import pytest

from routing.money import to_usd
from streams.__main__ import main
from streams.commands.explain import text
from streams.explaining import explain
from streams.messages import Outcome, encode_outcome
from tests.streams.conftest import BUDGETS
from tests.streams.desks import MODELS, Desks, make_estimating, prompt_of


def explained(desks: Desks, identity: str) -> dict:
    return explain(desks.settings, desks.estimating, identity)


def by_name(decision: dict) -> dict[str, dict]:
    return {model["name"]: model for model in decision["models"]}


def test_every_decision_comes_out_the_same(desks: Desks, read_topics):
    """Over all queries: where it went, what it cost, and that the ledger goes on from one to the next."""
    decisions: dict[int, list[dict]] = {0: [], 1: [], 2: []}
    stages = set()
    for lane in (0, 1):
        for i in range(12):
            told = explained(desks, f"q{lane}-{i}")
            assert told["prompt"] == prompt_of(f"q{lane}-{i}")
            last = told["decisions"][-1]
            assert last["stage"] in ("routed", "unserved")
            assert [decision["stage"] for decision in told["decisions"][:-1]] in ([], ["deferred"])
            assert last["pool"] == (len(told["decisions"]) == 2)
            stages.update(decision["stage"] for decision in told["decisions"])
            for decision in told["decisions"]:
                assert decision["agrees"] is True
                decisions[decision["lane"]].append(decision)
    assert stages == {"routed", "unserved", "deferred"}
    assert all("routed" in [decision["stage"] for decision in made] for made in decisions.values())
    written = {}
    for slug in ("small", "vendor-middle", "large"):
        for message in read_topics([desks.topics.llm(slug)]):
            fields = orjson.loads(message.value())
            written.setdefault(fields["id"], []).append(fields["routing"])
    spent = dict.fromkeys(MODELS, 0.0)
    for lane, made in decisions.items():
        made.sort(key=lambda decision: decision["offset"])
        for one, following in pairwise(made):
            if one["transaction"] == following["transaction"]:
                for name, model in by_name(one).items():
                    assert by_name(following)[name]["available_before"] == model["available_after"]
        for decision in made:
            models = by_name(decision)
            if decision["stage"] == "routed":
                chosen = models[decision["model"]]
                assert chosen["chosen"]
                assert chosen["can_pay"]
                assert chosen["available_before"] - chosen["available_after"] == pytest.approx(
                    chosen["charge"]
                )
                routing = next(r for rs in written.values() for r in rs
                               if (r["partition"], r["offset"]) == (lane, decision["offset"]))  # fmt: skip
                assert decision["recorded"]["cost"] == pytest.approx(chosen["charge"], rel=1e-9)
                assert (routing["model"], routing["plan"]) == (decision["model"], decision["plan"]["version"])
                spent[decision["model"]] += chosen["charge"]
            else:
                assert decision["model"] is None
                best = max(decision["models"], key=lambda model: model["score"])
                assert not best["can_pay"] or not best["worth"]
    again = explained(desks, "again")["decisions"]
    for decision in again:
        if decision["stage"] == "routed":
            spent[decision["model"]] += by_name(decision)[decision["model"]]["charge"]
    for i, name in enumerate(MODELS):
        reserved = sum(int(desks.lane(lane).record.account.reserved[i]) for lane in (0, 1, 2))
        assert spent[name] == pytest.approx(float(to_usd(reserved)))
        assert spent[name] <= BUDGETS[name]


def test_neighbours_are_the_histories_nearest(desks: Desks):
    told = explained(desks, "q0-0")["decisions"][0]
    vector = desks.estimating.embedder.embed([prompt_of("q0-0")]).embeddings[0]
    similarity = desks.estimating.history.embeddings @ vector

    assert len(told["neighbours"]) == 10
    assert told["neighbours"][0]["similarity"] == pytest.approx(float(similarity.max()))
    assert told["neighbours"][0]["id"] == f"h{int(similarity.argmax())}"
    assert set(told["neighbours"][0]["quality"]) == set(MODELS)
    assert told["estimated_by"].startswith("history ")


def test_an_id_that_was_sent_again_has_all_its_decisions(desks: Desks):
    ends = [d for d in explained(desks, "again")["decisions"] if d["stage"] != "deferred"]

    assert len(ends) == 2
    assert ends[0]["at"] < ends[1]["at"]


def test_refused_waiting_and_unknown(desks: Desks):
    refused = explained(desks, "no prompt")["decisions"]
    waiting = explained(desks, "late")["decisions"]

    assert [(d["stage"], d["lane"], d["reason"]) for d in refused] == [
        ("refused", 0, "prompt: is missing; must be a text that is not empty")
    ]
    assert [(d["stage"], d["lane"], d["agrees"]) for d in waiting] == [("waiting", 1, None)]
    with pytest.raises(LookupError, match="'nobody' is on no topic"):
        explained(desks, "nobody")


def test_an_outcome_is_shown(desks: Desks):
    routed = next(
        d for i in range(12) for d in explained(desks, f"q1-{i}")["decisions"] if d["stage"] == "routed"
    )
    identity = orjson.loads(read_found(desks, routed["found"]))["id"]
    assert routed["outcome"] is None
    outcome = Outcome(identity, routed["model"], 0.00025, 0.75, routed["lane"], routed["offset"])
    desks.send_raw(desks.topics.outcomes, encode_outcome(outcome), routed["lane"])

    told = explained(desks, identity)["decisions"][-1]["outcome"]

    assert (told["cost"], told["quality"], told["model"]) == (0.00025, 0.75, routed["model"])


def test_another_history_is_told(desks: Desks):
    other = make_estimating(means=(-5.0, -5.0, -5.0))
    stages = [
        decision["agrees"]
        for i in range(2)
        for decision in explain(desks.settings, other, f"q0-{i}")["decisions"]
    ]

    assert False in stages


def test_the_command(
    desks: Desks, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    for name, value in desks.variables().items():
        monkeypatch.setenv(name, value)

    assert main(["explain", "q0-3", "--json", "--recorded-only"]) == 0
    told = orjson.loads(capsys.readouterr().out)
    assert main(["explain", "q0-3"]) == 0
    printed = capsys.readouterr()
    assert main(["explain", "nobody", "--hours", "1"]) == 1

    full = explained(desks, "q0-3")
    assert (
        told["decisions"][0]["models"][0]["available_before"]
        == full["decisions"][0]["models"][0]["available_before"]
    )
    assert told["decisions"][0]["agrees"] is None or told["decisions"][0]["pool"]
    assert "note: without estimates and neighbours: history: not set" in printed.err
    assert "available before" in printed.out
    shown = text(full)
    assert re.search(r"^\* (small|vendor/middle|large) ", shown, re.MULTILINE)
    assert "comes out the same" in shown
    assert "nearest in the history" in shown
    assert "nobody" in capsys.readouterr().err


def read_found(desks: Desks, place: str) -> bytes:
    topic, partition, offset = re.fullmatch(r"(.+)\[(\d+)\]@(\d+)", place).groups()  # type: ignore[union-attr]
    from streams.kafka import reader_config
    from streams.scanning import Scanner

    with Scanner(reader_config(desks.settings)) as scanner:
        message = scanner.message_at(topic, int(partition), int(offset))
    assert message is not None
    return message.value() or b""
