"""`python -m streams schema`: JSON Schemas of the messages, and the AsyncAPI document of the topics."""

from __future__ import annotations

import argparse

import orjson

from streams.config.settings import Settings
from streams.kafka.asyncapi import asyncapi_document
from streams.messages.json_schemas import SCHEMAS, message_schema

ASYNCAPI = "asyncapi"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the name of the document."""
    parser.add_argument(
        "document",
        nargs="?",
        choices=[*SCHEMAS, ASYNCAPI],
        metavar="DOCUMENT",
        help=f"a message ({', '.join(SCHEMAS)}), or {ASYNCAPI}; without it the list of messages",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the document; return 0."""
    name = arguments.document
    if name is None:
        width = max(map(len, SCHEMAS))
        for message, (description, _) in SCHEMAS.items():
            print(f"{message:<{width}} {description}")
        print(f"{ASYNCAPI:<{width}} The AsyncAPI 3.0 document of the topics.")
        return 0
    document = asyncapi_document(Settings()) if name == ASYNCAPI else message_schema(name)
    print(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    return 0
