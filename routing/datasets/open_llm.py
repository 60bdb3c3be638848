"""Open LLM Leaderboard v2 in CARROT's published form: correctness by LLM, prompts, cost by input prices."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from routing.datasets.cells import read_identifiers, read_numbers, read_texts
from routing.datasets.published_prices import OPEN_LLM, Prices, priced
from routing.datasets.routerbench_table import Incomplete, rows_without_gaps
from routing.datasets.safe_pickle import read_pickled_values
from routing.datasets.table_files import read_schema, read_table
from routing.history.history import History
from routing.history.rules import HistoryError, check_numbers, named, row_name

QUESTIONS = "data_QA.json"
ANSWERS = "*leaderboard_processed*.pickle"
SCENARIO = "leaderboard_"

TokenCounter = Callable[[str, Sequence[str]], ArrayLike]
"""Returns the tokens of each text, by an LLM's name and the texts."""


def load_open_llm(
    path: str | Path,
    prices: Prices | None = None,
    count_tokens: TokenCounter | None = None,
    incomplete: Incomplete = "error",
) -> History:
    """Load the history in CARROT's Open LLM Leaderboard v2.

    It reads two forms:

    - the published folder: `data_QA.json`, with questions `Qs` and full prompts `Ps` of each scenario,
      and `new_leaderboard_processed_*.pickle`, with `models` and `correctness` [models, questions];
    - the table made from it: `prompt` and a column of correctness for each LLM, under the LLM's name.

    Cost = input price x tokens of the prompt, as the leaderboard's answers are a choice of few tokens. The
    question is embedded; the prompt is paid for.

    Parameters
    ----------
    path : path
        The folder, or the table.
    prices : mapping from LLM to (input, output)
        USD per million tokens; by default list prices of the end of 2024.
    count_tokens : callable, optional
        `count_tokens(llm, texts)` returns one count per text. By default a token is four UTF-8 bytes. The
        error is some tens of per cent for a prompt, and none for the ratio of two LLMs with the same
        tokenizer.
    incomplete : {"error", "drop"}
        Raise an error for a row with a gap (no prompt, or no correctness of some LLM), or drop the row.

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
            return _from_folder(place, prices, count, incomplete)
        return _from_table(place, prices, count, incomplete)
    except HistoryError as error:
        raise HistoryError(f"{path}: {error}") from None


def four_bytes_a_token(texts: Sequence[str]) -> NDArray[np.float64]:
    """Estimate the number of tokens without a tokenizer.

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
    """Return the columns of a table that are LLMs of the price list."""
    prices = OPEN_LLM if prices is None else prices
    return [name for name in schema.names if name in prices]


def _from_folder(place: Path, prices: Prices, count: TokenCounter, incomplete: Incomplete) -> History:
    try:
        questions = json.loads((place / QUESTIONS).read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not UTF-8
        raise HistoryError(f"{QUESTIONS}: not JSON ({error}); fetch it again") from None
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
        questions_of, graded = questions[scenario], answers[scenario]
        matrix = np.asarray(graded["correctness"], dtype=np.float64)
        full = questions_of.get("Ps", questions_of["Qs"])
        if not len(questions_of["Qs"]) == len(full) == matrix.shape[1]:
            raise HistoryError(
                f"scenario {scenario!r}: {len(questions_of['Qs'])} questions, {len(full)} prompts and "
                f"{matrix.shape[1]} answers; the files do not belong together"
            )
        names = [_llm(name) for name in graded["models"]]
        quality.append(matrix[[names.index(model) for model in models]].T)
        task = scenario.removeprefix(SCENARIO)
        ids += [f"{task}.{row}" for row in range(len(full))]
        tasks += [task] * len(full)
        prompts += full
        texts += questions_of["Qs"]
    correct = np.concatenate(quality)
    gaps = {model: np.isnan(correct[:, place]) for place, model in enumerate(models)}
    keep = rows_without_gaps(gaps, incomplete, row_name, "id", ids)
    ids, prompts, tasks, texts = ([part[row] for row in keep] for part in (ids, prompts, tasks, texts))
    return History(ids, prompts, tasks, models, correct[keep], _cost(models, prices, prompts, count), texts)


def _from_table(place: Path, prices: Prices, count: TokenCounter, incomplete: Incomplete) -> History:
    models = correctness_columns(read_schema(place), prices)
    if not models:
        raise HistoryError(
            f"no column is a priced LLM; there are {named(read_schema(place).names)}. Pass prices="
        )
    table, rows = read_table(place)
    if "prompt" not in table.column_names:
        raise HistoryError(f"column 'prompt' is missing; there are {named(table.column_names)}")

    def column(name: str, convert: Callable[..., list[str | None]]) -> list[str | None]:
        column_data = table.column(name)
        return convert(column_data.to_pandas(), name, rows.name, str(column_data.type))

    prompts = column("prompt", read_texts)
    key = next((name for name in ("sample_id", "index") if name in table.column_names), None)
    ids = [str(row) for row in range(len(prompts))] if key is None else column(key, read_identifiers)
    tasks = (
        column("eval_name", read_identifiers) if "eval_name" in table.column_names else [""] * len(prompts)
    )
    correct = {name: read_numbers(table.column(name).to_pandas(), name, rows.name) for name in models}
    gaps = {
        name: np.array([text is None for text in texts], bool)
        for name, texts in ((key or "id", ids), ("prompt", prompts))
    }
    gaps |= {name: np.isnan(values) for name, values in correct.items()}
    keep = rows_without_gaps(gaps, incomplete, rows.name, key or "id", ids)
    kept_prompts = [prompts[row] or "" for row in keep]
    quality = np.stack([correct[name][keep] for name in models], axis=1)
    kept_ids = [ids[row] or "" for row in keep]
    check_numbers("quality", quality, 1.0, kept_ids, models, lambda row: rows.name(int(keep[row])))
    return History(
        kept_ids,
        kept_prompts,
        [tasks[row] or "" for row in keep],
        models,
        quality,
        _cost(models, prices, kept_prompts, count),
    )


def _cost(
    models: Sequence[str], prices: Prices, prompts: Sequence[str], count: TokenCounter
) -> NDArray[np.float64]:
    columns = []
    for model, (input_price, _) in zip(models, priced(models, prices), strict=True):
        tokens = np.asarray(count(model, prompts), dtype=np.float64)
        if tokens.shape != (len(prompts),):
            raise HistoryError(
                f"count_tokens: shape {tokens.shape} for {len(prompts)} texts; give one count a text"
            )
        columns.append(tokens * input_price / 1e6)
    return np.stack(columns, axis=1)


def _is_matrix(content: Any) -> bool:
    # Instruction following has several kinds of correctness and no single one to route by.
    return isinstance(content, dict) and "models" in content and np.ndim(content.get("correctness", 0)) == 2


def _llm(repository: str) -> str:
    """Return the LLM of a repository such as `open-llm-leaderboard/Qwen__Qwen2-72B-Instruct-details`."""
    return repository.removeprefix("open-llm-leaderboard/").removesuffix("-details").replace("__", "/")
