"""The steps of docs/quickstart.md, run as written: from a table of answers to a billed answer."""

from __future__ import annotations

import csv
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import orjson
import pytest

from routing.datasets.load import load_dataset
from routing.fitting.saved_fit import fit_facts
from tests.conftest import ROOT, TopicReader
from tests.end_to_end.worker_process import wait_for
from tests.producers.fleet.chat_server import ChatServer, chat_server
from tests.tiny_bert import WORDS, make_small_bert

PAGE = ROOT / "docs" / "quickstart.md"
WAIT_SECONDS = 120.0


def code_blocks(language: str) -> list[str]:
    """Return the page's code blocks of a language, without their indentation."""
    blocks = re.findall(r"^    ```(\w*)\n(.*?)^    ```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [
        "".join(line[4:] for line in block.splitlines(keepends=True))
        for named, block in blocks
        if named == language
    ]


def commands() -> list[str]:
    """Return the page's commands, one per line."""
    return [line for block in code_blocks("bash") for line in block.splitlines()]


def command(part: str) -> str:
    """Return the only command of the page that contains a text."""
    (line_with_part,) = [line for line in commands() if part in line]
    return line_with_part


class Reader:
    """A reader of the page: a folder, an environment, and the page's commands run in both."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment

    def argv(self, line: str) -> list[str]:
        program, *arguments = shlex.split(line)
        assert program == "python"
        return [sys.executable, *arguments]

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(line),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    @contextmanager
    def running(self, line: str, log: str) -> Iterator[Path]:
        """Run a command that does not end by itself; stop it with SIGTERM."""
        path = self.folder / log
        with open(path, "w") as file:
            process = subprocess.Popen(
                self.argv(line), cwd=self.folder, env=self.environment, stdout=file, stderr=subprocess.STDOUT
            )
            try:
                yield path
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) == 0, path.read_text()[-2000:]
            finally:
                process.kill()
                process.wait()


@pytest.fixture
def reader(tmp_path: Path, bootstrap_servers: str, unique: Callable[[str], str]) -> Reader:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PORT_")}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "PORT_BOOTSTRAP_SERVERS": bootstrap_servers,
        "PORT_TOPIC_PREFIX": unique("quickstart") + ".",
        "PORT_APP_ID": unique("quickstart"),
    }
    return Reader(tmp_path, environment)


def write_answers(path: Path, rows: int) -> None:
    """Write a table with the columns of the page's example, and its rows repeated with other words."""
    header, *answers = csv.reader(code_blocks("csv")[0].splitlines())
    rng = np.random.default_rng(0)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for number in range(rows):
            _, prompt, *numbers = answers[number % len(answers)]
            writer.writerow([f"q{number}", f"{prompt} {' '.join(rng.choice(WORDS[4:], 5))}", *numbers])


def test_quickstart_followed_to_the_end_answers_and_bills_a_query(
    reader: Reader, tmp_path: Path, read_topics: TopicReader
) -> None:
    (tmp_path / "example.csv").write_text(code_blocks("csv")[0])
    assert load_dataset(tmp_path / "example.csv").models == ("small-llm", "large-llm")
    write_answers(tmp_path / "answers.csv", 1_000)
    (tmp_path / "catalogue.yaml").write_text(code_blocks("yaml")[0])
    model = tmp_path / "model"
    model.mkdir()
    make_small_bert(model)

    fitted = reader.run(f"{command('routing fit')} --model {model}")  # the page's own model is large
    assert fitted.returncode == 0, fitted.stderr
    assert fit_facts(tmp_path / "history").preset == "fast"

    variables = command("export PORT_CATALOGUE").removeprefix("export ").split()
    reader.environment |= dict(variable.split("=") for variable in variables)
    for part in ("topics create", "config check"):
        done = reader.run(command(part))
        assert done.returncode == 0, done.stdout + done.stderr

    with ExitStack() as running:
        log = running.enter_context(reader.running(command("streams worker"), "worker.log"))
        wait_for(lambda: '"lanes_assigned"' in log.read_text(), WAIT_SECONDS, "the worker is ready")
        sent = reader.run(command("producers.send"))
        assert sent.returncode == 0, sent.stdout + sent.stderr
        server: ChatServer = running.enter_context(chat_server())
        for line in [line for line in commands() if "producers.fleet" in line]:
            local = re.sub(r"--base-url \S+", f"--base-url {server.url}", line)
            name = re.search(r"--llm (\S+)", line)
            assert name is not None
            running.enter_context(reader.running(local, f"{name[1]}.log"))
        topic = reader.environment["PORT_TOPIC_PREFIX"] + "answers"
        (answer,) = wait_for(lambda: read_topics([topic]), WAIT_SECONDS, "the query is answered")
    assert orjson.loads(answer.value() or b"")["answer"] == "WHY IS THE SKY BLUE?"

    bill = reader.run(command("streams bill"))
    assert bill.returncode == 0, bill.stderr
    assert "small-llm" in bill.stdout
    checked = reader.run(command("streams check"))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_config_check_with_a_data_file_as_history_names_the_command_that_fits_it(
    reader: Reader, tmp_path: Path
) -> None:
    write_answers(tmp_path / "answers.csv", 4)
    (tmp_path / "catalogue.yaml").write_text(code_blocks("yaml")[0])
    reader.environment |= {"PORT_CATALOGUE": "catalogue.yaml", "PORT_HISTORY": "answers.csv"}
    checked = reader.run(command("config check"))
    assert checked.returncode != 0
    assert "python -m routing fit --dataset answers.csv --out FOLDER" in checked.stdout + checked.stderr


def test_fit_of_a_short_history_warns_with_the_number_of_rows_that_would_do(
    reader: Reader, tmp_path: Path
) -> None:
    write_answers(tmp_path / "answers.csv", 4)
    (tmp_path / "model").mkdir()
    make_small_bert(tmp_path / "model")

    fitted = reader.run(
        "python -m routing fit --dataset answers.csv --out history --model model --preset static"
    )
    assert fitted.returncode == 0, fitted.stderr
    printed = re.sub(r"\x1b\[\d*m", "", fitted.stdout + fitted.stderr)
    assert re.search(r"history_short.*4 rows, too few.*250 or more", printed)
    # the number of tokens of this model's vocabulary, not of a large one
    assert re.search(r"fit_expected.*tokens_to_embed\S*=\S*10\b", printed)
