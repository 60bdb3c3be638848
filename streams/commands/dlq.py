"""`python -m streams dlq`: counts, contents and replay of dead letters."""

from __future__ import annotations

import argparse
import base64
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import orjson
from tqdm import tqdm

from routing.arguments import non_negative_int, positive_int, rate_per_second
from streams.config.log_setup import configure_logs
from streams.config.settings import Settings
from streams.kafka.clients import reach_broker, reader_config
from streams.kafka.scanner import Scanner
from streams.operations.console_table import table_lines
from streams.operations.dead_letter_replay import DeadLetterReplayer, ReplayResult
from streams.operations.dead_letters import (
    DeadLetter,
    RejectionGroup,
    ReplayMarkers,
    count_rejections,
    read_letters,
    read_marks,
)

SOURCES = ("queries", "outcomes")
STATES = ("new", "replayed", "back")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands `list`, `show` and `replay`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    counts = actions.add_parser("list", help="count letters by reason")
    counts.add_argument("which", nargs="*", metavar="queries|outcomes", help="default: both")
    counts.add_argument("--json", action="store_true", help="print JSON instead of a table")
    show = actions.add_parser("show", help="show one letter, byte for byte")
    show.add_argument("which", choices=SOURCES)
    show.add_argument(
        "offset", type=non_negative_int, metavar="OFFSET", help="on the dead-letter topic; `list` names some"
    )
    form = show.add_mutually_exclusive_group()
    form.add_argument("--value", action="store_true", help="only the value's bytes")
    form.add_argument("--key", action="store_true", help="only the key's bytes")
    form.add_argument("--json", action="store_true", help="the letter as JSON, bytes in base64")
    replay = actions.add_parser("replay", help="send letters again to their original topics, each once")
    replay.add_argument("which", choices=SOURCES)
    replay.add_argument(
        "--offset",
        type=non_negative_int,
        action="append",
        metavar="OFFSET",
        help="only this letter; may be repeated",
    )
    replay.add_argument("--reason", metavar="TEXT", help="only letters whose reason contains TEXT")
    replay.add_argument("--stage", metavar="STAGE", help="only letters rejected at this stage")
    replay.add_argument("--limit", type=positive_int, metavar="N", help="maximum number of letters")
    replay.add_argument(
        "--rate",
        type=rate_per_second,
        default=50.0,
        metavar="R",
        help="letters per second; 0: no limit [%(default)s]",
    )
    replay.add_argument(
        "--again", action="store_true", help="include letters that were rejected again after a replay"
    )
    replay.add_argument("--dry-run", action="store_true", help="only list the letters")


def run(arguments: argparse.Namespace) -> int:
    """Run the sub-command."""
    settings = Settings()
    configure_logs("warning", settings.log_format)
    reach_broker(settings)
    if arguments.action == "list":
        return run_list(settings, arguments)
    if arguments.action == "show":
        return run_show(settings, arguments)
    return run_replay(settings, arguments)


def topic_of(settings: Settings, source: str) -> str:
    """Return the dead-letter topic of queries or of outcomes.

    Raises
    ------
    ValueError
        There is no such topic.
    """
    if source not in SOURCES:
        raise ValueError(f"dlq list: {source!r} is neither queries nor outcomes")
    return settings.topics.dlq if source == "queries" else settings.topics.outcomes_dlq


# ---- list ------------------------------------------------------------------------------------------------


def run_list(settings: Settings, arguments: argparse.Namespace) -> int:
    """Print counts by reason."""
    groups: dict[str, list[RejectionGroup]] = {}
    with Scanner(reader_config(settings)) as scanner:
        marks = read_marks(scanner, settings)
        for source in arguments.which or SOURCES:
            groups[source] = count_rejections(read_letters(scanner, topic_of(settings, source)), marks)
    if arguments.json:
        data = {source: [asdict(kind) for kind in kinds] for source, kinds in groups.items()}
        print(orjson.dumps(data, option=orjson.OPT_INDENT_2).decode())
    else:
        print("\n\n".join(table(source, kinds) for source, kinds in groups.items()))
    return 0


def table(source: str, kinds: list[RejectionGroup]) -> str:
    """Return the counts as text."""
    total = sum(kind.count for kind in kinds)
    new = sum(kind.states["new"] for kind in kinds)
    lines = [f"{source}: {total} dead letters, {new} of them neither replayed nor back from a replay"]
    if kinds:
        lines += table_lines(
            ["count", *STATES, "last offset", "stage: reason"],
            [
                [kind.count, *(kind.states[name] for name in STATES), kind.last, f"{kind.stage}: {kind.kind}"]
                for kind in kinds
            ],
            left=(5,),
            indent=2,
        )
    return "\n".join(lines)


