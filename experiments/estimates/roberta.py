"""Trained baselines: one RoBERTa for quality and one for cost, with an output for each LLM."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import structlog

from experiments.cases import Split
from routing.arrays import FloatArray, IntArray
from routing.estimators.base import Estimates
from routing.history.history import History
from routing.history.storage import write_atomically
from routing.progress import Progress

log = structlog.get_logger()

Target = Literal["quality", "cost"]

_STATE, _FACTS, _BEST, _LAST = "state.pt", "facts.json", "best", "last"
_HELD_OUT_SHARE = 0.1
_MIN_COST_USD = 1e-12


@dataclass(frozen=True)
class TrainSettings:
    """Settings of the fine-tuning.

    Parameters
    ----------
    model : str
        Name or folder of a RoBERTa model.
    epochs : int
        Maximum number of epochs.
    batch : int
        Queries per step.
    rate : float
        Learning rate after warm-up, from where it falls linearly to 0.
    patience : int
        Epochs without improvement on the held-out tenth before training stops.
    tokens : int
        Tokens after which prompts are truncated.
    """

    model: str = "roberta-base"
    epochs: int = 3
    batch: int = 16
    rate: float = 2e-5
    patience: int = 1
    tokens: int = 512


def train(history: History, settings: TrainSettings, out: Path, seed: int = 0) -> dict[str, list[float]]:
    """Fine-tune both models on a history, resuming an interrupted training after its last epoch.

    Quality is multi-label classification (binary cross-entropy on qualities in [0, 1]), cost is regression
    on standardised log cost. The epoch with the smallest loss on the held-out tenth is kept.

    Parameters
    ----------
    history : History
        H answered queries.
    settings : TrainSettings
    out : path
        Parent of the folders `quality` and `cost`.
    seed : int
        Seed of weights, order and held-out rows.

    Returns
    -------
    dict
        Held-out losses by epoch for each target.
    """
    return {target: _Training(history, settings, out / target, target, seed).run() for target in TARGETS}


TARGETS: tuple[Target, ...] = ("quality", "cost")


class _Training:
    """Training loop of one model."""

    def __init__(
        self, history: History, settings: TrainSettings, out: Path, target: Target, seed: int
    ) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed

        set_seed(seed)
        self.torch, self.settings, self.out, self.target, self.seed = torch, settings, out, target, seed
        self.history = history
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.labels, self.scale = _labels(history, target)
        kind = "multi_label_classification" if target == "quality" else "regression"
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(settings.model)
            self.model: Any = AutoModelForSequenceClassification.from_pretrained(
                settings.model, num_labels=len(history.models), problem_type=kind
            ).to(self.device)
        except (OSError, ValueError) as error:  # raised without access to the hub, and for other folders
            raise ValueError(
                f"model: {settings.model!r} is not a folder of a RoBERTa model, and the hub did not "
                "return it; save the model to a folder and pass it with --model FOLDER"
            ) from error
        self.initial_weights = _weights_digest(self.model.state_dict())
        self.tokens = _max_tokens(settings.tokens, self.model.config.max_position_embeddings)
        order = np.random.default_rng(seed).permutation(len(history))
        held_out = max(1, int(_HELD_OUT_SHARE * len(history)))
        self.held_out, self.rows = order[:held_out], order[held_out:]
        self.steps = math.ceil(len(self.rows) / settings.batch)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=settings.rate, weight_decay=0.01)
        total, warm = settings.epochs * self.steps, max(1, int(0.06 * settings.epochs * self.steps))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser,
            lambda step: min((step + 1) / warm, max(0.0, (total - step) / max(1, total - warm))),
        )
        self.losses: list[float] = []

    def run(self) -> list[float]:
        """Train for all epochs, or until the held-out loss stops improving."""
        self._resume()
        while len(self.losses) < self.settings.epochs and not self._stalled():
            epoch = len(self.losses)
            trained = self._epoch(epoch)
            loss = self._held_out_loss()
            self.losses.append(loss)
            if loss <= min(self.losses):
                self._save_best()
            self._save_state()
            log.info("roberta_epoch", target=self.target, epoch=epoch, train_loss=trained, held_out_loss=loss)
        return self.losses

    def _stalled(self) -> bool:
        best = int(np.argmin(self.losses)) if self.losses else 0
        return bool(self.losses) and len(self.losses) - 1 - best > self.settings.patience - 1

    def _epoch(self, epoch: int) -> float:
        self.model.train()
        order = np.random.default_rng((self.seed, epoch)).permutation(self.rows)
        total = 0.0
        with Progress(self.steps, f"{self.target} epoch {epoch}", "steps") as progress:
            for rows in _batches(order, self.settings.batch):
                loss = self._loss(rows)
                loss.backward()
                self.torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimiser.step()
                self.schedule.step()
                self.optimiser.zero_grad()
                value = float(loss.detach())
                total += value * len(rows)
                progress.advance(1, f"loss {value:.4f}")
        return total / len(order)

    def _held_out_loss(self) -> float:
        self.model.eval()
        with self.torch.inference_mode():
            parts = [
                float(self._loss(rows)) * len(rows) for rows in _batches(self.held_out, self.settings.batch)
            ]
        return sum(parts) / len(self.held_out)

    def _loss(self, rows: IntArray) -> Any:
        inputs = self.tokenizer(
            [self.history.prompts[i] for i in rows],
            padding=True,
            truncation=True,
            max_length=self.tokens,
            return_tensors="pt",
        ).to(self.device)
        labels = self.torch.tensor(self.labels[rows], dtype=self.torch.float32, device=self.device)
        return self.model(**inputs, labels=labels).loss

    def _save_best(self) -> None:
        self.model.save_pretrained(self.out / _BEST)
        self.tokenizer.save_pretrained(self.out / _BEST)
        facts = {
            "target": self.target,
            "models": list(self.history.models),
            "history": self.history.digest(),
            "scale": [part.tolist() for part in self.scale],
            "settings": asdict(self.settings),
            "tokens": self.tokens,
        }
        text = json.dumps(facts, indent=1).encode()
        write_atomically(self.out / _FACTS, lambda file: file.write(text))

    def _save_state(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "losses": self.losses,
            "history": self.history.digest(),
            "made_by": self._provenance(),
        }
        write_atomically(self.out / _STATE, lambda file: self.torch.save(state, file))

    def _provenance(self) -> dict[str, Any]:
        """Return the inputs of an epoch besides the history; more epochs or patience may resume from it."""
        fixed = {k: v for k, v in asdict(self.settings).items() if k not in ("model", "epochs", "patience")}
        return {"model": self.initial_weights, "seed": self.seed, **fixed}

    def _resume(self) -> None:
        path = self.out / _STATE
        if not path.exists():
            return
        state = self.torch.load(path, map_location=self.device, weights_only=True)
        if state["history"] != self.history.digest():
            raise ValueError(f"out: {self.out} was trained on another history; give another folder")
        provenance = self._provenance()
        for name, before in state.get("made_by", {}).items():
            if before != provenance[name]:
                raise ValueError(
                    f"out: {self.out} was trained with {name} {before!r}, not {provenance[name]!r}; give "
                    "another folder, or the same settings"
                )
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.losses = list(state["losses"])
        log.info("roberta_resumed", target=self.target, epochs=len(self.losses))


def _max_tokens(requested: int, positions: int) -> int:
    """Limit the tokens to a model's positions; RoBERTa numbers them from 2, after the padding's."""
    available = positions - 2
    if requested <= available:
        return requested
    log.warning("roberta_tokens_cut", asked=requested, positions=positions, tokens=available)
    return available


def _weights_digest(weights: Any) -> str:
    """Return sha256 (first 16 hex digits) of a model's parameters in order of their names."""
    hasher = hashlib.sha256()
    for name, values in sorted(weights.items()):
        hasher.update(name.encode())
        hasher.update(values.cpu().numpy().tobytes())
    return hasher.hexdigest()[:16]


