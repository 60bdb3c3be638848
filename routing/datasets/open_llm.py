"""Open LLM Leaderboard v2 in CARROT's published form: correctness by LLM, prompts, cost by input prices."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from routing.datasets.list_prices import OPEN_LLM, Prices, priced
from routing.datasets.pickled import read_pickled_values
from routing.datasets.tables import read_schema, read_table
from routing.history import History
from routing.history_rules import HistoryError, named

QUESTIONS = "data_QA.json"
ANSWERS = "*leaderboard_processed*.pickle"
SCENARIO = "leaderboard_"

TokenCounter = Callable[[str, Sequence[str]], ArrayLike]
"""From an LLM's name and texts to the tokens of each text."""


def load_open_llm(
    path: str | Path, prices: Prices | None = None, count_tokens: TokenCounter | None = None
) -> History:
    """The history in CARROT's Open LLM Leaderboard v2.

    Either of its forms:

    - the published folder: `data_QA.json`, with questions `Qs` and full prompts `Ps` of each scenario,
      and `new_leaderboard_processed_*.pickle`, with `models` and `correctness` [models, questions];
    - the table made from it: `prompt` and a column of correctness for each LLM, under the LLM's name.

    Cost = input price x tokens of the prompt, as the leaderboard's answers are a choice of few tokens. The
    text to embed is the question; the prompt is what is paid for.

    Parameters
    ----------
    path : path
        The folder, or the table.
    prices : mapping from LLM to (input, output)
        USD per million tokens; list prices of the end of 2024 where not given.
    count_tokens : callable, optional
        `count_tokens(llm, texts)`, one count a text. Where not given, a token is taken to be four UTF-8
        bytes: right within some tens of per cent for a prompt, and exact for the ratio of two LLMs that share
        a tokenizer.

    Raises
    ------
    HistoryError
        A file, a column, a price or a value is missing or wrong.
    """
    place = Path(path)
    prices = OPEN_LLM if prices is None else prices
    count = count_tokens or (lambda _, texts: four_bytes_a_token(texts))
    try:
        if place.is_dir() and (place / QUESTIONS).exists():
            return _from_folder(place, prices, count)
        return _from_table(place, prices, count)
    except HistoryError as error:
        raise HistoryError(f"{path}: {error}") from None


def four_bytes_a_token(texts: Sequence[str]) -> NDArray[np.float64]:
    """A count of tokens for want of a tokenizer.

    Examples
    --------
    >>> four_bytes_a_token(["two words", ""]).tolist()
    [3.0, 1.0]
    """
    sizes = np.fromiter(
        (len(text.encode("utf-8", "surrogatepass")) for text in texts), np.float64, len(texts)
    )
    return np.maximum(np.ceil(sizes / 4), 1.0)


def correctness_columns(schema: pa.Schema, prices: Prices | None = None) -> list[str]:
    """The columns of a table that are an LLM of the price list."""
    prices = OPEN_LLM if prices is None else prices
    return [name for name in schema.names if name in prices]


def _from_folder(place: Path, prices: Prices, count: TokenCounter) -> History:
    questions = json.loads((place / QUESTIONS).read_text(encoding="utf-8"))
    files = sorted(place.glob(ANSWERS))
    if not files:
        raise HistoryError(f"{ANSWERS} is missing beside {QUESTIONS}; fetch it too")
    answers = read_pickled_values(files[0])
    scenarios = [name for name in questions if name in answers and _is_matrix(answers[name])]
    if not scenarios:
        raise HistoryError(f"no scenario is in both {QUESTIONS} and {files[0].name}; fetch both again")
    common = set.intersection(*({_llm(name) for name in answers[name]["models"]} for name in scenarios))
    models = sorted(name for name in common if name in prices)
    if not models:
        raise HistoryError(f"prices: none for {named(sorted(common))}; pass prices={{name: (input, output)}}")
    ids, prompts, texts, tasks, quality = [], [], [], [], []
    for scenario in scenarios:
        asked, found = questions[scenario], answers[scenario]
        matrix = np.asarray(found["correctness"], dtype=np.float64)
        full = asked.get("Ps", asked["Qs"])
        if not len(asked["Qs"]) == len(full) == matrix.shape[1]:
            raise HistoryError(
                f"scenario {scenario!r}: {len(asked['Qs'])} questions, {len(full)} prompts and "
                f"{matrix.shape[1]} answers; the files do not belong together"
            )
        names = [_llm(name) for name in found["models"]]
        quality.append(matrix[[names.index(model) for model in models]].T)
        task = scenario.removeprefix(SCENARIO)
        ids += [f"{task}.{row}" for row in range(len(full))]
        tasks += [task] * len(full)
        prompts += full
        texts += asked["Qs"]
    return History(
        ids, prompts, tasks, models, np.concatenate(quality), _cost(models, prices, prompts, count), texts
    )


def _from_table(place: Path, prices: Prices, count: TokenCounter) -> History:
    models = correctness_columns(read_schema(place), prices)
    if not models:
        raise HistoryError(
            f"no column is a priced LLM; there are {named(read_schema(place).names)}. Pass prices="
        )
    table = read_table(place)
    if "prompt" not in table.column_names:
        raise HistoryError(f"column 'prompt' is missing; there are {named(table.column_names)}")
    prompts = [str(text) for text in table.column("prompt").to_pylist()]
    keys = next((name for name in ("sample_id", "index") if name in table.column_names), None)
    ids = range(len(prompts)) if keys is None else table.column(keys).to_pylist()
    task = table.column("eval_name").to_pylist() if "eval_name" in table.column_names else [""] * len(prompts)
    quality = np.stack(
        [np.asarray(table.column(name).to_pylist(), dtype=np.float64) for name in models], axis=1
    )
    return History(
        [str(key) for key in ids], prompts, task, models, quality, _cost(models, prices, prompts, count)
    )


def _cost(
    models: Sequence[str], prices: Prices, prompts: Sequence[str], count: TokenCounter
) -> NDArray[np.float64]:
    columns = []
    for model, (paid, _) in zip(models, priced(models, prices), strict=True):
        tokens = np.asarray(count(model, prompts), dtype=np.float64)
        if tokens.shape != (len(prompts),):
            raise HistoryError(
                f"count_tokens: shape {tokens.shape} for {len(prompts)} texts; give one count a text"
            )
        columns.append(tokens * paid / 1e6)
    return np.stack(columns, axis=1)


def _is_matrix(found: Any) -> bool:
    # instruction following has several kinds of correctness, and no single one to route by
    return isinstance(found, dict) and "models" in found and np.ndim(found.get("correctness", 0)) == 2


def _llm(repository: str) -> str:
    """The LLM of a repository, as `open-llm-leaderboard/Qwen__Qwen2-72B-Instruct-details`."""
    return repository.removeprefix("open-llm-leaderboard/").removesuffix("-details").replace("__", "/")