# ---- show ------------------------------------------------------------------------------------------------


def run_show(settings: Settings, arguments: argparse.Namespace) -> int:
    """Print one letter; return 1 if it does not exist."""
    topic = topic_of(settings, arguments.which)
    with Scanner(reader_config(settings)) as scanner:
        message = scanner.message_at(topic, 0, arguments.offset)
        marks = read_marks(scanner, settings)
    if message is None:
        print(
            f"error: {topic} has no letter at offset {arguments.offset}; `dlq list` names some",
            file=sys.stderr,
        )
        return 1
    letter = DeadLetter.of(message)
    if arguments.value or arguments.key:
        sys.stdout.buffer.write((letter.value if arguments.value else letter.key) or b"")
        sys.stdout.buffer.flush()
        return 0
    print(as_json(letter, marks) if arguments.json else as_text(letter, marks))
    return 0


def as_json(letter: DeadLetter, marks: ReplayMarkers) -> str:
    """Return the letter as JSON, bytes in base64."""
    data = {
        "topic": letter.topic,
        "offset": letter.offset,
        "state": marks.state(letter),
        "errors": letter.errors,
        "key": _base64(letter.key),
        "headers": [[name, _base64(value)] for name, value in letter.headers],
        "value": _base64(letter.value),
    }
    return orjson.dumps(data, option=orjson.OPT_INDENT_2).decode()


def as_text(letter: DeadLetter, marks: ReplayMarkers) -> str:
    """Return the letter as text; bytes that are not printable ASCII are escaped as in Python."""
    at = datetime.fromtimestamp(letter.refused_at, UTC).isoformat(sep=" ", timespec="milliseconds")
    origin = (
        "?" if letter.origin is None else f"{letter.origin[0]}[{letter.origin[1]}]@{letter.errors['offset']}"
    )
    lines = [
        f"{letter.topic}@{letter.offset} ({marks.state(letter)})",
        f"refused   {at}, stage {letter.stage}",
        f"reason    {letter.reason}",
        f"came from {origin}",
        f"key       {letter.key!r}",
        *(f"header    {name}: {value!r}" for name, value in letter.headers),
        f"value     {0 if letter.value is None else len(letter.value)} bytes: {letter.value!r}",
    ]
    return "\n".join(lines)


def _base64(raw: bytes | None) -> str | None:
    return None if raw is None else base64.b64encode(raw).decode()


# ---- replay ----------------------------------------------------------------------------------------------


def run_replay(settings: Settings, arguments: argparse.Namespace) -> int:
    """Send letters again; return 1 if some could not be sent."""
    topic = topic_of(settings, arguments.which)
    with Scanner(reader_config(settings)) as scanner:
        if arguments.dry_run:
            marks = read_marks(scanner, settings)
            return dry_run(select_letters(read_letters(scanner, topic), arguments), marks, arguments.again)
        letters = select_letters(read_letters(scanner, topic), arguments)
        replayer = DeadLetterReplayer(settings, arguments.rate, arguments.again)
        try:
            with tqdm(unit="letter", disable=not sys.stderr.isatty()) as bar:
                done = replayer.run(letters, arguments.limit, lambda done: _show(bar, done))
        finally:
            replayer.close()
    print(summary(done))
    for letter, reason in done.failed[:20]:
        print(f"error: {letter.topic}@{letter.offset}: {reason}", file=sys.stderr)
    return 1 if done.failed else 0


def select_letters(letters: Iterator[DeadLetter], arguments: argparse.Namespace) -> Iterator[DeadLetter]:
    """Yield the letters that the arguments select."""
    for letter in letters:
        if arguments.offset and letter.offset not in arguments.offset:
            continue
        if arguments.stage and letter.stage != arguments.stage:
            continue
        if arguments.reason and arguments.reason.lower() not in letter.reason.lower():
            continue
        yield letter


def dry_run(letters: Iterator[DeadLetter], marks: ReplayMarkers, again: bool) -> int:
    """Print the letters that would be sent."""
    for letter in letters:
        state = marks.state(letter)
        if state == "new" or (state == "back" and again):
            print(f"{letter.topic}@{letter.offset}  {letter.stage}: {letter.reason}")
    return 0


def summary(done: ReplayResult) -> str:
    """Return the result of a replay in one line."""
    parts = [f"{done.sent} replayed"]
    if count := done.skipped["replayed"]:
        parts.append(f"{count} were replayed before")
    if count := done.skipped["back"]:
        parts.append(f"{count} were refused again after a replay (--again sends them once more)")
    if done.failed:
        parts.append(f"{len(done.failed)} could not be sent")
    return ", ".join(parts)


def _show(bar: Any, done: ReplayResult) -> None:
    bar.n = done.sent
    bar.refresh()
