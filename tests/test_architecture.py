"""The rules of the layout that import-linter does not state: no cycles, small modules, unique class names."""

import ast
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = ("port_router", "routing", "streams", "producers", "experiments", "infra")
MAX_MODULE_LINES = 400


def modules(*packages: str) -> dict[str, Path]:
    """Return every module below these top-level packages by its dotted name."""
    paths = {}
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """Return the project's modules that a file imports, those under TYPE_CHECKING included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                names.add(submodule if submodule in known else node.module)
    return names & known.keys()


def test_imports_of_the_product_have_no_cycle() -> None:
    known = modules(*PRODUCT)
    graph = {name: imports(path, known) - {name} for name, path in known.items()}
    assert sum(map(len, graph.values())) > len(known), "the imports were not read"
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def test_every_module_has_at_most_400_lines() -> None:
    lengths = {
        name: len(path.read_text().splitlines())
        for name, path in modules(*PRODUCT, "tests", "benchmarks").items()
    }
    long = {name: length for name, length in lengths.items() if length > MAX_MODULE_LINES}
    assert not long, f"split these by idea: {long}"


def test_every_class_name_is_defined_once() -> None:
    places = defaultdict(list)
    for name, path in modules(*PRODUCT).items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(name)
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert not twice, f"rename all but one of each: {twice}"
