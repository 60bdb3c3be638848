"""Cues and counts against a simple implementation of the same definitions, text by text."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.embedding.text_features import COUNTS, CUES, WIDTH, text_features
from routing.embedding.word_hashing import chunks, read_words, word_hash

RUN = re.compile(r"[^\W\d_]+|\d|[^\w\s]|_|\s+")


def column(rows, name):
    return rows[:, (*COUNTS, *CUES).index(name)]


def test_text_features_counts_of_plain_text():
    text = "Which one is 12?\nA. Photosynthesis\nB. $x_1$\n"
    row = text_features([text])[0]
    values = dict(zip(COUNTS, row, strict=False))
    assert values["characters"] == len(text)
    assert values["words"] == 7
    assert values["digit_groups"] == 1.5
    assert values["signs"] == 6
    assert values["newlines"] == 3
    assert values["long_words"] == 1
    assert values["capitals"] == 4
    assert values["one"] == 1


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
def test_text_features_set_each_cue(cue, text, without):
    rows = text_features([text, without])
    assert column(rows, cue)[0] > 0
    assert column(rows, cue)[1] == 0


@settings(max_examples=80)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=8))
def test_text_features_row_does_not_depend_on_its_batch(texts):
    together = text_features(texts)
    assert together.shape == (len(texts), WIDTH)
    assert np.isfinite(together).all()
    for text, row in zip(texts, together, strict=True):
        np.testing.assert_array_equal(text_features([text])[0], row)


@settings(max_examples=60)
@given(st.text(alphabet="ab12 .,_\n\tXYZ", max_size=40))
def test_read_words_ascii_runs_equal_a_regular_expression(text):
    words = read_words([text])
    values = [text[s : s + n] for s, n in zip(words.start - 1, words.length, strict=True)]
    assert values == RUN.findall(text)
    for run, hashed in zip(values, words.hashes, strict=True):
        assert int(hashed) == word_hash(run)


def test_read_words_accepts_control_characters_and_surrogates():
    rows = text_features(["a\0b", "\x01\x02", "", "\ud800 x", "é" * 3, "日本語"])
    assert column(rows, "words").tolist() == [2, 0, 0, 1, 1, 1]
    assert column(rows, "non_ascii").tolist() == [0, 0, 0, 0, 3, 3]


def test_chunks_keep_order_and_all_texts():
    texts = ["x" * n for n in (5, 0, 900, 3, 3, 3)]
    parts = list(chunks(texts, size=10))
    assert [t for _, part in parts for t in part] == texts
    assert [start for start, _ in parts] == list(np.cumsum([0, *(len(p) for _, p in parts[:-1])]))
