"""Stand-in for an embedding model that is not installed: queries must carry their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from routing.embedding.model_files import EmbedderError
from routing.embedding.query_batch import QueryBatch


class MissingEmbedderError(EmbedderError):
    """A prompt has to be embedded, and the model that embeds it is not installed."""


@dataclass(frozen=True)
class MissingEmbedder:
    """An embedder without a model.

    Parameters
    ----------
    identity : str
        Of the model that embedded the history.
    dimension : int
        Length of its embeddings.
    reason : str
        Why there is no model, and the fix.
    """

    identity: str
    dimension: int
    reason: str

    def embed(self, prompts: Sequence[str]) -> QueryBatch:
        """Raise an error.

        Raises
        ------
        MissingEmbedderError
            Always.
        """
        raise MissingEmbedderError(self.reason)
