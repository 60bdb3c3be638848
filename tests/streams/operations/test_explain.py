"""Explanations of decisions that lanes made on a broker."""

import re
from itertools import pairwise
from pathlib import Path

import orjson
import pytest

from routing.budgets.money import to_usd
from streams.__main__ import main
from streams.commands.explain import text
from streams.messages.outcome import (
    Outcome,
    encode_outcome,
)
from streams.operations.explain import explain
from tests.streams.conftest import BUDGETS
from tests.streams.stepped_router import MODELS, SteppedRouter, make_estimating, prompt_of


def explained(stepped: SteppedRouter, identity: str) -> dict:
    return explain(stepped.settings, stepped.estimating, identity)


def by_name(decision: dict) -> dict[str, dict]:
    return {model["name"]: model for model in decision["models"]}


def test_explain_of_all_decisions_recomputes_the_same_choice(stepped: SteppedRouter, read_topics):
    """Over all queries: where it went, what it cost, and that the ledger goes on from one to the next."""
    decisions: dict[int, list[dict]] = {0: [], 1: [], 2: []}
    stages = set()
    for lane in (0, 1):
        for i in range(12):
            explanation = explained(stepped, f"q{lane}-{i}")
            assert explanation["prompt"] == prompt_of(f"q{lane}-{i}")
            last = explanation["decisions"][-1]
            assert last["stage"] in ("routed", "unserved")
            assert [decision["stage"] for decision in explanation["decisions"][:-1]] in ([], ["deferred"])
            assert last["pool"] == (len(explanation["decisions"]) == 2)
            stages.update(decision["stage"] for decision in explanation["decisions"])
            for decision in explanation["decisions"]:
                assert decision["agrees"] is True
                decisions[decision["lane"]].append(decision)
    assert stages == {"routed", "unserved", "deferred"}
    assert all(
        "routed" in [decision["stage"] for decision in lane_decisions]
        for lane_decisions in decisions.values()
    )
    written = {}
    for slug in ("small", "vendor-middle", "large"):
        for message in read_topics([stepped.topics.llm(slug)]):
            fields = orjson.loads(message.value())
            written.setdefault(fields["id"], []).append(fields["routing"])
    spent = dict.fromkeys(MODELS, 0.0)
    for lane, lane_decisions in decisions.items():
        lane_decisions.sort(key=lambda decision: decision["offset"])
        for one, following in pairwise(lane_decisions):
            if one["transaction"] == following["transaction"]:
                for name, model in by_name(one).items():
                    assert by_name(following)[name]["available_before"] == model["available_after"]
        for decision in lane_decisions:
            models = by_name(decision)
            if decision["stage"] == "routed":
                chosen = models[decision["model"]]
                assert chosen["chosen"]
                assert chosen["can_pay"]
                assert chosen["available_before"] - chosen["available_after"] == pytest.approx(
                    chosen["charge"]
                )
                routing = next(
                    r
                    for rs in written.values()
                    for r in rs
                    if (r["partition"], r["offset"]) == (lane, decision["offset"])
                )
                assert decision["recorded"]["cost"] == pytest.approx(chosen["charge"], rel=1e-9)
                assert (routing["model"], routing["plan"]) == (decision["model"], decision["plan"]["version"])
                spent[decision["model"]] += chosen["charge"]
            else:
                assert decision["model"] is None
                best = max(decision["models"], key=lambda model: model["score"])
                assert not best["can_pay"] or not best["worth"]
    again = explained(stepped, "again")["decisions"]
    for decision in again:
        if decision["stage"] == "routed":
            spent[decision["model"]] += by_name(decision)[decision["model"]]["charge"]
    for i, name in enumerate(MODELS):
        reserved = sum(int(stepped.lane(lane).record.account.reserved[i]) for lane in (0, 1, 2))
        assert spent[name] == pytest.approx(float(to_usd(reserved)))
        assert spent[name] <= BUDGETS[name]


