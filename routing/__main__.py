"""`python -m routing`: fit a preset to a history and save it for the router, or import prices."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from routing.extras import require_extra

if __name__ == "__main__":
    require_extra("fit")

import numpy as np
import structlog
from tqdm import tqdm

from routing.arguments import positive_int
from routing.datasets.load import load_dataset
from routing.datasets.routerbench_table import Incomplete
from routing.embedding.bytes_embedder import vocabulary_size
from routing.embedding.embedder import Embedder, load_embedder
from routing.embedding.model_files import DEFAULT, model_folder
from routing.embedding.static_embedder import BATCH, TOKENIZER
from routing.embedding.stored_vectors import stored_vectors
from routing.fitting.effort import has_words, plan_fit
from routing.fitting.fit import fit
from routing.fitting.presets import MIN_MEASURED_ROWS, NAMES, Preset, choose_preset, short_history
from routing.fitting.saved_fit import FitFacts, Fitted, save_fitted
from routing.history.history import History
from routing.history_extension import add_extend, extend_history
from routing.price_import import add_prices, import_prices

log = structlog.get_logger()

PROBE_GROUPS, TEXTS_PER_PROBE = 4, 16  # texts that are embedded to forecast the rest
REPORT_SECONDS = 15.0  # between two reports of the remaining time
MIN_RATE_PROMPTS = 16  # prompts of the first measurement of a rate
PRODUCT_SIZE = 1024  # of the matrix product that measures this machine's speed


FIT = "Fit a preset to a history and save it for the router."


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m routing", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    fitting = commands.add_parser("fit", help="fit a preset to a history", description=FIT)
    fitting.add_argument(
        "--dataset", required=True, type=Path, metavar="FILE", help="answered queries, in any known format"
    )
    fitting.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="folder of the result")
    fitting.add_argument(
        "--preset", choices=NAMES, default="auto", help="auto: by the history's size [%(default)s]"
    )
    fitting.add_argument(
        "--embeddings", type=Path, metavar="NPY", help="the model's embeddings of the rows, if available"
    )
    fitting.add_argument(
        "--model", default=DEFAULT, help="sentence-transformers model, name or folder [%(default)s]"
    )
    fitting.add_argument(
        "--max-tokens", type=positive_int, metavar="N", help="length at which the model cuts texts"
    )
    fitting.add_argument(
        "--incomplete",
        choices=get_args(Incomplete),
        default="error",
        help="handling of rows with gaps [%(default)s]",
    )
    fitting.add_argument("--models", metavar="A,B", help="LLMs to keep, by their names in the data set")
    fitting.add_argument("--rows", type=positive_int, metavar="N", help="use the first N rows only")
    fitting.add_argument("--threads", type=positive_int, metavar="N", help="threads of the embedding model")
    add_prices(commands)
    add_extend(commands)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return the exit status."""
    options = parser().parse_args(arguments)
    try:
        if options.command == "history":
            return extend_history(options)
        return _fit(options) if options.command == "fit" else import_prices(options)
    except (ValueError, OSError) as error:
        print(f"{options.command}: {error}", file=sys.stderr)
        return 2


def _fit(options: argparse.Namespace) -> int:
    history = load_dataset(options.dataset, options.incomplete)
    vectors = None if options.embeddings is None else stored_vectors(options.embeddings, len(history))
    if options.models:
        history = history.with_models(options.models.split(","))
    if options.rows is not None:
        history = history.select(np.arange(min(options.rows, len(history))))
        vectors = None if vectors is None else vectors[: options.rows]
    preset, reason = choose_preset(len(history), options.preset)
    log.info("preset_chosen", preset=preset.name, reason=reason, summary=preset.summary)
    warning = short_history(len(history))
    if warning is not None:
        log.warning("history_short", rows=len(history), enough=MIN_MEASURED_ROWS, reason=warning)
    loaded, closed_forms = _forecast(options, history, preset, embedded=vectors is not None)
    begun = time.perf_counter()
    with tqdm(desc="embedding", unit="text", disable=None, delay=0.5) as bar:
        remaining = RemainingTime(time.perf_counter(), closed_forms)

        def report_progress(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)
            seconds = remaining.after(done, of, time.perf_counter())
            if seconds is not None:
                log.info("fit_progress", embedded=done, of=of, seconds_left=round(seconds))

        def report_step(step: str) -> None:
            log.info("fit_step_done", step=step, seconds=round(time.perf_counter() - begun, 1))

        fitted = fit(
            history,
            preset,
            out=options.out,
            embeddings=vectors,
            model=options.model,
            max_tokens=options.max_tokens,
            threads=options.threads,
            loaded=loaded,
            on_progress=report_progress,
            on_step=report_step,
        )
    rate = measured_rate(fitted)
    facts = FitFacts(
        preset.name, reason, fitted.history.digest(), options.model, options.max_tokens, round(rate, 1)
    )
    save_fitted(options.out, fitted, facts)
    log.info(
        "fit_saved",
        folder=str(options.out),
        rows=len(history),
        seconds=round(time.perf_counter() - begun, 1),
        queries_per_second=round(rate),
    )
    return 0


