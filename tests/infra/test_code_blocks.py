"""Every code block of the documentation is run, or parsed by the program that it is for."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from producers.gateway.keys import read_keys
from routing.budgets.catalogue import Catalogue
from routing.datasets.load import load_dataset
from routing.extras import EXTRAS
from streams.config.settings import Settings
from tests.conftest import ROOT
from tests.infra.code_blocks import (
    SHELL,
    CodeBlock,
    Misused,
    code_blocks,
    inline_commands,
    parse,
    split_commands,
)

CHECKED = (SHELL, "python", "json", "yaml", "csv")
SHOWN = ("text",)
"""Languages of blocks that show output or a drawing."""

DEMO = "tests/infra/test_demo.py"
BROKER = "tests/infra/broker/test_main.py"
DLQ = "tests/streams/commands/test_dlq.py"
FORWARDING = "tests/end_to_end/test_partition_forwarding.py"
GATEWAY = "tests/end_to_end/gateway/test_chat_completions.py"
HISTORY = "tests/end_to_end/test_new_history.py"
PAUSE = "tests/end_to_end/test_returned_queries.py"
EXAMPLES = "tests/producers/test_readme_examples.py"
SHARED_BUDGETS = "tests/end_to_end/test_shared_budgets.py"
TOP_UPS = "tests/streams/operations/test_top_ups.py"
SHADOW = "tests/end_to_end/test_shadow.py"
QUICKSTART = "tests/end_to_end/test_quickstart.py"
DATA_SETS = "computes for minutes to hours on a data set that is not part of the repository"
CLUSTER = "needs a Kubernetes cluster; tests/infra/test_helm.py renders the chart"
ENDPOINT = "needs an LLM's endpoint and its key"
LIKE_QUICKSTART = "the commands of docs/quickstart.md, which a test follows"
REGISTRY = "installs from a package registry"

ELSEWHERE_OR_NOT = {
    "README.md: import json, uuid": EXAMPLES,
    "README.md: import json": EXAMPLES,
    "README.md: make demo": DEMO,
    "CONTRIBUTING.md: .venv/bin/python -m pytest tests/routing/plannin": "runs tests again",
    "docs/batch.md: python -m producers.batch requests.jsonl --answe": "tests/producers/batch/test_main.py",
    "docs/bill-and-explain.md: python -m streams bill --budget team": SHARED_BUDGETS,
    "docs/budgets.md: python -m streams plan top-up team=search 20": TOP_UPS,
    'docs/budgets.md: pip install "port-router[prices]"': REGISTRY,
    "docs/consuming.md: def give_back(message, reason, cost=0.0):": EXAMPLES,
    "docs/data.md: python -m routing fit --dataset answers.csv --ou": LIKE_QUICKSTART,
    "docs/data.md: export PORT_BOOTSTRAP_SERVERS=localhost:9092 POR": LIKE_QUICKSTART,
    "docs/dead-letters.md: python -m streams dlq list": DLQ,
    "docs/fleet.md: export KAFKA_BOOTSTRAP_SERVERS=localhost:9092 PO": ENDPOINT,
    "docs/fleet.md: python -m producers.fleet --llm gpt-4 --base-url": ENDPOINT,
    "docs/gateway.md: export KAFKA_BOOTSTRAP_SERVERS=localhost:9092 PO": GATEWAY,
    "docs/gateway.md: from openai import OpenAI": GATEWAY,
    "docs/installation.md: pip install 'port-router[worker]'": REGISTRY,
    "docs/installation.md: docker build --target router --tag port-router .": "needs Docker",
    "docs/kubernetes.md: helm lint infra/helm/port-router --values infra/": CLUSTER,
    "docs/laboratory.md: python -m experiments main --dataset FILE --embe": DATA_SETS,
    "docs/laboratory.md: python -m routing fit --dataset FILE --embedding": LIKE_QUICKSTART,
    "docs/learning.md: python -m experiments quality-change $ROUTERBENC": DATA_SETS,
    "docs/learning.md: python -m streams history export --out answered.": HISTORY,
    "docs/learning.md: python -m experiments off-policy $ROUTERBENCH --": DATA_SETS,
    "docs/operations.md: python -m streams topics forward": FORWARDING,
    'docs/producing.md: python -m producers.send "Why is the sky blue?"': "tests/producers/test_send.py",
    "docs/quickstart.md: make install": REGISTRY,
    "docs/quickstart.md: python -m infra.broker up --kind native": BROKER,
    "docs/quickstart.md: python -m routing fit --dataset answers.csv --ou": QUICKSTART,
    "docs/quickstart.md: export PORT_CATALOGUE=catalogue.yaml PORT_HISTOR": QUICKSTART,
    "docs/quickstart.md: python -m streams worker": QUICKSTART,
    'docs/quickstart.md: python -m producers.send "Why is the sky blue?"': QUICKSTART,
    "docs/quickstart.md: python -m producers.fleet --llm small-llm --base": QUICKSTART,
    "docs/quickstart.md: python -m streams bill": QUICKSTART,
    "docs/replay.md: python -m producers.prepare --dataset routerbenc": DATA_SETS,
    "docs/scaling.md: python -m benchmarks.scaling --dataset ../shared": DATA_SETS,
    "docs/shadow.md: export PORT_CATALOGUE=candidate.yaml PORT_HISTOR": SHADOW,
    "docs/when-an-llm-fails.md: python -m streams plan pause gpt-4 --for 10m": PAUSE,
}
"""Blocks that this file only parses: the test that runs them, or why none does. The others are run here."""

OTHER_PROGRAMS = ("helm", "kafka-acls.sh", "kafka-delete-records.sh")
"""Programs of others, replaced in a run by one that does nothing."""

SHELL_BLOCKS, PYTHON_BLOCKS = code_blocks(SHELL), code_blocks("python")
RUN_HERE = [block for block in SHELL_BLOCKS if block.name not in ELSEWHERE_OR_NOT]


def by_name(blocks: list[CodeBlock]) -> object:
    return pytest.mark.parametrize("block", blocks, ids=lambda block: f"{block.page}:{block.line}")


def data_set_options() -> dict[str, str]:
    """Return the options that docs/results.md abbreviates, by their variable."""
    page = (ROOT / "docs" / "results.md").read_text()
    return dict(re.findall(r"^\| `\$(\w+)` \| `([^`]+)`", page, re.MULTILINE))


def expand(command: str) -> str:
    """Replace the variables of docs/results.md by their options."""
    for name, options in data_set_options().items():
        command = command.replace(f"${name}", options)
    return command


def test_every_block_names_a_known_language() -> None:
    assert [block for block in code_blocks() if block.language not in (*CHECKED, *SHOWN)] == []
    assert len(SHELL_BLOCKS) > 30


def test_table_of_blocks_that_are_not_run_here_is_current() -> None:
    names = [block.name for block in [*SHELL_BLOCKS, *PYTHON_BLOCKS]]
    assert len(names) == len(set(names)), "two blocks of a page begin alike"
    assert ELSEWHERE_OR_NOT.keys() <= set(names)
    for name, test in ELSEWHERE_OR_NOT.items():
        assert not test.startswith("tests/") or (ROOT / test).is_file(), name


@by_name(SHELL_BLOCKS)
def test_commands_of_a_block_are_accepted(block: CodeBlock, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in split_commands(expand(block.text)):
        if words[0] == "export":
            names = {word.partition("=")[0] for word in words[1:] if word.startswith("PORT_")}
            assert names <= {f"PORT_{name.upper()}" for name in Settings.model_fields}
        elif words[0] == "pip":
            extras = re.findall(r"\[([\w,]+)\]", " ".join(words))
            assert {name for names in extras for name in names.split(",")} <= {*EXTRAS, "all"}
        elif words[:2] == ["docker", "build"] and "--target" in words:
            stage = words[words.index("--target") + 1]
            assert re.search(rf"^FROM .* AS {stage}$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        elif "pytest" in words:
            assert [word for word in words if word.startswith("tests/") and not (ROOT / word).exists()] == []
        else:
            parse(words, monkeypatch)


@pytest.mark.parametrize(("page", "command"), [*dict.fromkeys(inline_commands())])
def test_commands_in_the_text_are_accepted(page: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command in a sentence may leave out arguments, and have placeholders in capital letters."""
    complete = re.sub(r"\bN\b", "1", expand(command).translate(str.maketrans("", "", "[]")))
    for words in split_commands(complete):
        try:
            parse([word for word in words if word != "..."], monkeypatch)
        except Misused as error:
            if not re.search(r"arguments are required|invalid choice: '[A-Z]+'", str(error)):
                raise


