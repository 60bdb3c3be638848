"""faiss with the matrix kernels of this processor.

faiss' package brings an OpenBLAS of 2021. It takes a processor that it does not know (Intel's since Sapphire
Rapids) for one of 2004: a matrix product, and with it a neighbour search, takes four times as long there.
NumPy's OpenBLAS is newer, so faiss' loads with the kernels that NumPy's has found.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType

import numpy as np

CORE_TYPE = "OPENBLAS_CORETYPE"
"""Variable that names the kernels. OpenBLAS reads it once, as it is loaded."""

OLDER_NAMES = {"SapphireRapids": "SkylakeX", "Cooperlake": "SkylakeX"}
"""Kernels that faiss' OpenBLAS has, for processors that have more."""


@cache
def load_faiss() -> ModuleType:
    """Return the module `faiss`; import it only by this function."""
    with _set_core_type(numpy_core_type()):
        import faiss
    return faiss


def numpy_core_type() -> str | None:
    """Return the kernels of NumPy's OpenBLAS, by a name that faiss' knows; None if it has another library."""
    # comes with faiss, and the base installation has neither
    from threadpoolctl import threadpool_info

    folder = os.path.dirname(np.__file__)
    for library in threadpool_info():
        # in `numpy`, or in `numpy.libs` beside it
        if library["internal_api"] == "openblas" and library["filepath"].startswith(folder):
            core_type = str(library["architecture"])
            return OLDER_NAMES.get(core_type, core_type)
    return None


@contextmanager
def _set_core_type(name: str | None) -> Iterator[None]:
    """Set the variable within a block, unless it is set already."""
    if name is None or CORE_TYPE in os.environ:
        yield
        return
    os.environ[CORE_TYPE] = name
    try:
        yield
    finally:
        del os.environ[CORE_TYPE]
