"""What all commands have in common: variables out of a file, and errors told in a line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from confluent_kafka import KafkaError, KafkaException
from dotenv import dotenv_values
from pydantic import ValidationError

from routing.catalogue import CatalogueError
from routing.history import HistoryError
from streams.kafka import BrokerUnreachable
from streams.mistakes import mistakes
from streams.topics import TopicMismatch


def add_env_file(parser: argparse.ArgumentParser) -> None:
    """The option that names a file of variables; `take_env_file` sets them."""
    parser.add_argument("--env-file", metavar="FILE", help="file of variables; those already set win")


def take_env_file(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Sets the variables of the file that was named; ends the program when there are none."""
    if given.env_file and not load_variables(given.env_file):
        parser.error(f"--env-file: {given.env_file} cannot be read or has no variables")


def load_variables(path: str) -> bool:
    """Sets the variables of a file that are not set yet; whether there were any."""
    variables = dotenv_values(path) if os.path.isfile(path) else {}
    for name, value in variables.items():
        os.environ.setdefault(name, value or "")
    return bool(variables)


def told_in_a_line(command: Callable[[], int]) -> int:
    """Runs a command; what its user can mend is told in a line.

    Returns
    -------
    int
        The command's exit status; 1 after an error, 130 when interrupted.
    """
    try:
        status = command()
        sys.stdout.flush()
        return status
    except ValidationError as error:
        for _, text in mistakes(error):
            _tell(text)
        print("`python -m streams config check` shows all settings and all mistakes", file=sys.stderr)
    except (CatalogueError, TopicMismatch) as error:
        for text in error.problems:
            _tell(text)
    except (BrokerUnreachable, HistoryError, ValueError) as error:
        _tell(str(error))
    except KafkaException as error:
        _tell(f"bootstrap_servers: the broker failed ({kafka_reason(error)}); see that it runs, try again")
    except BrokenPipeError:
        # who read the output has gone, which is their right; nor shall the interpreter's last flush complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError as error:
        _tell(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        return 130
    return 1


def kafka_reason(error: KafkaException) -> str:
    """What the broker or its client said."""
    cause = error.args[0] if error.args else error
    return cause.str() if isinstance(cause, KafkaError) else str(cause)


def _tell(text: str) -> None:
    print(f"error: {text}", file=sys.stderr)
