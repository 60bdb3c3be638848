"""Sources of estimates for policies: neighbours, presets and their variants, and true values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal

from experiments.cases import Split
from routing.arrays import FloatArray
from routing.embedding.bytes_embedder import fit_bytes
from routing.embedding.static_embedder import StaticEmbedder
from routing.embedding.unit_vectors import normalised
from routing.estimators.base import Estimates
from routing.estimators.neighbours import Neighbours
from routing.estimators.ridge import fit_ridge
from routing.estimators.ridge_settings import RidgeSettings
from routing.fitting.presets import choose_preset
from routing.history.history import EmbeddedHistory
from routing.history.nearest import NeighbourIndex

_ALLOWED = {
    "weights": ("uniform", "similarity"),
    "cost": ("mean", "per-length"),
    "index": ("exact", "hnsw"),
}


@dataclass(frozen=True)
class NeighbourSource:
    """Neighbours in the history by the data set's embeddings; see `routing.estimators.neighbours`.

    The graph ("hnsw") compares cosines of rows scaled to unit length, as the published experiments do. At the
    paper's ef = 50 the graph of faiss misses neighbours that the published index finds (performance -3 to
    -4 % on 1,000 queries). At 500 it finds them. Policies accept `ef=50` as an option.
    """

    k: int = 5
    weights: Literal["uniform", "similarity"] = "uniform"
    cost: Literal["mean", "per-length"] = "mean"
    index: Literal["exact", "hnsw"] = "exact"
    ef: int = 500
    own: bool = True
    """Make leave-one-out estimates of the history, which prices from it and re-solving need."""

    def __post_init__(self) -> None:
        for name, values in _ALLOWED.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name} is one of {', '.join(values)}")
        if self.k < 1 or self.ef < 1:
            raise ValueError("k and ef must be at least 1")

    @property
    def key(self) -> str:
        """Name of the source with its settings."""
        graph = f" {self.ef} cosine" if self.index == "hnsw" else ""
        alone = "" if self.own else " alone"
        return f"neighbours {self.k} {self.weights} {self.cost} {self.index}{graph}{alone}"

    def make(self, split: Split) -> tuple[Estimates, Estimates | None]:
        """See `experiments.cases.EstimateSource`."""
        k, history, batch = min(self.k, len(split.history) - 1), split.history, split.batch()
        index: NeighbourIndex | Literal["exact"] = "exact"
        if self.index == "hnsw":
            index = NeighbourIndex(normalised(history.embeddings), "hnsw", ef=self.ef)
            batch = replace(batch, embeddings=normalised(batch.embeddings))
        estimator = Neighbours(history, k, self.weights, cost=self.cost, index=index)
        return estimator.estimate(batch), estimator.leave_one_out() if self.own else None


@dataclass(frozen=True)
class TruthSource:
    """Another source with true quality, true cost, or both; shows the value of better estimates."""

    base: NeighbourSource | RidgeSource | None = None
    quality: bool = True
    cost: bool = True

    @property
    def key(self) -> str:
        """Name of the source with its settings."""
        base = "" if self.base is None else self.base.key
        return f"truth {self.quality} {self.cost} {base}"

    def make(self, split: Split) -> tuple[Estimates, Estimates | None]:
        """See `experiments.cases.EstimateSource`."""
        estimates = []
        for part, rows in enumerate((split.test, split.past)):
            truth = Estimates(split.data.quality[rows], split.data.cost[rows])
            base = truth if self.base is None else split.estimates(self.base)[part]
            if base is None:
                raise ValueError("base: it has no leave-one-out estimates of the history")
            estimates.append(
                Estimates(
                    truth.quality if self.quality else base.quality,
                    truth.cost if self.cost else base.cost,
                )
            )
        return estimates[0], estimates[1]


@dataclass(frozen=True)
class RidgeSource:
    """The kernel estimator on the data set's embeddings, on hashed words, or on a static table.

    Parameters
    ----------
    ridge : RidgeSettings
        Parts of the estimator.
    embedder : {"model", "bytes", "static"}
        Embedder of the texts; "model" uses the data set's embeddings.
    table : str
        Folder of the static table.
    dimension : int
        Dimension of the bytes embedder; 0 for its default.
    """

    ridge: RidgeSettings
    embedder: Literal["model", "bytes", "static"] = "model"
    table: str = ""
    dimension: int = 0

    def __post_init__(self) -> None:
        if self.embedder not in ("model", "bytes", "static"):
            raise ValueError(f"embedder: {self.embedder!r} is not model, bytes or static")

    @property
    def key(self) -> str:
        """Name of the source with its settings."""
        return f"ridge {self.embedder} {self.dimension} {self.table} {sorted(asdict(self.ridge).items())}"

    def make(self, split: Split) -> tuple[Estimates, Estimates | None]:
        """See `experiments.cases.EstimateSource`."""
        features: FloatArray = split.features
        past, vectors, history = split.past, None, split.history
        if self.embedder != "model":
            answers = history.history
            texts = answers.texts
            if self.embedder == "bytes":
                options = {"dimension": self.dimension} if self.dimension else {}
                table = fit_bytes(texts, history.embeddings, **options)
                own, vectors, name = table.embed(texts), table.embed(split.texts).embeddings, table.identity
            else:
                static = StaticEmbedder(self.table)
                own, vectors, name = (
                    static.embed(texts),
                    static.embed(split.texts).embeddings,
                    static.identity,
                )
            history = EmbeddedHistory(answers, own.embeddings, name)
        estimator = fit_ridge(history, self.ridge, features[past])
        return estimator.estimate(split.batch(vectors)), estimator.leave_one_out()


def preset_source(name: str, rows: int, table: str = "") -> NeighbourSource | RidgeSource:
    """Return the source of the estimates that a preset makes from a history of `rows` rows."""
    preset = choose_preset(rows, name)[0]
    if not isinstance(preset.estimator, RidgeSettings):
        return NeighbourSource(k=5)
    named = table if preset.embedder == "static" else ""
    return RidgeSource(preset.estimator, preset.embedder, named, preset.dimension or 0)


def without(source: RidgeSource, part: str) -> RidgeSource:
    """Return the source without one part of the estimator: "cues", "across" or "cost"."""
    if part == "cues":
        return replace(source, ridge=replace(source.ridge, cue_weight=0.0))
    if part == "across":
        return replace(source, ridge=replace(source.ridge, across=False))
    if part == "cost":
        return replace(source, ridge=replace(source.ridge, cost_parts=("kernel",)))
    raise ValueError(f"part: {part!r} is not cues, across or cost")
