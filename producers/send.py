"""`python -m producers.send`: send your own prompts to the router, and show where each one goes."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from producers.input_files import STANDARD_INPUT, InputFile, has_json_lines
from producers.query_producer import QueryProducer, encode_query
from producers.result_collector import DEAD, UNSERVED, CollectedResult, ResultCollector
from producers.warmup_notice import WaitReport
from routing.arguments import positive_float, positive_int, rate_per_second
from routing.budgets.catalogue import Catalogue
from routing.budgets.model import Model
from streams.commands.program import add_env_file, apply_env_file, program_name, run_command
from streams.config.settings import Settings
from streams.kafka.clients import reach_broker
from streams.kafka.topics import existing_partitions
from streams.messages.fields import shown_id
from streams.messages.json_bytes import remove_members
from streams.messages.message_text import MessagesError, message_text

MAX_PROMPT_CHARACTERS = 60


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=program_name("producers.send"),
        description=__doc__,
        epilog="A JSON line may have any field of a query: "
        '{"id": "a1", "prompt": "Why?", "max_tokens": 100, "metadata": {"team": "x"}}. '
        "Without PROMPT and --file, prompts are read from standard input.",
    )
    parser.add_argument("prompts", nargs="*", metavar="PROMPT")
    parser.add_argument(
        "--file",
        type=Path,
        metavar="FILE",
        help="one prompt per line; .jsonl or .ndjson: one query per line; -: standard input",
    )
    parser.add_argument("--jsonl", action="store_true", help="lines are JSON, regardless of the file name")
    parser.add_argument("--max-tokens", type=positive_int, metavar="N", help="maximum tokens of each answer")
    parser.add_argument(
        "--rate", type=rate_per_second, metavar="Q", help="queries per second; 0: no limit [0]"
    )
    parser.add_argument("--follow", action="store_true", help="wait for each query and show where it went")
    parser.add_argument(
        "--deadline",
        type=positive_float,
        default=120.0,
        metavar="S",
        help="with --follow, give up after S seconds without a result [%(default)s]",
    )
    add_env_file(parser)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 1 if a query was not delivered or, with --follow, not found."""
    options = parser().parse_args(arguments)
    apply_env_file(parser(), options)
    return run_command(lambda: run(options))


def run(options: argparse.Namespace) -> int:
    """Send the queries, and follow them if requested."""
    queries = list(read_queries(options))
    if not queries:
        raise ValueError("PROMPT: missing; give prompts, a --file, or lines on standard input")
    settings = Settings()
    admin = reach_broker(settings)
    existing = existing_partitions(admin)
    partitions = existing.get(settings.topics.queries, 0)
    if not partitions:
        raise ValueError(
            f"topic {settings.topics.queries}: does not exist; run `python -m streams topics create`"
        )
    producer = QueryProducer(settings, partitions, options.rate)
    if not options.follow:
        producer.run(queries)
        print(
            f"{producer.delivered} of {len(queries)} queries were sent to {settings.topics.queries}",
            file=sys.stderr,
        )
        return _report_errors(producer)
    catalogue = _with_topics(settings, existing)
    collector = ResultCollector(settings, catalogue, admin, producer.positions)
    try:
        producer.run(queries)
        report = WaitReport(settings, options.deadline)
        missing = follow(collector, catalogue, dict(queries), options.deadline, report)
    finally:
        collector.stop()
    for identity in missing:
        print(f"{identity}  not found yet", file=sys.stderr)
    return _report_errors(producer) or bool(missing)


def _with_topics(settings: Settings, existing: Iterable[str]) -> Catalogue:
    """Return a catalogue of every LLM that has a topic, by slug; this machine may have no catalogue file."""
    prefix = settings.topics.llm("")
    slugs = [name.removeprefix(prefix) for name in sorted(existing) if name.startswith(prefix)]
    if not slugs:
        raise ValueError(f"topics: none begins with {prefix}; run `python -m streams topics create`")
    return Catalogue(tuple(Model(slug, budget_usd=0.0) for slug in slugs))


def follow(
    collector: ResultCollector,
    catalogue: Catalogue,
    queries: dict[str, bytes],
    deadline: float,
    report: WaitReport,
) -> list[str]:
    """Print where each query went, or why queries wait; return the ids of the queries not found."""
    collector.stop_after(queries)
    printed = 0
    while True:
        running = collector.running
        results = collector.results
        for result in results[printed:]:
            if result.id in queries:
                print(describe(result, catalogue, queries[result.id]), flush=True)
        printed = len(results)
        if not running or time.monotonic() - collector.newest > deadline:
            break
        if not printed:
            report.refresh()
        time.sleep(0.05)
    if collector.failure:
        raise ValueError(f"reading results failed: {collector.failure}")
    found_ids = {result.id for result in collector.results}
    return [identity for identity in queries if identity not in found_ids]


