"""`python -m producers.send`: puts prompts of one's own on the stream, and shows where each went."""

from __future__ import annotations

import argparse
import io
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from producers.collecting import DEAD, UNSERVED, Arrival, Collector
from producers.producing import Load, encode_query
from routing.arguments import count, positive, rate
from routing.catalogue import Catalogue
from streams.command_line import add_env_file, take_env_file, told_in_a_line
from streams.kafka import reach_broker
from streams.settings import Settings
from streams.topics import existing_partitions

SHOWN = 60


def parser() -> argparse.ArgumentParser:
    """What the command can be told."""
    parser = argparse.ArgumentParser(
        prog="python -m producers.send",
        description=__doc__,
        epilog="A line of JSON may have any field of a query: "
        '{"id": "a1", "prompt": "Why?", "max_tokens": 100, "metadata": {"team": "x"}}. '
        "Without arguments and --file, standard input is read.",
    )
    parser.add_argument("prompts", nargs="*", metavar="PROMPT")
    parser.add_argument("--file", type=Path, metavar="FILE", help="a prompt a line; .jsonl: a query a line")
    parser.add_argument("--jsonl", action="store_true", help="lines are JSON, whatever the file is called")
    parser.add_argument("--max-tokens", type=count, metavar="N", help="most tokens of each answer")
    parser.add_argument("--rate", type=rate, metavar="Q", help="queries a second; 0: as fast as it goes")
    parser.add_argument("--follow", action="store_true", help="show where each went")
    parser.add_argument(
        "--deadline",
        type=positive,
        default=120.0,
        metavar="S",
        help="give up after S quiet seconds [%(default)s]",
    )
    add_env_file(parser)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; 1 when a query was not delivered, or with --follow did not arrive."""
    given = parser().parse_args(arguments)
    take_env_file(parser(), given)
    return told_in_a_line(lambda: run(given))


def run(given: argparse.Namespace) -> int:
    """Sends, and follows where asked to."""
    queries = list(read_queries(given))
    if not queries:
        raise ValueError("PROMPT: there is none; give prompts, a --file, or lines on standard input")
    settings = Settings()
    admin = reach_broker(settings)
    partitions = existing_partitions(admin).get(settings.topics.queries, 0)
    if not partitions:
        raise ValueError(
            f"topic {settings.topics.queries}: is not there; run `python -m streams topics create`"
        )
    load = Load(settings, partitions, given.rate)
    if not given.follow:
        load.run(queries)
        print(f"{load.delivered} of {len(queries)} queries are on {settings.topics.queries}", file=sys.stderr)
        return _told(load)
    catalogue = settings.read_catalogue()
    collector = Collector(settings, catalogue, admin, load.places)
    try:
        load.run(queries)
        missing = follow(collector, catalogue, dict(queries), given.deadline)
    finally:
        collector.stop()
    for identity in missing:
        print(f"{identity}  is nowhere yet", file=sys.stderr)
    return _told(load) or bool(missing)


def follow(
    collector: Collector, catalogue: Catalogue, queries: dict[str, bytes], deadline: float
) -> list[str]:
    """Prints each query's place as it is read; returns the ids that did not come."""
    collector.until(queries)
    shown = 0
    while True:
        running = collector.running
        arrivals = collector.arrivals
        for arrival in arrivals[shown:]:
            if arrival.id in queries:
                print(describe(arrival, catalogue, queries[arrival.id]), flush=True)
        shown = len(arrivals)
        if not running or time.monotonic() - collector.newest > deadline:
            break
        time.sleep(0.05)
    if collector.failure:
        raise ValueError(f"reading stopped: {collector.failure}")
    seen = {arrival.id for arrival in collector.arrivals}
    return [identity for identity in queries if identity not in seen]


