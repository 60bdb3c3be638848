"""`python -m streams dlq`: dead letters counted, shown byte for byte, and replayed."""

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

from routing.arguments import count, rate, whole
from streams.kafka import reach_broker, reader_config
from streams.letters import Kind, Letter, Marks, count_kinds, read_letters, read_marks
from streams.logs import configure_logs
from streams.replaying import Replayed, Replayer
from streams.scanning import Scanner
from streams.settings import Settings

WHICH = ("queries", "outcomes")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sub-commands `list`, `show` and `replay`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    counts = actions.add_parser("list", help="count them by reason")
    counts.add_argument("which", nargs="*", metavar="queries|outcomes", help="default: both")
    counts.add_argument("--json", action="store_true", help="print JSON instead of a table")
    show = actions.add_parser("show", help="show one, byte for byte")
    show.add_argument("which", choices=WHICH)
    show.add_argument(
        "offset", type=whole, metavar="OFFSET", help="on the dead-letter topic; `list` names some"
    )
    form = show.add_mutually_exclusive_group()
    form.add_argument("--value", action="store_true", help="nothing but the value's bytes")
    form.add_argument("--key", action="store_true", help="nothing but the key's bytes")
    form.add_argument("--json", action="store_true", help="everything as JSON, bytes in base64")
    replay = actions.add_parser("replay", help="send them again to where they came from, each once")
    replay.add_argument("which", choices=WHICH)
    replay.add_argument(
        "--offset", type=whole, action="append", metavar="OFFSET", help="only this one; may be given often"
    )
    replay.add_argument("--reason", metavar="TEXT", help="only those whose reason has this in it")
    replay.add_argument("--stage", metavar="STAGE", help="only those refused at this stage")
    replay.add_argument("--limit", type=count, metavar="N", help="at most so many")
    replay.add_argument(
        "--rate",
        type=rate,
        default=50.0,
        metavar="R",
        help="letters a second; 0: as fast as it goes [%(default)s]",
    )
    replay.add_argument(
        "--again", action="store_true", help="those, too, that were refused again after a replay"
    )
    replay.add_argument("--dry-run", action="store_true", help="only say which")


def run(arguments: argparse.Namespace) -> int:
    """Runs the sub-command."""
    settings = Settings()
    configure_logs("warning", settings.log_format)
    reach_broker(settings)
    if arguments.action == "list":
        return run_list(settings, arguments)
    if arguments.action == "show":
        return run_show(settings, arguments)
    return run_replay(settings, arguments)


def topic_of(settings: Settings, which: str) -> str:
    """The dead-letter topic of queries or of outcomes.

    Raises
    ------
    ValueError
        There is no such topic.
    """
    if which not in WHICH:
        raise ValueError(f"dlq list: {which!r} is neither queries nor outcomes")
    return settings.topics.dlq if which == "queries" else settings.topics.outcomes_dlq


# ---- list ------------------------------------------------------------------------------------------------


def run_list(settings: Settings, arguments: argparse.Namespace) -> int:
    """Counts by reason."""
    found: dict[str, list[Kind]] = {}
    with Scanner(reader_config(settings)) as scanner:
        marks = read_marks(scanner, settings)
        for which in arguments.which or WHICH:
            found[which] = count_kinds(read_letters(scanner, topic_of(settings, which)), marks)
    if arguments.json:
        data = {which: [asdict(kind) for kind in kinds] for which, kinds in found.items()}
        print(orjson.dumps(data, option=orjson.OPT_INDENT_2).decode())
    else:
        print("\n\n".join(table(which, kinds) for which, kinds in found.items()))
    return 0


def table(which: str, kinds: list[Kind]) -> str:
    """For people."""
    total = sum(kind.count for kind in kinds)
    new = sum(kind.states["new"] for kind in kinds)
    lines = [f"{which}: {total} dead letters, {new} of them neither replayed nor back from a replay"]
    if kinds:
        lines.append(f"{'count':>8}{'new':>8}{'replayed':>10}{'back':>8}{'last offset':>13}  stage: reason")
    for kind in kinds:
        states = kind.states
        lines.append(
            f"{kind.count:>8}{states['new']:>8}{states['replayed']:>10}{states['back']:>8}"
            f"{kind.last:>13}  {kind.stage}: {kind.kind}"
        )
    return "\n".join(lines)


