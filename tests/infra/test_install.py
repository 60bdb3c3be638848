"""Versions: all that setup.cfg asks for is pinned, and what is pinned is what these tests run on."""

import ast
import importlib.metadata
import re
import sys
from configparser import ConfigParser

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT
from tests.distributions import is_brought

PINS = {
    canonicalize_name(name): version
    for name, version in (line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
}


def requirements() -> list[Requirement]:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    sections = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    lines = "\n".join(sections).splitlines()
    requirements_in_file = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return [
        requirement for requirement in requirements_in_file if requirement.name != config["metadata"]["name"]
    ]


IN_OTHER_ENVIRONMENTS = {"benchmarks": {"litellm"}}
"""Imports of `benchmarks.peer_programs`, which `benchmarks.peers` installs for one router each."""


def test_constraints_pin_every_requirement() -> None:
    assert [str(r) for r in requirements() if canonicalize_name(r.name) not in PINS] == []


def imported_by(folder: str) -> set[str]:
    """Give the top-level modules that a package's files import, anywhere in them."""
    packages: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                packages |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                packages.add(node.module.partition(".")[0])
    return packages


@pytest.mark.parametrize("package", [path.parent.name for path in sorted(ROOT.glob("*/__init__.py"))])
def test_setup_declares_every_import(package: str) -> None:
    ours = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {"tests"}
    declared = {canonicalize_name(requirement.name) for requirement in requirements()}
    imported = imported_by(package) - ours - set(sys.stdlib_module_names)
    imported -= IN_OTHER_ENVIRONMENTS.get(package, set())
    undeclared = [module for module in sorted(imported) if not is_brought(module, declared)]
    assert undeclared == [], "add their packages to setup.cfg"


def test_constraints_pin_indirect_requirements() -> None:
    missing = set()
    for name in PINS:
        try:
            required = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # CUDA's libraries, where torch's CPU build is installed
        for requirement in map(Requirement, required):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                missing.add(canonicalize_name(requirement.name))
    # not ours to pin: they come with the interpreter's own venv
    assert missing - PINS.keys() - {"pip", "setuptools"} == set()


def test_constraints_match_installed_versions() -> None:
    other = {}
    for name, version in PINS.items():
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if installed.partition("+")[0] != version:  # torch's CPU build is 2.x.y+cpu
            other[name] = (installed, version)
    assert other == {}, "run `make install`"


def test_constraints_contain_no_addresses() -> None:
    assert not re.search(r"[:/@]", (ROOT / "constraints.txt").read_text())
