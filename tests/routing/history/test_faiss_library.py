"""faiss' matrix kernels: those of this processor, or those that the user named."""

import os
import subprocess
import sys

import pytest

from routing.history.faiss_library import CORE_TYPE

PROGRAM = """
import os
from threadpoolctl import threadpool_info
from routing.history.faiss_library import load_faiss, numpy_core_type

before = dict(os.environ)
numpys = numpy_core_type()
load_faiss()
assert dict(os.environ) == before
libraries = [one for one in threadpool_info() if "faiss" in one["filepath"]]
print(numpys, *{one["architecture"] for one in libraries if "architecture" in one})
"""


def core_types(**variables: str) -> list[str]:
    """Return the kernels of NumPy and of faiss in a fresh process."""
    environment = {name: value for name, value in os.environ.items() if name != CORE_TYPE} | variables
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.split()


def test_faiss_has_the_kernels_that_numpy_found() -> None:
    numpys, *kernels = core_types()
    if not kernels:
        pytest.skip("this faiss has no OpenBLAS")
    assert kernels == [numpys]


def test_faiss_kernels_named_by_the_user_are_kept() -> None:
    default = core_types()[1:]
    if not default:
        pytest.skip("this faiss has no OpenBLAS")
    named = "Nehalem"
    assert default != [named]
    assert core_types(**{CORE_TYPE: named}) == [named, named]