class RemainingTime:
    """Forecast of the remaining time, updated while texts are embedded.

    Parameters
    ----------
    begun : float
        Seconds, when embedding began.
    afterwards : float
        Seconds that follow the embedding.
    """

    def __init__(self, begun: float, afterwards: float) -> None:
        self._reported = begun
        self._afterwards = afterwards
        self._first: tuple[int, float] | None = None

    def after(self, done: int, of: int, now: float) -> float | None:
        """Return the seconds left at `now` with `done` texts of `of`; None if it is too early to report.

        Examples
        --------
        >>> remaining = RemainingTime(begun=0.0, afterwards=5.0)
        >>> remaining.after(10, 100, now=10.0) is None, remaining.after(50, 100, now=50.0)
        (True, 55.0)
        """
        if self._first is None:
            # The first batch loads the model and is the longest, so it does not predict the others.
            self._first = done, now
            return None
        if now - self._reported < REPORT_SECONDS:
            return None
        self._reported = now
        first_done, first_at = self._first
        return (now - first_at) * (of - done) / (done - first_done) + self._afterwards


def _forecast(
    options: argparse.Namespace, history: History, preset: Preset, *, embedded: bool
) -> tuple[Embedder | None, float]:
    """Log time and memory, from a short measurement of this machine.

    Returns
    -------
    embedder : Embedder or None
        The model, if it had to be loaded.
    closed_forms : float
        Seconds that follow the embedding.
    """
    words = vocabulary_size(history.texts) if has_words(len(history), preset) else None
    tokens = tokenizer_size(options.model) if preset.embedder == "static" else 0
    plan = plan_fit(len(history), len(history.models), preset, embedded, words, tokens)
    closed_forms = plan.operations / _operations_per_second()
    seconds, embedder = closed_forms, None
    if plan.tokens:
        # The distillation embeds many tokens at once, too.
        probe = load_embedder(options.model, batch_size=BATCH, threads=options.threads)
        loading, measured = measure_embedding(probe, [["word"] * min(BATCH, plan.tokens)])
        seconds += loading + measured * plan.tokens
    elif plan.embed or preset.embedder == "model":
        embedder = load_embedder(options.model, options.max_tokens, threads=options.threads)
        _, measured = measure_embedding(embedder, probes(history.texts))
        # The measurement after the fit embeds texts, too.
        seconds += measured * (plan.embed + (3 * MIN_RATE_PROMPTS if preset.embedder == "model" else 0))
    log.info(
        "fit_expected",
        rows=len(history),
        texts_to_embed=plan.embed,
        tokens_to_embed=plan.tokens,
        seconds=round(seconds),
        memory_mb=round(plan.memory / 1e6),
    )
    return embedder, closed_forms


def tokenizer_size(model: str) -> int:
    """Return the number of tokens of a model's tokenizer."""
    from tokenizers import Tokenizer

    return int(Tokenizer.from_file(str(model_folder(model) / TOKENIZER)).get_vocab_size())


def probes(texts: Sequence[str]) -> list[list[str]]:
    """Choose groups of texts of similar length from the middle of each part of the lengths.

    Examples
    --------
    >>> [len(group[0]) for group in probes(["x" * length for length in range(1600)])]
    [192, 592, 992, 1392]
    """
    ordered = sorted(texts, key=len)
    part = len(ordered) / PROBE_GROUPS
    starts = [max(0, int(part * (i + 0.5)) - TEXTS_PER_PROBE // 2) for i in range(PROBE_GROUPS)]
    return [ordered[start : start + TEXTS_PER_PROBE] for start in starts]


def measure_embedding(embedder: Embedder, groups: Sequence[Sequence[str]]) -> tuple[float, float]:
    """Measure the speed of an embedder.

    Parameters
    ----------
    embedder : Embedder
    groups : sequence of sequence of str
        Texts to embed; each group stands for the same share of all texts.

    Returns
    -------
    loading : float
        Seconds of the first call, which loads the model.
    each : float
        Seconds a text, without that call.
    """
    begun = time.perf_counter()
    embedder.embed(groups[0][:1])
    loading = time.perf_counter() - begun
    embedder.embed(groups[-1])  # The first call with a batch size is slow, too.
    rates = []
    for group in groups:
        begun = time.perf_counter()
        embedder.embed(group)
        rates.append((time.perf_counter() - begun) / len(group))
    return loading, sum(rates) / len(rates)


def _operations_per_second() -> float:
    """Measure the operations per second of a single-precision product; factorisations reach half of it."""
    matrix = np.ones((PRODUCT_SIZE, PRODUCT_SIZE), np.float32)
    matrix @ matrix
    begun = time.perf_counter()
    matrix @ matrix
    return PRODUCT_SIZE**3 / (time.perf_counter() - begun)


def measured_rate(fitted: Fitted, batch: int = 256) -> float:
    """Measure decisions per second from the raw prompt, in one batch of the history's prompts."""
    prompts = fitted.history.history.prompts[: min(batch, len(fitted.history))]
    if not len(prompts):
        return 0.0
    probe_prompts = prompts[:MIN_RATE_PROMPTS]
    fitted.estimator.estimate(fitted.embedder.embed(probe_prompts))
    begun = time.perf_counter()
    fitted.estimator.estimate(fitted.embedder.embed(probe_prompts))
    slow = time.perf_counter() - begun > 0.1
    prompts = probe_prompts if slow else prompts
    begun = time.perf_counter()
    fitted.estimator.estimate(fitted.embedder.embed(prompts))
    return len(prompts) / (time.perf_counter() - begun)


if __name__ == "__main__":
    sys.exit(main())
