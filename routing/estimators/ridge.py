"""Kernel ridge regression, corrected across LLMs, with a mixed cost estimate."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from routing.arrays import Float32Array, FloatArray
from routing.embedding.bytes_embedder import SMALLEST_HISTORY, BytesEmbedder, fit_bytes
from routing.embedding.query_batch import QueryBatch
from routing.estimators.base import Estimates, OnStep
from routing.estimators.cost_mix import (
    KERNEL_PARTS,
    NEIGHBOUR_PARTS,
    CostMix,
    TextCost,
    fit_mix,
    ratio_base,
)
from routing.estimators.cross_model import AcrossModels, fit_across
from routing.estimators.features import FormFeatures, features_of_batch
from routing.estimators.kernel import KernelMachine, fit_exact
from routing.estimators.landmarks import choose_landmarks, fit_landmarks
from routing.estimators.neighbour_ratios import NeighbourRatios
from routing.estimators.ridge_settings import RidgeSettings
from routing.history.history import EmbeddedHistory
from routing.history.rules import HistoryError
from routing.history.storage import open_folder, save_folder

_ARRAYS, _WORDS = "ridge.npz", "words"


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
        self._near: NeighbourRatios | None = None
        if any(part in NEIGHBOUR_PARTS for part in mix.parts):
            features = features_of_batch(history.batch())
            self._near = NeighbourRatios(history, features, mix.text, mix.parts, settings.neighbours)

    def estimate(self, batch: QueryBatch) -> Estimates:
        """Return quality and cost, [n, M], of new queries."""
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
        """Return quality and cost, [H, M], of the history's rows, each without its own answers."""
        return self._own

    @classmethod
    def fit(
        cls,
        history: EmbeddedHistory,
        settings: RidgeSettings,
        features: FloatArray | None = None,
        on_step: OnStep | None = None,
    ) -> RidgeEstimator:
        """Fit the estimator by `fit_ridge`."""
        return fit_ridge(history, settings, features, on_step)

    def save(self, folder: Path) -> None:
        """Write the fit to a folder. The history is saved elsewhere."""
        arrays = {
            "form_mean": self.form.mean,
            "form_scale": self.form.scale,
            "points": self.machine.points,
            "weights": self.machine.weights,
            "mean": self.machine.mean,
            "text": self.mix.text.coefficients,
            "mix_weights": self.mix.weights,
            "mix_mean": self.mix.mean,
            "mix_floor": self.mix.floor,
            "own_quality": self._own.quality,
            "own_cost": self._own.cost,
        }
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
    def load(
        cls, folder: Path, history: EmbeddedHistory, settings: RidgeSettings | None = None
    ) -> RidgeEstimator:
        """Read a fit from a folder, within seconds.

        Parameters
        ----------
        folder : path
            As given to `save`.
        history : EmbeddedHistory
            The history of the fit.
        settings : RidgeSettings, optional
            Ignored: the settings of the fit are saved with it.

        Raises
        ------
        HistoryError
            The fit is of another history.
        """
        stored = open_folder(folder)
        meta = stored.facts
        if meta["history"] != history.digest():
            raise HistoryError(
                f"{folder}: fitted on history {meta['history'][:16]}..., this is {history.digest()[:16]}...; "
                "run `python -m routing fit` again"
            )
        saved = dict(meta["settings"])
        saved["cost_parts"] = tuple(saved["cost_parts"])
        saved["grid"] = tuple((float(g), float(r)) for g, r in saved["grid"])
        settings = RidgeSettings(**saved)
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
    on_step: OnStep | None = None,
) -> RidgeEstimator:
    """Fit the estimator by closed forms.

    Parameters
    ----------
    history : EmbeddedHistory
        H answered queries.
    settings : RidgeSettings, optional
        The default is the exact kernel with every part.
    features : ndarray of float64, shape [H, 38], optional
        Counts and cues of the history's prompts, if they are computed already.
    on_step : callable, optional
        Called after each step.
    """
    settings = settings or RidgeSettings()
    report = on_step or (lambda step: None)
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
    # Ratios to the text are about 1, those to the length are tiny. One scale makes float32 precise for all.
    scale = np.concatenate(
        [
            np.maximum(np.abs(t).mean(axis=0), 1e-30) if k else np.ones(t.shape[1])
            for k, t in enumerate(targets)
        ]
    )
    scaled_targets = np.hstack(targets) / scale
    report("features")
    machine, own = _fit_kernel(rows, scaled_targets, len(history.models), settings, report)
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
        near = NeighbourRatios(history, features, text, settings.cost_parts, settings.neighbours)
        ratios.update(near.leave_one_out())
    candidates = [ratios[p] * ratio_base(p, features, text_cost, mean) for p in settings.cost_parts]
    mix, cost = fit_mix(text, settings.cost_parts, candidates, answers.cost)
    report("across LLMs and cost")
    return RidgeEstimator(
        history, settings, form, machine, across, mix, Estimates(np.clip(quality, 0, 1), cost)
    )


def _word_table(history: EmbeddedHistory, dimension: int) -> BytesEmbedder | None:
    if not dimension or len(history) < SMALLEST_HISTORY:
        return None
    return fit_bytes(history.history.prompts, history.embeddings, dimension)


def _fit_kernel(
    rows: Float32Array, targets: FloatArray, models: int, settings: RidgeSettings, on_step: OnStep
) -> tuple[KernelMachine, FloatArray]:
    """Return the fit of the grid with the smallest leave-one-out error of quality.

    Every candidate is fitted as it would be used: part of the history or fewer landmarks would favour a
    smoother kernel. The grid goes from smooth to sharp. The search starts at its second entry and goes on
    while the error falls, so it skips the candidates beyond the best.
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
        on_step(f"kernel gamma {gamma} lam {ridge}, leave-one-out error {error:.5f}")
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
    """Return the cost ratios among the regression's outputs."""
    named = [part for part in parts if part in KERNEL_PARTS]
    return {part: predicted[:, (k + 1) * models : (k + 2) * models] for k, part in enumerate(named)}
