"""`python -m benchmarks.replay`: data sets at full speed on native Kafka, two workers on four partitions.

Replays each, keeps the report of `producers.replay` and what `streams check` says of the topics afterwards.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import orjson

from benchmarks.program import ROOT, running
from benchmarks.result_file import save
from infra.broker.native import native_cluster
from routing.arguments import positive_int

QUERIES = {"open_llm_v2": 8000, "routerbench_subset": 1500}
"""Number of rows of each data set that are queries; the others are the history."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=__doc__.splitlines()[0])
    top.add_argument("data", type=Path, help="folder with NAME.parquet and NAME.minilm.f16.npy")
    top.add_argument("--names", default=",".join(QUERIES), help="data sets [%(default)s]")
    top.add_argument("--workers", type=int, default=2)
    top.add_argument("--partitions", type=int, default=4)
    top.add_argument("--resolve", default="geometric")
    top.add_argument(
        "--rounds",
        type=positive_int,
        default=1,
        help="of each set: at full speed they differ [%(default)s]",
    )
    top.add_argument("--bootstrap-servers", metavar="HOST:PORT", help="a broker that runs; else a native one")
    top.add_argument("--folder", type=Path, default=ROOT / "build" / "replays", help="for what is prepared")
    top.add_argument("--json", type=Path, default=ROOT / "docs" / "results", metavar="FOLDER")
    return top


def main() -> int:
    """Run all replays; return 1 if a replay fails or an invariant is violated."""
    options = parser().parse_args()
    with ExitStack() as stack:
        servers = options.bootstrap_servers or stack.enter_context(native_cluster()).bootstrap_servers
        statuses = [rounds(options, name, servers) for name in options.names.split(",")]
    return max(statuses)


def rounds(options: argparse.Namespace, name: str, servers: str) -> int:
    """Replay a data set several times; write the last report and all scores to replay-NAME.json."""
    file = options.json / f"replay-{name}.json"
    status = 0
    relatives: list[float] = []
    for _ in range(options.rounds):
        failed, report = one(options, name, servers, file)
        status = max(status, failed)
        relatives.append(report["relative"])
        save(file, report | {"relative_of_rounds": relatives})
    return status


def one(options: argparse.Namespace, name: str, servers: str, file: Path) -> tuple[int, dict[str, Any]]:
    """Replay a data set once; return the exit status and the report."""
    folder, app = options.folder / name, f"replay-{secrets.token_hex(4)}"
    settings = {
        "partitions": options.partitions,
        "resolve": options.resolve,
        "topic_prefix": f"{app}.",
        "app_id": app,
        "data_dir": folder / "worker",
        "embedder_loads": "first",
    }
    prepare = [
        "producers.prepare",
        "--dataset",
        options.data / f"{name}.parquet",
        "--queries",
        QUERIES[name],
        "--embeddings",
        options.data / f"{name}.minilm.f16.npy",
        "--preset",
        "paper",
        "--split",
        "weighted",
        "--out",
        folder,
    ]
    for key, value in settings.items():
        prepare += ["--set", f"{key}={value}"]
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": servers, "OMP_NUM_THREADS": "1"}
    streams = ["streams", "--env-file", folder / "settings.env"]
    run(prepare, environment)
    run([*streams, "topics", "create"], environment, stdout=subprocess.DEVNULL)
    with ExitStack() as workers:
        for number in range(options.workers):
            log = folder / f"worker-{number}.log"
            workers.enter_context(worker([*streams, "worker"], environment, log))
        replay = ["producers.replay", folder, "--carry-embeddings", "--quiet", "--json", file]
        status = run(replay, environment, check=False).returncode
    checked = run(
        [*streams, "check", "--complete", "--json"], environment, check=False, stdout=subprocess.PIPE
    )
    report = orjson.loads(file.read_bytes())
    report["check"] = orjson.loads(checked.stdout)
    report["command"] = "python -m " + " ".join(["benchmarks.replay", *sys.argv[1:]])
    print(f"{name}: {'every invariant holds' if checked.returncode == 0 else 'BROKEN'}; {file}")
    return status or checked.returncode, report


def run(
    module: Sequence[object], environment: dict[str, str], *, check: bool = True, stdout: int | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a program of the project to its end."""
    command = [sys.executable, "-m", *map(str, module)]
    return subprocess.run(command, cwd=ROOT, env=environment, check=check, stdout=stdout)


@contextmanager
def worker(module: Sequence[object], environment: dict[str, str], log: Path) -> Iterator[None]:
    """Run a worker with lanes for the length of a block."""
    with running(module, environment, log) as process:
        deadline = time.monotonic() + 120
        while b'"lanes_assigned"' not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the worker has no lanes; see {log}")
            time.sleep(0.1)
        yield


if __name__ == "__main__":
    sys.exit(main())