def test_explain_returns_the_nearest_history_rows(stepped: SteppedRouter):
    explanation = explained(stepped, "q0-0")["decisions"][0]
    vector = stepped.estimating.embedder.embed([prompt_of("q0-0")]).embeddings[0]
    similarity = stepped.estimating.history.embeddings @ vector

    assert len(explanation["neighbours"]) == 10
    assert explanation["neighbours"][0]["similarity"] == pytest.approx(float(similarity.max()))
    assert explanation["neighbours"][0]["id"] == f"h{int(similarity.argmax())}"
    assert set(explanation["neighbours"][0]["quality"]) == set(MODELS)
    assert explanation["estimated_by"].startswith("history ")


def test_explain_of_a_repeated_id_returns_all_decisions(stepped: SteppedRouter):
    ends = [d for d in explained(stepped, "again")["decisions"] if d["stage"] != "deferred"]

    assert len(ends) == 2
    assert ends[0]["at"] < ends[1]["at"]


def test_explain_of_rejected_waiting_and_unknown_queries(stepped: SteppedRouter):
    refused = explained(stepped, "no prompt")["decisions"]
    waiting = explained(stepped, "late")["decisions"]

    assert [(d["stage"], d["lane"], d["reason"]) for d in refused] == [
        ("refused", 0, "prompt: is missing; must be a text that is not empty")
    ]
    assert [(d["stage"], d["lane"], d["agrees"]) for d in waiting] == [("waiting", 1, None)]
    with pytest.raises(LookupError, match="'unknown' is on no topic"):
        explained(stepped, "unknown")


def test_explain_with_an_outcome_returns_it(stepped: SteppedRouter):
    routed = next(
        d for i in range(12) for d in explained(stepped, f"q1-{i}")["decisions"] if d["stage"] == "routed"
    )
    identity = orjson.loads(read_found(stepped, routed["found"]))["id"]
    assert routed["outcome"] is None
    outcome = Outcome(identity, routed["model"], 0.00025, 0.75, routed["lane"], routed["offset"])
    stepped.send_raw(stepped.topics.outcomes, encode_outcome(outcome), routed["lane"])

    explanation = explained(stepped, identity)["decisions"][-1]["outcome"]

    assert (explanation["cost"], explanation["quality"], explanation["model"]) == (
        0.00025,
        0.75,
        routed["model"],
    )


def test_explain_with_another_history_reports_the_difference(stepped: SteppedRouter):
    other = make_estimating(means=(-5.0, -5.0, -5.0))
    stages = [
        decision["agrees"]
        for i in range(2)
        for decision in explain(stepped.settings, other, f"q0-{i}")["decisions"]
    ]

    assert False in stages


def test_explain_command_prints_the_decision(
    stepped: SteppedRouter,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
):
    for name, value in stepped.variables().items():
        monkeypatch.setenv(name, value)

    assert main(["explain", "q0-3", "--json", "--recorded-only"]) == 0
    explanation = orjson.loads(capsys.readouterr().out)
    assert main(["explain", "q0-3"]) == 0
    printed = capsys.readouterr()
    assert main(["explain", "unknown", "--hours", "1"]) == 1

    full = explained(stepped, "q0-3")
    assert (
        explanation["decisions"][0]["models"][0]["available_before"]
        == full["decisions"][0]["models"][0]["available_before"]
    )
    assert explanation["decisions"][0]["agrees"] is None or explanation["decisions"][0]["pool"]
    assert "note: without estimates and neighbours: history: not set" in printed.err
    assert "available before" in printed.out
    shown = text(full)
    assert re.search(r"^\* +(small|vendor/middle|large) ", shown, re.MULTILINE)
    assert "recomputed decision is the same" in shown
    assert "nearest in the history" in shown
    assert "unknown" in capsys.readouterr().err


def read_found(stepped: SteppedRouter, place: str) -> bytes:
    topic, partition, offset = re.fullmatch(r"(.+)\[(\d+)\]@(\d+)", place).groups()  # type: ignore[union-attr]
    from streams.kafka.clients import reader_config
    from streams.kafka.scanner import Scanner

    with Scanner(reader_config(stepped.settings)) as scanner:
        message = scanner.message_at(topic, int(partition), int(offset))
    assert message is not None
    return message.value() or b""