def describe(result: CollectedResult, catalogue: Catalogue, value: bytes) -> str:
    """Return one line about where a query went."""
    prompt = " ".join(_shown_prompt(orjson.loads(value)).split())
    prompt = prompt if len(prompt) <= MAX_PROMPT_CHARACTERS else prompt[: MAX_PROMPT_CHARACTERS - 3] + "..."
    routing = result.routing
    if result.destination == DEAD:
        place = f"dead letter: {result.reason or 'no reason given'}"
    elif result.destination == UNSERVED:
        place = f"unserved: {result.reason or 'no reason given'}"
    else:
        place = (routing.model if routing is not None else None) or catalogue.names[result.destination]
    figures = ""
    if result.destination >= 0:
        quality, cost = (0.0, 0.0) if routing is None else (routing.quality or 0.0, routing.cost or 0.0)
        figures = f"  quality {quality:.3f}, cost {cost:.3g} USD"
    return f"{result.id}  {place}{figures}  {prompt}"


def _shown_prompt(fields: dict[str, Any]) -> str:
    if fields.get("prompt") is None and fields.get("messages") is not None:
        with contextlib.suppress(MessagesError):
            return message_text(fields["messages"])
    return str(fields.get("prompt", ""))


def read_queries(options: argparse.Namespace) -> Iterator[tuple[str, bytes]]:
    """Yield id and message of the queries from arguments, file or standard input.

    Raises
    ------
    ValueError
        A line is not a JSON object, or an id is a duplicate.
    """
    ids: set[str] = set()
    for identity, value in _read_all(options):
        if identity in ids:
            raise ValueError(f"id: {identity!r} is a duplicate; make ids unique")
        ids.add(identity)
        yield identity, value


def _read_all(options: argparse.Namespace) -> Iterator[tuple[str, bytes]]:
    for number, prompt in enumerate(options.prompts, 1):
        yield _from_prompt(prompt, f"PROMPT {number}", options.max_tokens)
    path = options.file
    if path is None and not options.prompts:
        path = STANDARD_INPUT
    if path is not None:
        yield from _from_file(path, options.jsonl or has_json_lines(path), options.max_tokens)


def _from_file(path: Path, jsonl: bool, max_tokens: int | None) -> Iterator[tuple[str, bytes]]:
    for number, raw in InputFile(path).lines():
        where = f"line {number}"
        # bytes that are not UTF-8 are reported with their line
        line = raw.decode("utf-8", "surrogateescape").strip()
        if jsonl:
            yield _from_json(line, where, max_tokens)
            continue
        for prompt in filter(None, map(str.strip, line.split("\r"))):
            yield _from_prompt(prompt, where, max_tokens)


def _is_object(line: str) -> bool:
    if not line.lstrip().startswith("{"):
        return False
    try:
        return isinstance(orjson.loads(line), dict)
    except ValueError:
        return False


def _from_prompt(prompt: str, where: str, max_tokens: int | None) -> tuple[str, bytes]:
    identity, prompt = str(uuid.uuid4()), _utf8(prompt, where)
    if _is_object(prompt):
        raise ValueError(
            f"{where}: is a JSON object; use --jsonl with a file or standard input to send each line as a "
            'query, or write {"prompt": "..."} around a prompt that is JSON'
        )
    return identity, encode_query(identity, prompt, max_tokens=max_tokens)


def _from_json(text: str, where: str, max_tokens: int | None) -> tuple[str, bytes]:
    try:
        fields: Any = orjson.loads(_utf8(text, where))
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{where}: is not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise ValueError(f"{where}: is a {type(fields).__name__}; give an object with a prompt")
    # The router validates queries. Only missing fields are added to the original text: decoding and encoding
    # it again could lose digits of numbers, or fail on deeply nested objects.
    added: dict[str, Any] = {} if fields.get("id") is not None else {"id": str(uuid.uuid4())}
    if max_tokens is not None and fields.get("max_tokens") is None:
        added["max_tokens"] = max_tokens
    value = text.encode()
    if nulls := added.keys() & fields.keys():
        value = remove_members(value, nulls)
    if added:
        value = value[:-1] + (b"," if len(fields) > len(nulls) else b"") + orjson.dumps(added)[1:]
    return shown_id(added.get("id", fields.get("id"))), value


def _utf8(text: str, where: str) -> str:
    """Return the text; raise ValueError if it holds bytes that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        shown = repr(text[max(0, error.start - 20) : error.end].encode("utf-8", "surrogateescape"))[2:-1]
        raise ValueError(
            f"{where}: is not UTF-8 at ...{shown}; convert it, for example with `iconv -t utf-8`"
        ) from None
    return text


def _report_errors(producer: QueryProducer) -> bool:
    if producer.errors:
        print(
            f"error: {len(producer.errors)} queries were not delivered: {producer.errors[-1]}",
            file=sys.stderr,
        )
    return bool(producer.errors)


if __name__ == "__main__":
    sys.exit(main())