def describe(arrival: Arrival, catalogue: Catalogue, value: bytes) -> str:
    """One line about where a query went."""
    prompt = " ".join(str(orjson.loads(value).get("prompt", "")).split())
    prompt = prompt if len(prompt) <= SHOWN else prompt[: SHOWN - 3] + "..."
    routing = arrival.routing
    if arrival.where == DEAD:
        place = f"dead letter: {routing.get('exception.message', 'no reason given')}"
    elif arrival.where == UNSERVED:
        place = f"unserved: {routing.get('reason') or 'no reason given'}"
    else:
        place = catalogue.names[arrival.where]
    figures = ""
    if arrival.where >= 0:
        quality, cost = float(routing.get("quality", 0)), float(routing.get("cost", 0))
        figures = f"  quality {quality:.3f}, cost {cost:.3g} USD"
    return f"{arrival.id}  {place}{figures}  {prompt}"


def read_queries(given: argparse.Namespace) -> Iterator[tuple[str, bytes]]:
    """The queries of arguments, file or standard input: id and message.

    Raises
    ------
    ValueError
        A line is no JSON object, or an id is there twice.
    """
    seen: set[str] = set()
    for identity, value in _read_all(given):
        if identity in seen:
            raise ValueError(f"id: {identity!r} is there twice; ids tell queries apart")
        seen.add(identity)
        yield identity, value


def _read_all(given: argparse.Namespace) -> Iterator[tuple[str, bytes]]:
    for number, prompt in enumerate(given.prompts, 1):
        yield _from_prompt(prompt, f"PROMPT {number}", given.max_tokens)
    if given.file is not None:
        # bytes that are not UTF-8 are found in their line, as are those of standard input
        with open(given.file, encoding="utf-8", errors="surrogateescape") as lines:
            yield from _from_lines(lines, given.jsonl or given.file.suffix == ".jsonl", given.max_tokens)
    elif not given.prompts:
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
        yield from _from_lines(sys.stdin, given.jsonl, given.max_tokens)


def _from_lines(lines: Iterable[str], jsonl: bool, max_tokens: int | None) -> Iterator[tuple[str, bytes]]:
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        where = f"line {number}"
        yield _from_json(text, where, max_tokens) if jsonl else _from_prompt(text, where, max_tokens)


def _from_prompt(prompt: str, where: str, max_tokens: int | None) -> tuple[str, bytes]:
    identity = str(uuid.uuid4())
    return identity, encode_query(identity, _utf8(prompt, where), max_tokens=max_tokens)


def _from_json(text: str, where: str, max_tokens: int | None) -> tuple[str, bytes]:
    try:
        fields: Any = orjson.loads(_utf8(text, where))
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{where}: is not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise ValueError(f"{where}: is a {type(fields).__name__}; give an object with a prompt")
    # the router is who judges a query; only what it would count on is added, and the rest stays as it is
    # written: numbers may have more digits, and objects be deeper, than what is read can be written again
    added: dict[str, Any] = {} if "id" in fields else {"id": str(uuid.uuid4())}
    if max_tokens is not None and "max_tokens" not in fields:
        added["max_tokens"] = max_tokens
    value = text.encode()
    if added:
        value = value[:-1] + (b"," if fields else b"") + orjson.dumps(added)[1:]
    try:
        return str(added.get("id", fields.get("id"))), value
    except RecursionError:
        raise ValueError(f"{where}: id: is nested too deeply to tell queries apart; give a text") from None


def _utf8(text: str, where: str) -> str:
    """The text, unless it stands for bytes that are no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        shown = repr(text[max(0, error.start - 20) : error.end].encode("utf-8", "surrogateescape"))[2:-1]
        raise ValueError(f"{where}: is not UTF-8 at ...{shown}; convert it, as by `iconv -t utf-8`") from None
    return text


def _told(load: Load) -> bool:
    if load.errors:
        print(f"error: {len(load.errors)} queries were not delivered: {load.errors[-1]}", file=sys.stderr)
    return bool(load.errors)


if __name__ == "__main__":
    sys.exit(main())
