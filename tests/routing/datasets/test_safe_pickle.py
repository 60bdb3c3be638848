import os
import pickle
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.core.internals.blocks import new_block
from pandas.core.internals.managers import BlockManager

from routing.datasets.routerbench import load_routerbench
from routing.datasets.safe_pickle import read_pickled_frame, read_pickled_values
from routing.history.rules import HistoryError

PICKLES = sorted((Path(__file__).parent / "pickles").glob("*.pkl"))


class As:
    """Pickles as a call of a function, followed by its state."""

    def __init__(self, call, args=(), state=None):
        self.reduced = (call, args) if state is None else (call, args, state)

    def __reduce__(self):
        return self.reduced


def routerbench():
    """Return the columns of routerbench_0shot.pkl for two of its LLMs."""
    return pd.DataFrame(
        {
            "sample_id": ["mmlu-astronomy.val.0", "grade-school-math.dev.1", "mbpp.dev.2"],
            "prompt": [
                "['Which planet is largest?\\nA) Mars\\nB) Jupiter']",
                "[\"What's 2 + 2?\", 'And now times 3?']",
                "['Write f(x).']",
            ],
            "eval_name": ["mmlu-astronomy", "grade-school-math", "mbpp"],
            "gpt-4-1106-preview": [1.0, 1.0, 0.0],
            "WizardLM/WizardLM-13B-V1.2": np.array([0, 1, 0], dtype=object),
            "gpt-4-1106-preview|model_response": ["B", "['4','12']", "def f(x): pass"],
            "WizardLM/WizardLM-13B-V1.2|model_response": ["A", "4", ""],
            "gpt-4-1106-preview|total_cost": [0.00123, 0.00456, 0.002],
            "WizardLM/WizardLM-13B-V1.2|total_cost": [2.5e-5, 3e-5, 1.25e-5],
            "oracle_model_to_route_to": [
                "gpt-4-1106-preview",
                "WizardLM/WizardLM-13B-V1.2",
                "no_model_correct",
            ],
        }
    )


def dump(value, path, protocol=4):
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


def is_routerbench(history):
    assert history.models == ("gpt-4-1106-preview", "WizardLM/WizardLM-13B-V1.2")
    assert history.prompts == (
        "Which planet is largest?\nA) Mars\nB) Jupiter",
        "What's 2 + 2?\nAnd now times 3?",
        "Write f(x).",
    )
    assert history.tasks == ("mmlu-astronomy", "grade-school-math", "mbpp")
    assert history.quality.tolist() == [[1, 0], [1, 1], [0, 0]]
    assert history.cost.tolist() == [[0.00123, 2.5e-5], [0.00456, 3e-5], [0.002, 1.25e-5]]


@pytest.mark.parametrize("path", PICKLES, ids=[path.stem for path in PICKLES])
def test_read_pickled_frame_reads_files_of_older_pandas(path):
    is_routerbench(load_routerbench(path))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("strings", ["arrow", "python", "objects"])
def test_read_pickled_frame_reads_files_of_this_pandas(tmp_path, protocol, strings):
    table = routerbench()
    if strings != "arrow":
        kind = object if strings == "objects" else pd.StringDtype("python")
        table = table.astype(dict.fromkeys(("sample_id", "prompt", "eval_name"), kind))
    is_routerbench(load_routerbench(dump(table, tmp_path / "rb.pkl", protocol)))


def test_read_pickled_frame_reads_an_index_of_selected_rows(tmp_path):
    picked = routerbench().iloc[[2, 0]]
    assert load_routerbench(dump(picked, tmp_path / "rb.pkl")).ids == ("mbpp.dev.2", "mmlu-astronomy.val.0")


def test_read_pickled_frame_reads_blocks_of_pandas_1_3(tmp_path):
    table = routerbench().astype(object)
    blocks = (As(partial(new_block, ndim=2), (table.to_numpy().T.copy(), slice(0, len(table.columns), 1))),)
    manager = As(BlockManager, (blocks, [table.columns, table.index]))
    path = dump(As(pd.DataFrame, (), {"_mgr": manager, "_typ": "dataframe"}), tmp_path / "rb.pkl")
    is_routerbench(load_routerbench(path))


def test_read_pickled_frame_reads_managers_of_pandas_1_0(tmp_path):
    table = routerbench().astype(object)
    axes = [table.columns, table.index]
    places = np.arange(len(table.columns))
    part = {"values": table.to_numpy().T.copy(), "mgr_locs": places}
    state = (axes, [part["values"]], [table.columns], {"0.14.1": {"axes": axes, "blocks": [part]}})
    path = dump(As(pd.DataFrame, (), {"_data": As(BlockManager, (), state)}), tmp_path / "rb.pkl")
    is_routerbench(load_routerbench(path))


