"""The best known estimator: kernel ridge regression, corrected across LLMs, with a mixed cost estimate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from routing.bytes_embedder import SMALLEST_HISTORY, BytesEmbedder, fit_bytes
from routing.estimators.across import AcrossModels, fit_across
from routing.estimators.base import Estimates, FloatArray, QueryBatch
from routing.estimators.cost_mix import (
    KERNEL_PARTS,
    NEIGHBOUR_PARTS,
    PARTS,
    CostMix,
    TextCost,
    fit_mix,
    ratio_base,
)
from routing.estimators.features import CUE_WEIGHT, FormFeatures, features_of_batch
from routing.estimators.kernel import Float32Array, KernelMachine, fit_exact
from routing.estimators.landmarks import choose_landmarks, fit_landmarks
from routing.folder import open_folder, save_folder
from routing.history import EmbeddedHistory, HistoryError
from routing.index import NeighbourIndex, Rows, Similarities

GRID = ((0.5, 3.0), (1.0, 2.0), (2.0, 1.0), (2.0, 0.6))
"""(gamma, lam) of the kernel from smooth to sharp; the least leave-one-out error of quality wins."""

_ARRAYS, _WORDS = "ridge.npz", "words"
_TEMPERATURE = 10.0

Progress = Callable[[str], None]


@dataclass(frozen=True)
class RidgeSettings:
    """What the estimator is made of; every part can be left out, to see what it gives.

    Parameters
    ----------
    landmarks : int, optional
        Landmarks of the kernel; left out, the exact kernel on every history row.
    cue_weight : float
        Weight of the standardised cues beside the embedding; 0 leaves them out.
    words : int
        Dimensions of an embedding of the prompt's words beside the embedding; 0 leaves it out. It is left
        out as well where the history is too short for it.
    across : bool
        Correct the estimates across LLMs.
    cost_parts : tuple of str
        Candidates of the cost estimate, out of `routing.estimators.cost_mix.PARTS`.
    neighbours : int
        Neighbours of the two candidates that need them.
    grid : tuple of (gamma, lam)
        Kernels to choose from by leave-one-out error, from smooth to sharp.
    seed : int
        Of the draw of landmarks.
    """

    landmarks: int | None = None
    cue_weight: float = CUE_WEIGHT
    words: int = 0
    across: bool = True
    cost_parts: tuple[str, ...] = ("text-neighbours", "length-neighbours", "kernel")
    neighbours: int = 20
    grid: tuple[tuple[float, float], ...] = GRID
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [part for part in self.cost_parts if part not in PARTS]
        if unknown or not self.cost_parts:
            raise ValueError(f"cost_parts: {unknown or 'empty'}; choose from {', '.join(PARTS)}")
        if not self.grid:
            raise ValueError("grid: empty; give at least one (gamma, lam)")


class RidgeEstimator:
    """Quality and cost by kernel ridge regression; made by `fit_ridge` or `RidgeEstimator.load`."""

    def __init__(
        self,
        history: EmbeddedHistory,
        settings: RidgeSettings,
        form: FormFeatures,
        machine: KernelMachine,
        across: AcrossModels | None,
        mix: CostMix,
        own: Estimates,
    ) -> None:
        self.models = history.models
        self.settings, self.form, self.machine, self.across, self.mix = settings, form, machine, across, mix
        self._own = own
        self._digest = history.digest()
        self._mean = np.maximum(history.history.cost.mean(axis=0), 1e-12)
        self._near: _NeighbourRatios | None = None
        if any(part in NEIGHBOUR_PARTS for part in mix.parts):
            features = features_of_batch(history.batch())
            self._near = _NeighbourRatios(history, features, mix.text, mix.parts, settings.neighbours)

    def estimate(self, batch: QueryBatch) -> Estimates:
        """Quality and cost [n, M] of new queries."""
        rows, features = self.form.of(batch)
        models = len(self.models)
        predicted = self.machine.predict(rows)
        quality = predicted[:, :models]
        if self.across is not None:
            quality = self.across.correct(quality)
        ratios = {} if self._near is None else self._near.of(batch.embeddings)
        ratios.update(_kernel_columns(self.mix.parts, predicted, models))
        text = self.mix.text.predict(features)
        candidates = [ratios[part] * ratio_base(part, features, text, self._mean) for part in self.mix.parts]
        return Estimates(np.clip(quality, 0, 1), self.mix.combine(candidates))

    def leave_one_out(self) -> Estimates:
        """Quality and cost [H, M] of the history's own rows, each without its own answers."""
        return self._own

    def save(self, folder: Path) -> None:
        """Write what was fitted into a folder, beside the history that it was fitted on."""
        arrays = {
            "form_mean": self.form.mean, "form_scale": self.form.scale,
            "points": self.machine.points, "weights": self.machine.weights, "mean": self.machine.mean,
            "text": self.mix.text.coefficients, "mix_weights": self.mix.weights, "mix_mean": self.mix.mean,
            "mix_floor": self.mix.floor, "own_quality": self._own.quality, "own_cost": self._own.cost,
        }  # fmt: skip
        if self.across is not None:
            arrays |= {"across_matrix": self.across.matrix, "across_shift": self.across.shift}
        facts = {
            "history": self._digest,
            "models": self.models,
            "gamma": self.machine.gamma,
            "words": None if self.form.words is None else self.form.words.identity,
            "settings": asdict(self.settings),
        }
        if self.form.words is not None:
            self.form.words.save(folder / _WORDS)
        save_folder(folder, facts, {_ARRAYS: lambda file: np.savez(file, **arrays)})  # type: ignore[arg-type]

    @classmethod
    def load(cls, folder: Path, history: EmbeddedHistory) -> RidgeEstimator:
        """Read what `save` wrote; seconds, whatever the fit took.

        Raises
        ------
        HistoryError
            It was fitted on another history.
        """
        stored = open_folder(folder)
        meta = stored.facts
        if meta["history"] != history.digest():
            raise HistoryError(
                f"{folder}: fitted on history {meta['history'][:16]}..., this is {history.digest()[:16]}...; "
                "run `python -m routing fit` again"
            )
        kept = dict(meta["settings"])
        kept["cost_parts"] = tuple(kept["cost_parts"])
        kept["grid"] = tuple((float(g), float(r)) for g, r in kept["grid"])
        settings = RidgeSettings(**kept)
        with np.load(stored.path(_ARRAYS)) as a:
            across = AcrossModels(a["across_matrix"], a["across_shift"]) if "across_matrix" in a else None
            mix = CostMix(
                TextCost(a["text"]), settings.cost_parts, a["mix_weights"], a["mix_mean"], a["mix_floor"]
            )
            words = BytesEmbedder.load(folder / _WORDS) if meta["words"] else None
            form = FormFeatures(a["form_mean"], a["form_scale"], settings.cue_weight, words)
            machine = KernelMachine(a["points"], a["weights"], a["mean"], float(meta["gamma"]))
            own = Estimates(a["own_quality"], a["own_cost"])
        return cls(history, settings, form, machine, across, mix, own)


