"""Cues and counts against a plain reading of the same definitions, one text at a time."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.cues import COUNTS, CUES, WIDTH, text_features
from routing.words import chunks, read_words, word_hash

RUN = re.compile(r"[^\W\d_]+|\d|[^\w\s]|_|\s+")


def column(rows, name):
    return rows[:, (*COUNTS, *CUES).index(name)]


def test_counts_of_plain_text():
    text = "Which one is 12?\nA. Photosynthesis\nB. $x_1$\n"
    row = text_features([text])[0]
    found = dict(zip(COUNTS, row, strict=False))
    assert found["characters"] == len(text)
    assert found["words"] == 7
    assert found["digit_groups"] == 1.5
    assert found["signs"] == 6
    assert found["newlines"] == 3
    assert found["long_words"] == 1
    assert found["capitals"] == 4
    assert found["one"] == 1


@pytest.mark.parametrize(
    ("cue", "text", "without"),
    [
        ("option_lines", "Q\n(A) x\nB. y", "A) x"),
        ("says_options", "Options: 1", "optional"),
        ("bullets", "list\n- a", "a - b"),
        ("dollar", "$x$", "x"),
        ("backslash", "\\frac", "frac"),
        ("code", "def f", "define f"),
        ("code", "assert x", "assertion x"),
        ("equals", "a = b", "a - b"),
        ("caret", "a^b", "ab"),
        ("question", "why?", "why"),
        ("blank", "fill __ in", "fill _ in _"),
        ("true_false", "True or false", "true or not"),
        ("says_following", "the Following", "follow"),
        ("says_which", "which", "switch"),
        ("ends_with_stop", "end.", "end. "),
        ("ends_with_answer", "x\nAnswer: \n", "answer:"),
        ("ends_with_a", "Q: x\nA:", "Q: x\nB:"),
        ("says_only_at_end", "say only yes", "only " + "x " * 80),
    ],
)
def test_each_cue_is_set_by_what_it_names(cue, text, without):
    rows = text_features([text, without])
    assert column(rows, cue)[0] > 0
    assert column(rows, cue)[1] == 0


@settings(max_examples=80, deadline=None)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=8))
def test_a_row_does_not_depend_on_its_batch(texts):
    together = text_features(texts)
    assert together.shape == (len(texts), WIDTH)
    assert np.isfinite(together).all()
    for text, row in zip(texts, together, strict=True):
        np.testing.assert_array_equal(text_features([text])[0], row)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab12 .,_\n\tXYZ", max_size=40))
def test_runs_of_ascii_are_what_a_regular_expression_finds(text):
    words = read_words([text])
    found = [text[s : s + n] for s, n in zip(words.start - 1, words.length, strict=True)]
    assert found == RUN.findall(text)
    for run, hashed in zip(found, words.hashes, strict=True):
        assert int(hashed) == word_hash(run)


def test_control_characters_and_surrogates_are_read():
    rows = text_features(["a\0b", "\x01\x02", "", "\ud800 x", "é" * 3, "日本語"])
    assert column(rows, "words").tolist() == [2, 0, 0, 1, 1, 1]
    assert column(rows, "non_ascii").tolist() == [0, 0, 0, 0, 3, 3]


def test_chunks_keep_order_and_lose_nothing():
    texts = ["x" * n for n in (5, 0, 900, 3, 3, 3)]
    parts = list(chunks(texts, size=10))
    assert [t for _, part in parts for t in part] == texts
    assert [start for start, _ in parts] == list(np.cumsum([0, *(len(p) for _, p in parts[:-1])]))
