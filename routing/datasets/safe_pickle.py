"""Pickled tables, read without running code: stand-ins replace the names in the pickle.

A pickle is a program. An allow-list of real constructors still lets it choose their arguments. Here every
name on the list stands for a small class or function of this module. These accept the data of all versions of
pandas and numpy, and keep plain arrays and texts. Any other name is rejected.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from routing.history.rules import HistoryError


def read_pickled_frame(path: str | Path) -> pd.DataFrame:
    """Read the table of a pickled DataFrame, written by pandas 1.0 or later.

    Raises
    ------
    HistoryError
        The pickle wants anything beyond a table, is no DataFrame, or is cut off.
    """
    frame: pd.DataFrame = _guarded(path, lambda: _frame(_read(path)))
    return frame


def read_pickled_values(path: str | Path) -> Any:
    """Read dicts, lists, texts, numbers and numpy arrays from a pickle; errors as in `read_pickled_frame`."""
    return _guarded(path, lambda: _plain(_read(path)))


def _guarded(path: str | Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except HistoryError as error:
        raise HistoryError(f"{path}: {error}") from None
    except (
        pickle.UnpicklingError,
        EOFError,
        TypeError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        UnicodeDecodeError,
        OverflowError,
        MemoryError,
        pa.ArrowException,
    ) as error:
        raise HistoryError(
            f"{path}: not a pickled table that can be read ({type(error).__name__}: {error}); "
            "fetch it again, or give it as parquet"
        ) from None


def _read(path: str | Path) -> Any:
    with open(path, "rb") as file:
        return _Reader(file).load()


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        allowed_class = _NAMES.get((module.replace("numpy.core.", "numpy._core."), name))
        if allowed_class is None:
            raise HistoryError(
                f"refused: the pickle asks for {module}.{name}, which no table needs: maybe an attack; "
                "get the file from its publisher, or give it as parquet"
            )
        return allowed_class


class _Function:
    """A function that pickles may call, and cannot change."""

    __slots__ = ("_run",)

    def __init__(self, run: Callable[..., Any]) -> None:
        self._run = run

    def __call__(self, *args: Any) -> Any:
        return self._run(*args)

    def __setstate__(self, state: Any) -> None:
        raise HistoryError("refused: the pickle tries to change a function")


class _Record:
    """An object of which only arguments and state are kept."""

    __slots__ = ("args", "state")
    args: tuple[Any, ...]
    state: Any

    def __init__(self, *args: Any) -> None:
        pass

    def __new__(cls, *args: Any) -> _Record:
        record = super().__new__(cls)
        record.args, record.state = args, None
        return record

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Frame(_Record):
    __slots__ = ()


class _Manager(_Record):
    __slots__ = ()


class _TextArray(_Record):
    __slots__ = ()


class _Kind(_Record):
    """A class that pickles name and do not make: an index, a type."""

    __slots__ = ()


class _Dtype(_Record):
    """A numpy type: numbers, truth values, or Python objects; nothing with fields."""

    __slots__ = ()

    def code(self) -> str:
        spec = str(self.args[0])
        if not re.fullmatch(r"[biuf][1248]|O8?|[?]", spec):
            raise HistoryError(f"refused: arrays of type {spec!r}; a table has numbers and texts")
        order = self.state[1] if self.state else "|"
        return ("" if order not in ("<", ">") else order) + spec


class _Array(_Record):
    """A numpy array; `values` is set with its state."""

    __slots__ = ("values",)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, by_column, raw = state
        self.values = _array(raw, dtype, shape, "F" if by_column else "C")


class _Block(_Record):
    """Columns of one type: values [columns, rows] and their places."""

    __slots__ = ()


class _BlockMaker:
    """functools.partial(new_block, ndim=2), as pandas 1.3 wrote its blocks."""

    __slots__ = ()

    def __init__(self, maker: Any) -> None:
        if maker is not _BLOCK:
            raise HistoryError("refused: the pickle wraps a function that is not pandas' new_block")

    def __setstate__(self, state: Any) -> None:
        pass

    def __call__(self, values: Any, places: Any) -> _Block:
        return _Block(values, places)


def _array(raw: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    code = dtype.code()
    if code.startswith("O"):
        if not isinstance(raw, list):
            raise HistoryError("refused: an array of objects that is not given as a list")
        values = np.empty(len(raw), dtype=object)
        values[:] = raw
    else:
        values = np.frombuffer(raw.encode("latin1") if isinstance(raw, str) else raw, dtype=code)
    shaped: NDArray[Any] = values.reshape(shape, order=order)  # type: ignore[call-overload]
    return shaped


def _scalar(dtype: Any, raw: Any) -> Any:
    return _array(raw, dtype, (), "C").item()


class _Labels(list[Any]):
    """Labels of an index; `levels` are its named columns, of which an index of several levels has several."""

    __slots__ = ("levels",)
    levels: dict[str, list[Any]]

    def __init__(self, labels: list[Any], levels: dict[str, list[Any]]) -> None:
        super().__init__(labels)
        self.levels = levels

    def __setstate__(self, state: Any) -> None:
        raise HistoryError("refused: the pickle tries to change an index")


def _index(kind: Any, state: dict[str, Any]) -> _Labels:
    if "levels" in state:
        columns = [
            _level(values, codes.values.tolist())
            for values, codes in zip(state["levels"], state["codes"], strict=True)
        ]
        names = zip(state["names"], columns, strict=True)
        return _Labels(list(zip(*columns, strict=True)), {str(n): c for n, c in names if n is not None})
    if "data" in state:
        labels = _column(state["data"])
    else:
        labels = list(range(state["start"], min(state["stop"], 10**9), state["step"]))
    name = state.get("name")
    return _Labels(labels, {} if name is None else {str(name): labels})


def _level(values: list[Any], codes: list[int]) -> list[Any]:
    return [None if code < 0 else values[code] for code in codes]


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise HistoryError(f"refused: bytes in the encoding {encoding!r}")
    return text.encode("latin1")


def _own_bytes(data: Any = b"") -> bytes:
    if not isinstance(data, bytes | bytearray):
        raise HistoryError("refused: a bytearray that is not made from bytes")
    return bytes(data)


def _arrow_type(name: str) -> pa.DataType:
    if name not in ("string", "large_string"):
        raise HistoryError(f"refused: Arrow arrays of type {name!r}; a table has texts in them")
    return pa.type_for_alias(name)


def _arrow_array(data: Any) -> list[str | None]:
    kind, length, nulls, offset, buffers, *_ = data
    array = pa.Array.from_buffers(
        kind, length, [None if part is None else pa.py_buffer(part) for part in buffers], nulls, offset
    )
    array.validate(full=True)  # offsets may point anywhere
    texts: list[str | None] = array.to_pylist()
    return texts


def _frame(pickled: Any) -> pd.DataFrame:
    if not isinstance(pickled, _Frame):
        raise HistoryError(f"not a pickled DataFrame but a {type(pickled).__name__.strip('_').lower()}")
    manager = pickled.state.get("_mgr", pickled.state.get("_data"))
    if manager.args:
        blocks, (columns, rows) = [block.args[:2] for block in manager.args[0]], manager.args[1]
    else:  # pandas 1.0 to 1.2
        parts = manager.state[3]["0.14.1"]
        blocks, (columns, rows) = (
            [(part["values"], part["mgr_locs"]) for part in parts["blocks"]],
            parts["axes"],
        )
    table: list[list[Any] | np.ndarray | None] = [None] * len(columns)
    for values, places in blocks:
        spots = range(len(columns))[places] if isinstance(places, slice) else places.values.tolist()
        plain = _column(values) if isinstance(values, list | _TextArray) else values.values
        for spot, part in zip(spots, [plain] if isinstance(plain, list) else plain, strict=True):
            table[spot] = part
    for name, column in zip(columns, table, strict=True):
        if column is None or len(column) != len(rows):
            raise HistoryError(f"column {name!r} of the pickled table is not whole")
    named = {name: column for name, column in getattr(rows, "levels", {}).items() if name not in columns}
    for name, column in zip(columns, table, strict=True):
        if str(name) in named:
            raise HistoryError(f"column {str(name)!r} is a duplicate; rename or drop one of them")
        named[str(name)] = column
    return pd.DataFrame(named)


def _column(values: Any) -> list[Any]:
    if isinstance(values, list):
        return values
    column: list[Any]
    if isinstance(values, _Array):
        column = values.values.tolist()
    elif isinstance(values.state, dict):
        column = values.state["_pa_array"]
    else:
        column = next(part for part in values.state if isinstance(part, _Array)).values.tolist()
    return column


def _plain(value: Any) -> Any:
    if isinstance(value, _Array):
        return value.values
    if isinstance(value, dict):
        return {_plain(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(part) for part in value)
    if isinstance(value, _Record | _Function):
        raise HistoryError(f"not plain values: a {type(value).__name__.strip('_').lower()} is among them")
    return value


_BLOCK = _Function(lambda values, places, *_: _Block(values, places))
_CHUNKS = _Function(lambda chunks, *_: [text for chunk in chunks for text in chunk])
_INDEX, _TEXT_TYPE = _Function(_index), _Function(lambda *_: None)

_NAMES: dict[tuple[str, str], Any] = {
    ("pandas", "DataFrame"): _Frame,
    ("pandas.core.frame", "DataFrame"): _Frame,
    ("pandas.core.internals.managers", "BlockManager"): _Manager,
    ("pandas._libs.internals", "_unpickle_block"): _BLOCK,
    ("pandas.core.internals.blocks", "new_block"): _BLOCK,
    ("functools", "partial"): _BlockMaker,
    ("pandas.core.indexes.base", "_new_Index"): _INDEX,
    ("pandas", "Index"): _Kind,
    ("pandas", "RangeIndex"): _Kind,
    ("pandas", "MultiIndex"): _Kind,
    ("pandas.core.indexes.multi", "MultiIndex"): _Kind,
    ("pandas.core.indexes.base", "Index"): _Kind,
    ("pandas.core.indexes.range", "RangeIndex"): _Kind,
    ("pandas.core.indexes.numeric", "Int64Index"): _Kind,
    ("pandas", "StringDtype"): _TEXT_TYPE,
    ("pandas.core.arrays.string_", "StringDtype"): _TEXT_TYPE,
    ("pandas.arrays", "ArrowStringArray"): _TextArray,
    ("pandas.core.arrays.string_arrow", "ArrowStringArray"): _TextArray,
    ("pandas.arrays", "StringArray"): _TextArray,
    ("pandas.core.arrays.string_", "StringArray"): _TextArray,
    ("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked"): _Function(lambda *_: _TextArray()),
    ("pandas", "NA"): float("nan"),
    ("pandas._libs.missing", "NA"): float("nan"),
    ("numpy", "ndarray"): _Kind,
    ("numpy", "dtype"): _Dtype,
    ("numpy._core.multiarray", "_reconstruct"): _Function(lambda *_: _Array()),
    ("numpy._core.multiarray", "scalar"): _Function(_scalar),
    ("numpy._core.numeric", "_frombuffer"): _Function(
        lambda raw, dtype, shape, order: _array_of(_array(raw, dtype, shape, order))
    ),
    ("pyarrow.lib", "type_for_alias"): _Function(_arrow_type),
    ("pyarrow.lib", "py_buffer"): _Function(_own_bytes),
    ("pyarrow.lib", "_restore_array"): _Function(_arrow_array),
    ("pyarrow.lib", "chunked_array"): _CHUNKS,
    ("_codecs", "encode"): _Function(_latin1),
    ("builtins", "slice"): slice,
    ("__builtin__", "slice"): slice,
    ("builtins", "bytearray"): _Function(_own_bytes),
    ("__builtin__", "bytearray"): _Function(_own_bytes),
}


def _array_of(values: np.ndarray) -> _Array:
    array = _Array()
    array.values = values
    return array
