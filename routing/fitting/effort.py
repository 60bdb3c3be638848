"""Expected effort of fitting a preset: texts to embed, operations and memory."""

from __future__ import annotations

from dataclasses import dataclass

from routing.embedding.bytes_embedder import LARGEST_VOCABULARY
from routing.fitting.presets import Preset

BERT_TOKENS = 30_522
"""Tokens of the tokenizers of BERT and MiniLM."""


@dataclass(frozen=True)
class FitPlan:
    """Expected effort of a fit.

    Parameters
    ----------
    embed : int
        Texts for the slow model to embed.
    tokens : int
        Tokens for the slow model to embed one by one, for a static table.
    operations : float
        Floating point operations of the closed forms.
    memory : int
        Bytes at the peak, without the interpreter.
    """

    embed: int
    tokens: int
    operations: float
    memory: int


def plan_fit(
    rows: int,
    models: int,
    preset: Preset,
    embedded: bool,
    vocabulary: int | None = None,
    tokens: int = BERT_TOKENS,
) -> FitPlan:
    """Return the expected effort of fitting a preset to a history.

    Parameters
    ----------
    rows, models : int
        H and M.
    preset : Preset
        From `choose_preset`.
    embedded : bool
        Whether the model's embeddings of the history are available.
    vocabulary : int, optional
        Words of a table of hashed words (`routing.embedding.bytes_embedder.vocabulary_size`); by default the
        maximum.
    tokens : int
        Tokens of the model's tokenizer; by default those of BERT's.
    """
    operations, memory = 0.0, rows * 400 * 4
    if has_words(rows, preset):
        size = min(LARGEST_VOCABULARY, 3 * rows if vocabulary is None else vocabulary)
        operations += size**3 / 3 + 2.0 * size * size * 384
        memory = max(memory, 8 * size * size)
    effort = preset.estimator.effort(rows)
    uses_model = not embedded and preset.embedder != "static"
    distilled = tokens if preset.embedder == "static" else 0
    return FitPlan(
        rows if uses_model else 0, distilled, operations + effort.operations, max(memory, effort.memory)
    )


def has_words(rows: int, preset: Preset) -> bool:
    """Return whether a table of hashed words is fitted, as the embedder or beside it."""
    return preset.embedder == "bytes" or preset.estimator.fits_words(rows)