def fit_ridge(
    history: EmbeddedHistory,
    settings: RidgeSettings | None = None,
    features: FloatArray | None = None,
    progress: Progress | None = None,
) -> RidgeEstimator:
    """Fit the estimator: closed forms only.

    Parameters
    ----------
    history : EmbeddedHistory
        H answered queries.
    settings : RidgeSettings, optional
        The default is the exact kernel with every part.
    features : ndarray of float64, shape [H, 38], optional
        Counts and cues of the history's prompts, when they are at hand.
    progress : callable, optional
        Told of each step as it is done.
    """
    settings = settings or RidgeSettings()
    say = progress or (lambda step: None)
    if features is None:
        features = features_of_batch(history.batch())
    answers = history.history
    mean = np.maximum(answers.cost.mean(axis=0), 1e-12)
    form = FormFeatures.fit(features, settings.cue_weight, _word_table(history, settings.words))
    rows, _ = form.of(QueryBatch(answers.prompts, history.embeddings, features))
    text = TextCost.fit(features, answers.cost)
    text_cost = text.predict(features)
    targets = [answers.quality]
    for part in settings.cost_parts:
        if part in KERNEL_PARTS:
            targets.append(answers.cost / ratio_base(part, features, text_cost, mean))
    # Ratios to the text are of size 1, those to the length are tiny: one scale, so that float32 serves all.
    scale = np.concatenate([np.maximum(np.abs(t).mean(axis=0), 1e-30) if k else np.ones(t.shape[1])
                            for k, t in enumerate(targets)])  # fmt: skip
    wanted = np.hstack(targets) / scale
    say("features")
    machine, own = _fit_kernel(rows, wanted, len(history.models), settings, say)
    machine = KernelMachine(
        machine.points, (machine.weights * scale).astype(np.float32), machine.mean * scale, machine.gamma
    )
    own = own * scale
    models = len(history.models)
    quality, across = own[:, :models], None
    if settings.across:
        across, quality = fit_across(quality, answers.quality)
    ratios = _kernel_columns(settings.cost_parts, own, models)
    if any(part in NEIGHBOUR_PARTS for part in settings.cost_parts):
        near = _NeighbourRatios(history, features, text, settings.cost_parts, settings.neighbours)
        ratios.update(near.own())
    candidates = [ratios[p] * ratio_base(p, features, text_cost, mean) for p in settings.cost_parts]
    mix, cost = fit_mix(text, settings.cost_parts, candidates, answers.cost)
    say("across LLMs and cost")
    return RidgeEstimator(
        history, settings, form, machine, across, mix, Estimates(np.clip(quality, 0, 1), cost)
    )