def touch(path):
    return As(os.system, (f"touch {path}",))


@pytest.mark.parametrize(
    "make",
    [
        touch,
        lambda path: [touch(path)],
        lambda path: As(eval, (f"open({str(path)!r}, 'w')",)),
        lambda path: As(getattr, (pd.DataFrame(), "to_csv")),
        lambda path: pd.DataFrame({"a": np.array([touch(path)], dtype=object)}),
        lambda path: As(partial(os.system, f"touch {path}"), ()),
        lambda path: As(pd.read_pickle, (str(path),)),
        lambda path: As(pd.DataFrame.to_csv, (pd.DataFrame(), str(path))),
        lambda path: As(np.fromfile, (str(path),)),
        lambda path: As(np.save, (str(path), np.zeros(1))),
    ],
)
def test_read_pickled_frame_other_names_raise_and_nothing_runs(tmp_path, make):
    trace = tmp_path / "trace"
    path = dump(make(trace), tmp_path / "evil.pkl")
    with pytest.raises(HistoryError, match=r"evil\.pkl: refused: the pickle asks for .*parquet"):
        load_routerbench(path)
    assert not trace.exists()


def test_read_pickled_frame_cannot_change_the_reader(tmp_path):
    reconstruct = pickle.dumps(np.zeros(0))  # names numpy's _reconstruct
    name = reconstruct[reconstruct.index(b"\x8c\x16numpy._core.multiarray") :].split(b"\x93")[0]
    evil = b"\x80\x04" + name + b"\x93}\x8c\x04_run\x8c\x01xsb."
    path = tmp_path / "evil.pkl"
    path.write_bytes(evil)
    with pytest.raises(HistoryError, match="tries to change a function"):
        read_pickled_values(path)
    is_routerbench(load_routerbench(PICKLES[0]))


@pytest.mark.parametrize(
    "array",
    [
        np.array([("a", 1)], dtype=[("name", "O"), ("value", "i4")]),
        np.array(["2024-01-01"], dtype="datetime64[D]"),
        np.array(["abc"]),
        np.array([1 + 2j]),
    ],
)
def test_read_pickled_frame_arrays_of_other_types_raise(tmp_path, array):
    with pytest.raises(HistoryError, match=r"refused: arrays of type|not a pickled table"):
        read_pickled_values(dump({"a": array}, tmp_path / "x.pkl"))


def test_read_pickled_frame_raw_bytes_never_become_objects(tmp_path):
    evil = As(np.frombuffer, (b"12345678", "O"))
    with pytest.raises(HistoryError, match="refused"):
        read_pickled_values(dump(evil, tmp_path / "x.pkl"))
    function = np.zeros(1).__reduce_ex__(5)[0]  # numpy's _frombuffer
    path = dump(As(function, (b"12345678", np.dtype("O"), (1,), "C")), tmp_path / "y.pkl")
    with pytest.raises(HistoryError, match="not given as a list"):
        read_pickled_values(path)


@pytest.mark.parametrize("what", [[1, 2], {"a": 1}, "text", np.zeros(3)])
def test_read_pickled_frame_without_table_is_named(tmp_path, what):
    with pytest.raises(HistoryError, match="not a pickled DataFrame"):
        read_pickled_frame(dump(what, tmp_path / "x.pkl"))


def test_read_pickled_values_returns_plain_values(tmp_path):
    value = {
        "bbh": {"models": ["a", "b"], "correctness": np.array([[0.0, 1.0], [1.0, 0.0]]), "n": np.float64(2)}
    }
    values = read_pickled_values(dump(value, tmp_path / "x.pkl"))
    assert values["bbh"]["models"] == ["a", "b"]
    assert values["bbh"]["correctness"].tolist() == [[0, 1], [1, 0]]
    assert values["bbh"]["n"] == 2


@settings(max_examples=80)
@given(data=st.data())
def test_read_pickled_frame_damaged_file_is_read_or_raises_history_error(damaged, data):
    content = data.draw(st.sampled_from(PICKLES)).read_bytes()
    if data.draw(st.booleans()):
        damaged.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    else:
        place = data.draw(st.integers(0, len(content) - 1))
        damaged.write_bytes(
            content[:place] + data.draw(st.binary(min_size=1, max_size=4)) + content[place + 1 :]
        )
    with suppress(HistoryError):
        assert len(load_routerbench(damaged)) > 0


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "x.pkl"
