"""The AsyncAPI document is valid by AsyncAPI's own schema, and describes the router's topics."""

import gzip
import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import Draft7Validator

from streams.__main__ import main
from streams.config.settings import Settings
from streams.config.topic_names import Topics
from streams.kafka.asyncapi import asyncapi_document
from streams.messages.json_schemas import SCHEMAS, VALUE_SCHEMAS

SCHEMA = Path(__file__).with_name("asyncapi-3.0.0.json.gz")


def document(**settings: Any) -> dict[str, Any]:
    return orjson.loads(orjson.dumps(asyncapi_document(Settings(**settings))))


@pytest.fixture(scope="module")
def schema() -> Draft7Validator:
    return Draft7Validator(orjson.loads(gzip.decompress(SCHEMA.read_bytes())))


def test_document_is_valid(schema: Draft7Validator):
    content = document(bootstrap_servers="a:9092,b:9092", topic_prefix="eu.", partitions=6)
    errors = [f"{list(error.absolute_path)}: {error.message[:200]}" for error in schema.iter_errors(content)]
    assert errors == []
    assert not schema.is_valid(content | {"asyncapi": "4"})
    content["channels"]["queries"]["bindings"]["kafka"]["partitions"] = "six"
    assert not schema.is_valid(content)


def test_channels_are_the_topics_with_their_settings():
    channels = document(topic_prefix="eu.", partitions=6, replication_factor=3)["channels"]
    addresses = {channel["address"] for channel in channels.values()}
    assert {"eu.queries", "eu.llm.{slug}", "eu.queries.unserved", "eu.answers", "eu.outcomes"} <= addresses
    binding = channels["queries"]["bindings"]["kafka"]
    assert (binding["partitions"], binding["replicas"]) == (6, 3)
    assert binding["topicConfiguration"]["retention.ms"] == 7 * 24 * 3600 * 1000
    assert channels["outcomes"]["bindings"]["kafka"]["partitions"] == 7


def test_every_topic_is_a_channel_with_known_messages():
    made = document()
    named = {*vars(Topics()).values()} - {""}
    assert {channel["address"] for channel in made["channels"].values()} == named | {"llm.{slug}"}
    messages = {name for channel in made["channels"].values() for name in channel["messages"]}
    assert messages == set(made["components"]["messages"])
    assert set(VALUE_SCHEMAS) <= messages
    assert len(made["operations"]) == len(made["channels"])


def test_command_prints_each_document():
    for name in (*SCHEMAS, "asyncapi"):
        with redirect_stdout(io.StringIO()) as out:
            assert main(["schema", name]) == 0
        assert orjson.loads(out.getvalue())
    with redirect_stdout(io.StringIO()) as out:
        assert main(["schema"]) == 0
    assert [line.split()[0] for line in out.getvalue().splitlines()] == [*SCHEMAS, "asyncapi"]