def _labels(history: History, target: Target) -> tuple[FloatArray, tuple[FloatArray, FloatArray]]:
    """Return the labels, [H, M], and the mean and scale that invert their standardisation."""
    models = len(history.models)
    if target == "quality":
        return history.quality, (np.zeros(models), np.ones(models))
    logs = np.log(np.maximum(history.cost, _MIN_COST_USD))
    mean, scale = logs.mean(axis=0), logs.std(axis=0) + 1e-6
    return (logs - mean) / scale, (mean, scale)


def _batches(rows: IntArray, size: int) -> Iterator[IntArray]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


@dataclass(frozen=True)
class RobertaSource:
    """Quality and cost as the trained models predict them.

    Parameters
    ----------
    folder : str
        Parent of the folders `seed-<n>` that `train` wrote, one for each seed of a split.
    """

    folder: str

    @property
    def key(self) -> str:
        """Name of the source with its settings."""
        return f"roberta {self.folder}"

    def check(self, seed: int) -> None:
        """Check that models were trained for a seed.

        Raises
        ------
        FileNotFoundError
            They are missing.
        """
        for target in TARGETS:
            _facts(Path(self.folder) / f"seed-{seed}" / target)

    def make(self, split: Split) -> tuple[Estimates, Estimates | None]:
        """See `experiments.cases.EstimateSource`."""
        folder = Path(self.folder) / f"seed-{split.seed}"
        prompts = [split.data.prompts[i] for i in split.test]
        quality, cost = (
            predict(folder / target, prompts, split.history.history.digest()) for target in TARGETS
        )
        return Estimates(quality, cost), None


def _facts(folder: Path) -> dict[str, Any]:
    path = folder / _FACTS
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run `python -m experiments train`")
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return facts


def predict(folder: Path, prompts: Sequence[str], history: str, batch: int = 32) -> FloatArray:
    """Return predictions of a trained model, [n, M]: quality in [0, 1], or cost in USD.

    Raises
    ------
    FileNotFoundError
        The folder has no trained model.
    ValueError
        The model was trained on another history, which may contain the test queries.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    facts = _facts(folder)
    if facts["history"] != history:
        raise ValueError(f"roberta: {folder} was trained on another history; train it on this one")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = AutoTokenizer.from_pretrained(folder / _BEST)
    model = AutoModelForSequenceClassification.from_pretrained(folder / _BEST).to(device).eval()
    out = np.empty((len(prompts), len(facts["models"])))
    order = np.argsort([len(prompt) for prompt in prompts], kind="stable")
    with torch.inference_mode():
        for rows in _batches(order, batch):
            inputs = tokenizer(
                [prompts[i] for i in rows],
                padding=True,
                truncation=True,
                max_length=facts["tokens"] if "tokens" in facts else facts["settings"]["tokens"],
                return_tensors="pt",
            ).to(device)
            out[rows] = model(**inputs).logits.float().cpu().numpy()
    if facts["target"] == "quality":
        return 1 / (1 + np.exp(-out))
    mean, scale = np.array(facts["scale"])
    return np.maximum(np.exp(out * scale + mean), _MIN_COST_USD)
