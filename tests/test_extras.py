"""Extras: each brings what its programs import, and the wheel of each runs in an environment of its own."""

import json
import subprocess
import sys
import textwrap
from configparser import ConfigParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from routing.extras import EXTRAS
from routing.fitting.saved_fit import fit_facts
from tests.conftest import ROOT
from tests.distributions import is_brought

# None makes an import fail as if the module were not installed
BLOCKER = "import json, sys\nsys.modules.update(dict.fromkeys(json.loads(sys.argv[1])))\n"

PROGRAMS = {
    (): "streams.commands.topics streams.commands.acls streams.commands.config producers.send "
    "producers.batch.__main__ streams.kafka.topics streams.messages.query streams.messages.plan",
    ("worker",): "streams.worker.startup streams.commands.worker streams.commands.explain "
    "streams.commands.bill streams.commands.plan streams.commands.dlq streams.commands.check "
    "routing.estimators.ridge routing.embedding.bytes_embedder routing.embedding.static_embedder "
    "routing.fitting.saved_fit",
    ("fleet",): "producers.fleet.__main__",
    ("gateway",): "producers.gateway.__main__",
    ("replay", "worker", "embedded"): "infra.demo infra.broker.embedded producers.prepare producers.replay",
    ("fit", "worker", "embed"): "routing.__main__ routing.datasets.load routing.datasets.safe_pickle",
    ("experiments", "worker", "embed"): "experiments.__main__ experiments.reports.plots",
}
"""Modules by the extras that must be enough to import them."""


def blocked(*extras: str) -> set[str]:
    """Give the modules that an installation with these extras does not have."""
    brought = {module for extra in extras for module in EXTRAS[extra]}
    return {module for modules in EXTRAS.values() for module in modules} - brought


def run_blocked(names: set[str], program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCKER + textwrap.dedent(program), json.dumps(sorted(names))]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def declared() -> dict[str, set[str]]:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    return {
        extra: {canonicalize_name(Requirement(line).name) for line in text.split("\n") if line.strip()}
        for extra, text in config["options.extras_require"].items()
    }


@pytest.mark.parametrize("extra", EXTRAS)
def test_extra_declares_the_modules_that_it_brings(extra: str) -> None:
    packages = declared()
    own = packages[extra]
    names = own | packages["worker"] | packages["embed"] | packages["replay"] if "port-router" in own else own
    missing = [module for module in EXTRAS[extra] if not is_brought(module, names)]
    assert missing == []


@pytest.mark.parametrize("extras", PROGRAMS, ids=lambda extras: "-".join(extras) or "base")
def test_programs_import_only_what_their_extra_brings(extras: tuple[str, ...]) -> None:
    modules = PROGRAMS[extras].split()
    done = run_blocked(
        blocked(*extras), f"import importlib\nfor name in {modules}:\n    importlib.import_module(name)\n"
    )
    assert done.returncode == 0, done.stderr


def test_fast_demo_is_prepared_without_torch(tmp_path: Path) -> None:
    arguments = ["--dataset", "demo", "--preset", "fast", "--queries", "5", "--out", str(tmp_path)]
    done = run_blocked(
        blocked("replay", "worker"), f"from producers.prepare import main\nsys.exit(main({arguments}))"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "prepared.json").read_text())["fit"] == "shipped with the demo"
    assert fit_facts(tmp_path / "history").preset == "fast"


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("fleet --help", "fleet"),
        ("replay --help", "replay"),
        ("fit --help", "fit"),
        ("worker", "worker"),
        ("experiments", "experiments"),
    ],
)
def test_missing_extra_is_named(command: str, extra: str) -> None:
    program = f"from port_router.__main__ import main\nsys.exit(main({command.split()}))"
    done = run_blocked(blocked(), program)
    assert done.returncode == 1
    assert f"pip install 'port-router[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