def _word_table(history: EmbeddedHistory, dimension: int) -> BytesEmbedder | None:
    if not dimension or len(history) < SMALLEST_HISTORY:
        return None
    return fit_bytes(history.history.prompts, history.embeddings, dimension)


def _fit_kernel(
    rows: Float32Array, targets: FloatArray, models: int, settings: RidgeSettings, say: Progress
) -> tuple[KernelMachine, FloatArray]:
    """The fit of the grid with the least leave-one-out error of quality.

    Every candidate is fitted as it would be used: on part of the history or on fewer landmarks a smoother
    kernel wins than on all of it. The grid goes from smooth to sharp; it is climbed from its second entry on
    as long as the error falls, which leaves out what lies beyond the best.
    """
    landmarks = None
    if settings.landmarks is not None:
        landmarks = choose_landmarks(rows, settings.landmarks, settings.seed)
    truth = targets[:, :models]
    best: tuple[float, KernelMachine, FloatArray] | None = None

    def better(at: int) -> bool:
        nonlocal best
        gamma, ridge = settings.grid[at]
        if landmarks is None:
            machine, own = fit_exact(rows, targets, gamma, ridge)
        else:
            machine, own = fit_landmarks(rows, targets, gamma, ridge, landmarks)
        error = float(((own[:, :models] - truth) ** 2).mean())
        say(f"kernel gamma {gamma} lam {ridge}, leave-one-out error {error:.5f}")
        if best is None or error < best[0]:
            best = error, machine, own
            return True
        return False

    last = len(settings.grid) - 1
    start = min(1, last)
    better(start)
    at = start
    while at < last and better(at + 1):
        at += 1
    if at == start:
        while at > 0 and better(at - 1):
            at -= 1
    assert best is not None
    return best[1], best[2]


def _kernel_columns(parts: tuple[str, ...], predicted: FloatArray, models: int) -> dict[str, FloatArray]:
    """The cost ratios among the regression's outputs."""
    named = [part for part in parts if part in KERNEL_PARTS]
    return {part: predicted[:, (k + 1) * models : (k + 2) * models] for k, part in enumerate(named)}


class _NeighbourRatios:
    """Means over a query's neighbours of cost / text cost and cost / length, weights exp(10 (s - s_max))."""

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
        return self._means(*self._index.search(embeddings, self.k))

    def own(self) -> dict[str, FloatArray]:
        return self._means(*self._index.search_own(self.k))

    def _means(self, similarity: Similarities, rows: Rows) -> dict[str, FloatArray]:
        weight = np.exp(_TEMPERATURE * (similarity.astype(np.float64) - similarity[:, :1]))
        weight /= weight.sum(axis=1, keepdims=True)
        out = np.empty((len(rows), self._table.shape[1]))
        for start in range(0, len(rows), 1024):
            part = slice(start, start + 1024)
            out[part] = np.einsum("nk,nkc->nc", weight[part], self._table[rows[part]])
        m = self._models
        return {name: out[:, k * m : (k + 1) * m] for k, name in enumerate(self.parts)}
