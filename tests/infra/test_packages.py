"""The package as users install it: sdist, wheel, and an environment each for a worker and a fleet."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from routing.extras import EXTRAS
from routing.fitting.fit import fit
from routing.fitting.presets import choose_preset
from routing.fitting.saved_fit import FitFacts, save_fitted
from tests.conftest import ROOT
from tests.routing.fitting.test_fit import history_and_vectors

pytestmark = pytest.mark.timeout(600)

MEGABYTE = 2**20
MAX_MEGABYTES = {"worker": 350, "fleet": 120}

ROUTE = """
import sys
from routing.fitting.saved_fit import load_fitted
fitted = load_fitted(sys.argv[1])
print(fitted.estimator.estimate(fitted.embedder.embed(["cell protein gene"])).quality.shape)
print(sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with the sdist and the wheel, built from the files under version control."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    tracked = [name for name in names.decode().split("\0") if name and (ROOT / name).is_file()]
    for name in tracked:
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    for kind in ("sdist", "wheel"):
        call = f"from setuptools import build_meta as b; b.build_{kind}({str(out)!r})"
        done = subprocess.run([sys.executable, "-c", call], cwd=source, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return out


def install(built: Path, folder: Path, extra: str) -> Path:
    """Install the wheel with an extra, without bytecode; return the environment's folder."""
    (wheel,) = built.glob("*.whl")
    uv = str(Path(sys.executable).parent / "uv")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    place = folder / extra
    options = ["--quiet", "--link-mode", "copy", "--python", str(place / "bin" / "python")]
    options += ["--constraint", str(ROOT / "constraints.txt")]
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, str(place)],
        [uv, "pip", "install", *options, f"{wheel}[{extra}]"],
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return place


def run(place: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(place / "bin" / command[0]), *command[1:]],
        cwd=place,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def megabytes(place: Path) -> float:
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) / MEGABYTE


def test_sdist_and_wheel_have_data_and_types(built: Path) -> None:
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "routing/py.typed",
        "routing/datasets/demo/fast/embedder/bytes_embedder.npz",
        "streams/web/static/page.js",
        "port_router/__main__.py",
    } <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "build/"))]
    with tarfile.open(sdist) as archive:
        assert {"setup.cfg", "README.md"} <= {name.partition("/")[2] for name in archive.getnames()}


def test_worker_extra_routes_with_preset_fast_and_is_small(built: Path, tmp_path: Path) -> None:
    history, vectors = history_and_vectors()
    preset, reason = choose_preset(len(history), "fast")
    fitted = fit(history, preset, out=tmp_path / "fit", embeddings=vectors)
    save_fitted(tmp_path / "fit", fitted, FitFacts("fast", reason, fitted.history.digest()))
    place = install(built, tmp_path, "worker")
    assert megabytes(place) < MAX_MEGABYTES["worker"]
    routed = run(place, "python", "-c", ROUTE, str(tmp_path / "fit"))
    assert routed.returncode == 0, routed.stderr
    shape, modules = routed.stdout.splitlines()
    assert shape == "(1, 2)"
    absent = ("torch", "pandas", "pyarrow", "openai", "transformers")
    assert not [name for name in absent if repr(name) in modules]
    assert run(place, "port-router", "worker").stderr.startswith("error: ")
    assert "port-router[fleet]" in run(place, "port-router", "fleet", "--help").stderr


def test_fleet_extra_runs_and_is_small(built: Path, tmp_path: Path) -> None:
    place = install(built, tmp_path, "fleet")
    assert megabytes(place) < MAX_MEGABYTES["fleet"]
    shown = run(place, "port-router", "--version")
    assert shown.stdout.startswith("port-router "), shown.stderr
    assert "--base-url" in run(place, "port-router", "fleet", "--help").stdout
    assert "port-router[worker]" in run(place, "port-router", "worker").stderr
    assert not (place / "lib" / "python3.11" / "site-packages" / EXTRAS["worker"][3]).exists()
