"""Cost ratios of a query's nearest neighbours in the history."""

from __future__ import annotations

import numpy as np

from routing.arrays import Float32Array, FloatArray
from routing.estimators.cost_mix import NEIGHBOUR_PARTS, TextCost, ratio_base
from routing.history.history import EmbeddedHistory
from routing.history.nearest import NeighbourIndex, Rows, Similarities

TEMPERATURE = 10.0
"""Of the weights of neighbours by similarity."""


class NeighbourRatios:
    """Means over a query's neighbours of cost / text cost and cost / length, weights exp(10 (s - s_max)).

    Parameters
    ----------
    history : EmbeddedHistory
        H answered queries.
    features : ndarray of float64, shape [H, 38]
        Counts and cues of the history's prompts.
    text : TextCost
        Cost by the counts of a text.
    parts : tuple of str
        Parts of the cost mix; those that need no neighbours are ignored.
    k : int
        Neighbours; all but one row if the history is shorter.
    """

    def __init__(
        self, history: EmbeddedHistory, features: FloatArray, text: TextCost, parts: tuple[str, ...], k: int
    ) -> None:
        self.parts = [part for part in parts if part in NEIGHBOUR_PARTS]
        self.k = min(k, len(history) - 1)
        if self.k < 1:
            raise ValueError("history: one row has no neighbours; leave the neighbours' cost parts out")
        predicted, mean = text.predict(features), np.zeros(len(history.models))
        self._table = np.hstack(
            [history.history.cost / ratio_base(part, features, predicted, mean) for part in self.parts]
        )
        self._models = len(history.models)
        self._index = NeighbourIndex(history.embeddings)

    def of(self, embeddings: Float32Array) -> dict[str, FloatArray]:
        """Return the ratios of new queries by part, each [n, M]."""
        return self._means(*self._index.search(embeddings, self.k))

    def leave_one_out(self) -> dict[str, FloatArray]:
        """Return the ratios of the history's own rows by part, each [H, M] and without that row."""
        return self._means(*self._index.search_own(self.k))

    def _means(self, similarity: Similarities, rows: Rows) -> dict[str, FloatArray]:
        weight = np.exp(TEMPERATURE * (similarity.astype(np.float64) - similarity[:, :1]))
        weight /= weight.sum(axis=1, keepdims=True)
        out = np.empty((len(rows), self._table.shape[1]))
        for start in range(0, len(rows), 1024):
            part = slice(start, start + 1024)
            out[part] = np.einsum("nk,nkc->nc", weight[part], self._table[rows[part]])
        m = self._models
        return {name: out[:, k * m : (k + 1) * m] for k, name in enumerate(self.parts)}
