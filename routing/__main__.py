"""`python -m routing fit`: fits a preset to a history and saves it for router and stream."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import structlog
from tqdm import tqdm

from routing.arguments import count
from routing.bytes_embedder import vocabulary_size
from routing.datasets import load_dataset
from routing.embedding import DEFAULT, Embedder, load_embedder
from routing.fitting import FitFacts, Fitted, fit, has_words, plan_fit, save_fitted
from routing.history import History
from routing.presets import NAMES, Preset, choose_preset
from routing.unit import normalised

log = structlog.get_logger()

_PROBE = 48  # texts embedded to tell how long the rest will take
_FEW = 16  # prompts that are decided first when a rate is measured
_SIZE = 1024  # of the matrix product that tells how fast this machine is


def parser() -> argparse.ArgumentParser:
    """What the command can be told."""
    parser = argparse.ArgumentParser(prog="python -m routing", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    fitting = commands.add_parser("fit", help="fit a preset to a history", description=__doc__)
    fitting.add_argument(
        "--dataset", required=True, type=Path, metavar="FILE", help="answered queries, in any form we know"
    )
    fitting.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="where the result goes")
    fitting.add_argument(
        "--preset", choices=NAMES, default="auto", help="auto: what the history's size allows [%(default)s]"
    )
    fitting.add_argument(
        "--embeddings", type=Path, metavar="NPY", help="the model's embeddings of the rows, when at hand"
    )
    fitting.add_argument(
        "--model", default=DEFAULT, help="sentence-transformers model, name or folder [%(default)s]"
    )
    fitting.add_argument("--max-tokens", type=count, metavar="N", help="at which the model cuts texts")
    fitting.add_argument("--models", metavar="A,B", help="LLMs to keep, by their names in the data set")
    fitting.add_argument("--rows", type=count, metavar="N", help="only the first N rows")
    fitting.add_argument("--threads", type=count, metavar="N", help="of the embedding model")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    given = parser().parse_args(arguments)
    try:
        return _fit(given)
    except (ValueError, FileNotFoundError) as error:
        print(f"fit: {error}", file=sys.stderr)
        return 2


def _fit(given: argparse.Namespace) -> int:
    history = load_dataset(given.dataset)
    vectors = None
    if given.embeddings is not None:
        vectors = np.load(given.embeddings, allow_pickle=False)
        if len(vectors) != len(history):
            raise ValueError(
                f"embeddings: {given.embeddings} has {len(vectors)} rows, the data set {len(history)}"
            )
        vectors = normalised(vectors)
    if given.models:
        history = history.with_models(given.models.split(","))
    if given.rows is not None:
        history = history.select(np.arange(min(given.rows, len(history))))
        vectors = None if vectors is None else vectors[: given.rows]
    preset, reason = choose_preset(len(history), given.preset)
    log.info("preset_chosen", preset=preset.name, reason=reason, summary=preset.summary)
    loaded = _tell_before(given, history, preset, embedded=vectors is not None)
    begun = time.perf_counter()
    with tqdm(desc="embedding", unit="text", disable=None, delay=0.5) as bar:

        def counted(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        def said(step: str) -> None:
            log.info("fit_step_done", step=step, seconds=round(time.perf_counter() - begun, 1))

        fitted = fit(
            history,
            preset,
            out=given.out,
            embeddings=vectors,
            model=given.model,
            max_tokens=given.max_tokens,
            threads=given.threads,
            loaded=loaded,
            counted=counted,
            said=said,
        )
    rate = measured_rate(fitted)
    facts = FitFacts(
        preset.name, reason, fitted.history.digest(), given.model, given.max_tokens, round(rate, 1)
    )
    save_fitted(given.out, fitted, facts)
    log.info(
        "fit_saved",
        folder=str(given.out),
        rows=len(history),
        seconds=round(time.perf_counter() - begun, 1),
        queries_per_second=round(rate),
    )
    return 0


def _tell_before(
    given: argparse.Namespace, history: History, preset: Preset, *, embedded: bool
) -> Embedder | None:
    """Time and memory, from a short measurement of this machine; the model, where it had to be loaded."""
    words = vocabulary_size(history.texts) if has_words(len(history), preset) else None
    plan = plan_fit(len(history), len(history.models), preset, embedded, words)
    seconds = plan.operations / _operations_per_second()
    embedder, texts = None, plan.embed + plan.tokens
    if preset.embedder == "model":
        texts += 3 * _FEW  # the measurement after the fit embeds as well
    if texts:
        embedder = load_embedder(given.model, given.max_tokens, threads=given.threads)
        sample = list(history.texts[:: max(1, len(history) // _PROBE)][:_PROBE])
        if plan.tokens:
            sample = ["word"] * _PROBE
        begun = time.perf_counter()
        embedder.embed(sample[:1])
        loading = time.perf_counter() - begun
        begun = time.perf_counter()
        embedder.embed(sample)
        seconds += (time.perf_counter() - begun) / len(sample) * texts
        # a token table is distilled by the network itself, loaded once more
        seconds += loading if plan.tokens else 0.0
    log.info(
        "fit_expected",
        rows=len(history),
        texts_to_embed=plan.embed,
        seconds=round(seconds),
        memory_mb=round(plan.memory / 1e6),
    )
    return embedder


def _operations_per_second() -> float:
    """Floating point operations a second of a single-precision product here; factorisations reach half."""
    matrix = np.ones((_SIZE, _SIZE), np.float32)
    matrix @ matrix
    begun = time.perf_counter()
    matrix @ matrix
    return _SIZE**3 / (time.perf_counter() - begun)


def measured_rate(fitted: Fitted, batch: int = 256) -> float:
    """Decisions a second from the raw prompt, in one batch of the history's own prompts."""
    prompts = fitted.history.history.prompts[: min(batch, len(fitted.history))]
    if not len(prompts):
        return 0.0
    few = prompts[:_FEW]
    fitted.estimator.estimate(fitted.embedder.embed(few))
    begun = time.perf_counter()
    fitted.estimator.estimate(fitted.embedder.embed(few))
    slow = time.perf_counter() - begun > 0.1
    prompts = few if slow else prompts
    begun = time.perf_counter()
    fitted.estimator.estimate(fitted.embedder.embed(prompts))
    return len(prompts) / (time.perf_counter() - begun)


if __name__ == "__main__":
    sys.exit(main())