@by_name(RUN_HERE)
def test_block_that_needs_only_files_runs(block: CodeBlock, tmp_path: Path) -> None:
    (catalogue,) = [block.text for block in code_blocks("yaml") if block.page == "docs/quickstart.md"]
    (tmp_path / "catalogue.yaml").write_text(catalogue)
    (tmp_path / ".config" / "fish" / "completions").mkdir(parents=True)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in OTHER_PROGRAMS:
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PORT_")}
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment |= {"PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=tmp_path,
        env=environment | {"PORT_CATALOGUE": "catalogue.yaml"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@by_name(PYTHON_BLOCKS)
def test_python_block_compiles_and_is_run_by_a_test(block: CodeBlock) -> None:
    ast.parse(block.text)
    assert ELSEWHERE_OR_NOT[block.name].startswith("tests/")


@by_name(code_blocks("json"))
def test_json_block_is_valid(block: CodeBlock) -> None:
    assert isinstance(json.loads(block.text), dict)


@by_name(code_blocks("yaml"))
def test_yaml_block_is_accepted_by_its_reader(block: CodeBlock, tmp_path: Path) -> None:
    content = yaml.safe_load(block.text)
    if "keys" in content:
        (tmp_path / "keys.yaml").write_text(block.text)
        assert read_keys(tmp_path / "keys.yaml")
    else:
        assert Catalogue.from_dict({"budget_usd": 1, "models": ["gpt-4"]} | content)


@by_name(code_blocks("csv"))
def test_csv_block_is_a_data_set(block: CodeBlock, tmp_path: Path) -> None:
    (tmp_path / "answers.csv").write_text(block.text)
    assert load_dataset(tmp_path / "answers.csv").models