# ---- show ------------------------------------------------------------------------------------------------


def run_show(settings: Settings, arguments: argparse.Namespace) -> int:
    """One letter; 1 when it is not there."""
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
    letter = Letter.of(message)
    if arguments.value or arguments.key:
        sys.stdout.buffer.write((letter.value if arguments.value else letter.key) or b"")
        sys.stdout.buffer.flush()
        return 0
    print(as_json(letter, marks) if arguments.json else as_text(letter, marks))
    return 0


def as_json(letter: Letter, marks: Marks) -> str:
    """Everything, bytes in base64."""
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


def as_text(letter: Letter, marks: Marks) -> str:
    """For people: bytes that are not plain ASCII as Python spells them, so that none is hidden."""
    at = datetime.fromtimestamp(letter.refused_at, UTC).isoformat(sep=" ", timespec="milliseconds")
    came = (
        "?" if letter.origin is None else f"{letter.origin[0]}[{letter.origin[1]}]@{letter.errors['offset']}"
    )
    lines = [
        f"{letter.topic}@{letter.offset} ({marks.state(letter)})",
        f"refused   {at}, stage {letter.stage}",
        f"reason    {letter.reason}",
        f"came from {came}",
        f"key       {letter.key!r}",
        *(f"header    {name}: {value!r}" for name, value in letter.headers),
        f"value     {0 if letter.value is None else len(letter.value)} bytes: {letter.value!r}",
    ]
    return "\n".join(lines)


def _base64(raw: bytes | None) -> str | None:
    return None if raw is None else base64.b64encode(raw).decode()


# ---- replay ----------------------------------------------------------------------------------------------


def run_replay(settings: Settings, arguments: argparse.Namespace) -> int:
    """Sends letters again; 1 when some could not be sent."""
    topic = topic_of(settings, arguments.which)
    with Scanner(reader_config(settings)) as scanner:
        if arguments.dry_run:
            marks = read_marks(scanner, settings)
            return dry_run(chosen(read_letters(scanner, topic), arguments), marks, arguments.again)
        letters = chosen(read_letters(scanner, topic), arguments)
        replayer = Replayer(settings, arguments.rate, arguments.again)
        try:
            with tqdm(unit="letter", disable=not sys.stderr.isatty()) as bar:
                done = replayer.run(letters, arguments.limit, lambda done: _show(bar, done))
        finally:
            replayer.close()
    print(summary(done))
    for letter, reason in done.failed[:20]:
        print(f"error: {letter.topic}@{letter.offset}: {reason}", file=sys.stderr)
    return 1 if done.failed else 0


def chosen(letters: Iterator[Letter], arguments: argparse.Namespace) -> Iterator[Letter]:
    """Those that the arguments ask for."""
    for letter in letters:
        if arguments.offset and letter.offset not in arguments.offset:
            continue
        if arguments.stage and letter.stage != arguments.stage:
            continue
        if arguments.reason and arguments.reason.lower() not in letter.reason.lower():
            continue
        yield letter


def dry_run(letters: Iterator[Letter], marks: Marks, again: bool) -> int:
    """Says which would be sent."""
    for letter in letters:
        state = marks.state(letter)
        if state == "new" or (state == "back" and again):
            print(f"{letter.topic}@{letter.offset}  {letter.stage}: {letter.reason}")
    return 0


def summary(done: Replayed) -> str:
    """What a replay did, in a line."""
    parts = [f"{done.sent} replayed"]
    if count := done.skipped["replayed"]:
        parts.append(f"{count} were replayed before")
    if count := done.skipped["back"]:
        parts.append(f"{count} were refused again after a replay (--again sends them once more)")
    if done.failed:
        parts.append(f"{len(done.failed)} could not be sent")
    return ", ".join(parts)


def _show(bar: Any, done: Replayed) -> None:
    bar.n = done.sent
    bar.refresh()
