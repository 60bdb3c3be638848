"""Access control lists: the permissions of each role, the command that prints them, and the guide."""

import argparse
from pathlib import Path

import pytest

from streams.commands import acls
from streams.config.settings import Settings
from streams.kafka.acls import ROLES, grants
from tests.conftest import ROOT


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "catalogue.yaml"
    path.write_text("models: [{name: a/b, budget_usd: 1}, {name: c, budget_usd: 1}]\n")
    monkeypatch.setenv("PORT_CATALOGUE", str(path))
    return path


def test_acls_command_prints_arguments_of_kafkas_tool(catalogue: Path, capsys: pytest.CaptureFixture[str]):
    parser = argparse.ArgumentParser()
    acls.add_arguments(parser)
    assert acls.run(parser.parse_args(["worker", "--user", "rt"])) == 0
    lines = capsys.readouterr().out.splitlines()

    assert "--add --allow-principal User:rt --operation Write --topic llm.a-b" in lines
    prefixed = "--operation Write --transactional-id port- --resource-pattern-type prefixed"
    assert f"--add --allow-principal User:rt {prefixed}" in lines
    assert not [line for line in lines if line[-33:] == "--operation Write --topic queries"]


def test_security_guide_lists_the_grants_of_each_role(catalogue: Path):
    guide = (ROOT / "docs" / "security.md").read_text()
    settings = Settings()
    for role in ROLES:
        section = guide.split(f"### {role}\n", 1)[1].split("\n### ", 1)[0].split("\n## ", 1)[0]
        granted = set()
        for grant in grants(settings, settings.read_catalogue(), role):
            name = "llm.SLUG" if grant.name in ("llm.a-b", "llm.c") else grant.name
            granted.add((grant.resource, f"`{name}{'*' if grant.prefix else ''}`", grant.operation))
        listed = set()
        for line in section.splitlines():
            if line.startswith("| ") and not line.startswith(("| Resource", "| ---")):
                resource, names, operations = (cell.strip() for cell in line.strip("|").split("|"))
                listed |= {
                    (resource, name.strip(), operation.strip())
                    for name in names.split(",")
                    for operation in operations.split(",")
                }
        assert listed == granted, role
