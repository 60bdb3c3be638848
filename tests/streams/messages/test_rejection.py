"""Reasons of rejections: their texts, and how they are recognised."""

import re

import pytest

from streams.messages.rejection import RejectedMessage, RejectionReason, find_reason, reason_table

PLACEHOLDER = re.compile(r"\{(\w+)\}")


def rejected(reason: RejectionReason, field: str = "messages[3].content") -> RejectedMessage:
    return RejectedMessage(reason, field, **dict.fromkeys(PLACEHOLDER.findall(reason.text), "7: a {b} #"))


@pytest.mark.parametrize("reason", RejectionReason)
def test_rejected_message_of_any_reason_has_its_text_and_stage(reason: RejectionReason):
    error = rejected(reason)
    assert (error.reason, error.stage, error.field) == (reason, reason.stage, "messages[3].content")
    assert str(error) == f"messages[3].content: {error.text}"
    assert not PLACEHOLDER.search(error.text.replace("{b}", ""))


@pytest.mark.parametrize(
    "reason", [one for one in RejectionReason if one is not RejectionReason.INVALID_MESSAGES]
)
def test_find_reason_message_of_any_reason_is_recognised(reason: RejectionReason):
    recognised = find_reason(reason.stage, str(rejected(reason)))
    assert recognised == (reason, f"messages[#].content: {reason.general_text}")


def test_find_reason_other_text_is_not_recognised():
    assert find_reason("decode", "value: is odd") is None
    assert find_reason("decode", "it does not say why") is None
    assert find_reason("settle", "value: is null; send a JSON object") is None


def test_reasons_have_different_texts_and_an_explanation():
    assert len({(reason.stage, reason.text) for reason in RejectionReason}) == len(RejectionReason)
    assert all(reason.explanation.endswith(".") for reason in RejectionReason)


def test_reason_table_has_a_row_for_each_reason():
    assert len(reason_table().splitlines()) == 2 + len(RejectionReason)
