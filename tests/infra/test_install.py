"""Versions: all that setup.cfg asks for is pinned, and what is pinned is what these tests run on."""

import importlib.metadata
import re
from configparser import ConfigParser

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

PINS = {
    canonicalize_name(name): version
    for name, version in (line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
}


def requirements() -> list[Requirement]:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    sections = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    lines = "\n".join(sections).splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


def test_every_requirement_is_pinned() -> None:
    assert [str(r) for r in requirements() if canonicalize_name(r.name) not in PINS] == []


def test_what_a_requirement_requires_is_pinned_too() -> None:
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


def test_the_pinned_versions_are_the_installed_ones() -> None:
    other = {}
    for name, version in PINS.items():
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if installed.partition("+")[0] != version:  # torch's CPU build is 2.x.y+cpu
            other[name] = (installed, version)
    assert other == {}, "run `make install`"


def test_no_pin_names_an_address() -> None:
    assert not re.search(r"[:/@]", (ROOT / "constraints.txt").read_text())
