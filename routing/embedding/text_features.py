"""Cheap features of a prompt's form: 11 text counts that its token count is nearly linear in, and 27 cues.

Everything comes out of one pass over the bytes of a whole batch (`routing.embedding.word_hashing`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from routing.arrays import FloatArray
from routing.embedding.word_hashing import DIGIT, LETTERS, SIGN, SPACE, Words, chunks, read_words, word_hash

COUNTS = (
    "characters",
    "tokens",
    "words",
    "subwords",
    "digit_groups",
    "signs",
    "non_ascii",
    "capitals",
    "newlines",
    "long_words",
    "one",
)
CUES = (
    "log_length",
    "digit_share",
    "sign_share",
    "capital_share",
    "newline_share",
    "non_ascii_share",
    "long_word_share",
    "characters_per_token",
    "option_lines",
    "says_options",
    "bullets",
    "dollar",
    "backslash",
    "code",
    "equals",
    "caret",
    "question",
    "questions",
    "blank",
    "true_false",
    "says_following",
    "says_which",
    "ends_with_stop",
    "ends_with_answer",
    "ends_with_a",
    "says_only_at_end",
    "log_newlines",
)
WIDTH = len(COUNTS) + len(CUES)

_KEYWORDS = ("options", "def", "assert", "true", "false", "following", "which", "only")
_HASHES = {word: np.uint64(word_hash(word)) for word in _KEYWORDS}
_END = 60  # bytes at the end in which "only" is looked for


def text_features(prompts: Sequence[str]) -> FloatArray:
    """Return the 11 counts and then the 27 cues of each prompt, [n, 38], as in `QueryBatch.counts`.

    Examples
    --------
    >>> row = text_features(["Which of 12?"])[0]
    >>> dict(zip(COUNTS, row))["words"], dict(zip(CUES, row[11:]))["says_which"]
    (np.float64(2.0), np.float64(1.0))
    """
    out = np.empty((len(prompts), WIDTH))
    for start, part in chunks(prompts):
        out[start : start + len(part)] = features_of(read_words(part))
    return out


def features_of(words: Words) -> FloatArray:
    """Return the `text_features` of texts that are already cut into words, [n, 38]."""
    n, buffer = len(words), words.buffer
    out = np.zeros((n, WIDTH))
    counts, cues = out[:, : len(COUNTS)], out[:, len(COUNTS) :]
    newlines = np.flatnonzero(buffer == 10)
    _count(words, newlines, counts)
    length = np.maximum(counts[:, 0], 1)
    tokens = np.maximum(counts[:, 1], 1)
    cues[:, 0] = np.log(length + 1)
    cues[:, 1] = counts[:, 4] / tokens
    cues[:, 2] = counts[:, 5] / length
    cues[:, 3] = counts[:, 7] / length
    cues[:, 4] = counts[:, 8] / length * 50
    cues[:, 5] = counts[:, 6] / length
    cues[:, 6] = counts[:, 9] / np.maximum(counts[:, 2], 1)
    cues[:, 7] = length / tokens / 5
    cues[:, 26] = np.log(counts[:, 8] + 1)
    _line_cues(words, newlines, cues)
    _sign_cues(words, cues)
    _word_cues(words, cues)
    _end_cues(words, cues)
    return out


def _count(words: Words, newlines: NDArray[np.intp], counts: FloatArray) -> None:
    n, buffer, kind = len(words), words.buffer, words.kind
    size = words.bounds[1:] - words.bounds[:-1] - 1
    foreign = np.flatnonzero(buffer >= 0x80)
    if len(foreign):
        lead = buffer[foreign] >= 0xC0
        counts[:, 6] = words.per_text(foreign[lead])
        size = size - words.per_text(foreign[~lead])
    letters = np.flatnonzero(kind == LETTERS)
    of, length = words.text[letters], words.length[letters]
    n_words = np.bincount(of, minlength=n)
    digits = np.bincount(words.text[kind == DIGIT], minlength=n)
    signs = np.bincount(words.text[kind == SIGN], minlength=n)
    spaces = np.bincount(words.text[kind == SPACE], minlength=n)
    counts[:, 0] = size
    counts[:, 1] = n_words + digits / 2 + signs * 0.8 + spaces
    counts[:, 2] = n_words
    counts[:, 3] = np.bincount(of, (length + 3) // 5, n)
    counts[:, 4] = digits / 2
    counts[:, 5] = signs
    counts[:, 7] = words.per_text(np.flatnonzero((buffer >= 65) & (buffer <= 90)))
    counts[:, 8] = words.per_text(newlines)
    counts[:, 9] = np.bincount(of[length > 7], minlength=n)
    counts[:, 10] = 1


def _line_cues(words: Words, newlines: NDArray[np.intp], cues: FloatArray) -> None:
    """Set the cues of lines that begin like an option, "(A)" or "B.", or with a dash."""
    buffer = words.buffer
    first = buffer[newlines + 1]
    at = newlines + 1 + (first == ord("("))
    letter, mark = buffer[at], buffer[at + 1]
    option = (letter >= 65) & (letter <= 74) & ((mark == ord(")")) | (mark == ord(".")) | (mark == ord(":")))
    cues[:, 8] = np.minimum(words.per_text(newlines[option]), 20) / 5
    dash = (first == ord("-")) & (buffer[newlines + 2] == 32)
    cues[:, 10] = words.per_text(newlines[dash]) > 0


def _sign_cues(words: Words, cues: FloatArray) -> None:
    """Set the cues of signs, looking at runs of signs only."""
    at = words.start[words.kind == SIGN]
    sign = words.buffer[at]
    for column, character in ((11, "$"), (12, "\\"), (14, "="), (15, "^"), (16, "?")):
        sign_count = words.per_text(at[sign == ord(character)])
        cues[:, column] = sign_count > 0
        if character == "?":
            cues[:, 17] = sign_count / 3
    low = at[sign == ord("_")]
    cues[:, 18] = words.per_text(low[:-1][low[1:] == low[:-1] + 1]) > 0


def _word_cues(words: Words, cues: FloatArray) -> None:
    """Set the cues of whole words in any case."""
    short = np.flatnonzero((words.kind == LETTERS) & (words.length > 2) & (words.length < 10))
    hashes, start = words.hashes[short], words.start[short]
    word_starts = {word: start[hashes == value] for word, value in _HASHES.items()}
    has = {word: words.per_text(at) > 0 for word, at in word_starts.items()}
    cues[:, 9] = has["options"]
    cues[:, 13] = has["def"] | has["assert"]
    cues[:, 19] = has["true"] & has["false"]
    cues[:, 20] = has["following"]
    cues[:, 21] = has["which"]
    only_starts = word_starts["only"]
    stop = words.bounds[1:]
    cues[:, 25] = np.searchsorted(only_starts, stop) > np.searchsorted(
        only_starts, np.maximum(stop - _END, words.bounds[:-1])
    )


def _end_cues(words: Words, cues: FloatArray) -> None:
    """Set the cues of a prompt's end, ignoring white space."""
    buffer, stop = words.buffer, words.bounds[1:]
    full = stop - words.bounds[:-1] > 1
    cues[:, 22] = full & (buffer[stop - 1] == ord("."))
    solid = np.flatnonzero(words.kind != SPACE)
    last = np.searchsorted(words.text[solid], np.arange(len(words)), side="right") - 1
    last = np.maximum(last, 0)
    if not len(solid):
        return
    run = solid[last]
    own = words.text[run] == np.arange(len(words))
    end = words.start[run] + words.length[run] - 1
    colon = own & (buffer[end] == ord(":"))
    cues[:, 24] = colon & (buffer[end - 1] == ord("A"))
    answer = colon.copy()
    for back, character in enumerate(b"rewsnA", start=1):
        answer &= buffer[np.maximum(end - back, 0)] == character
    cues[:, 23] = answer
