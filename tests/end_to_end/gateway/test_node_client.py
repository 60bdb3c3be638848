"""OpenAI's client for Node.js, unchanged, against a gateway."""

import os
import shutil
import subprocess
from pathlib import Path

import orjson
import pytest
from jsonschema import Draft202012Validator

from streams.messages.json_schemas import message_schema
from tests.conftest import ROOT, TopicReader
from tests.end_to_end.gateway.gateway_process import GatewayProcess, GatewayStack

PACKAGE = "openai@7.59.0"
FOLDER = ROOT / "build" / "node"

PROGRAM = """
import OpenAI, { toFile } from "openai";
const client = new OpenAI({ maxRetries: 0, timeout: 50000 });
const messages = [{ role: "user", content: "from node" }];
const answer = await client.chat.completions.create({ model: "auto", messages }, { idempotencyKey: "n1" });
const again = await client.chat.completions.create(
  { model: "auto", messages }, { headers: { "Idempotency-Key": "n1" } });
let streamed = "", usage = null;
const stream = await client.chat.completions.create(
  { model: "auto", messages, stream: true, stream_options: { include_usage: true } });
for await (const chunk of stream) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}
const models = [];
for await (const model of client.models.list()) models.push(model.id);
let failure = null;
try {
  await client.chat.completions.create({ model: "unknown-llm", messages });
} catch (error) {
  failure = [error.constructor.name, error.status, error.code];
}
const response = await client.responses.create({ model: "auto", input: "from node", background: true });
const upload = await toFile(Buffer.from("{}\\n"), "x.jsonl");
const file = await client.files.create({ file: upload, purpose: "batch" });
console.log(JSON.stringify({
  text: answer.choices[0].message.content, same: [answer.id.slice(0, 9), again.choices[0].message.content],
  streamed, tokens: usage.total_tokens, models, failure, status: response.status, bytes: file.bytes,
}));
"""


@pytest.fixture(scope="module")
def node() -> Path:
    """Return a folder with OpenAI's package for Node.js."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no node and npm")
    if not (FOLDER / "node_modules" / "openai").exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(FOLDER), PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            pytest.skip(f"npm cannot install {PACKAGE}: {done.stderr[-300:]}")
    return FOLDER


def test_client_for_node_gets_answers_streams_and_errors(
    node: Path, stack: GatewayStack, gateway: GatewayProcess
):
    done = subprocess.run(
        ["node", "--input-type=module", "-e", PROGRAM],
        cwd=node,
        env={**os.environ, "OPENAI_BASE_URL": gateway.url, "OPENAI_API_KEY": "sk-ads"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    output = orjson.loads(done.stdout)
    assert (output["text"], output["same"]) == ("FROM NODE", ["chatcmpl-", "FROM NODE"])
    assert (output["streamed"], output["tokens"]) == ("FROM NODE", 18)
    assert set(output["models"]) == {"auto", *stack.router.catalogue.names}
    assert output["failure"] == ["NotFoundError", 404, "model_not_found"]
    assert (output["status"], output["bytes"]) == ("queued", 3)


def test_every_message_of_these_tests_fits_its_schema(stack: GatewayStack, read_topics: TopicReader):
    topics = stack.router.topics
    named = {"query": topics.queries, "answer": topics.answers, "outcome": topics.outcomes}
    for name, topic in named.items():
        validator = Draft202012Validator(message_schema(name))
        values = [message.value() for message in read_topics([topic])]
        assert values
        for value in values:
            validator.validate(orjson.loads(value or b""))
    validator = Draft202012Validator(message_schema("routed-query"))
    for message in read_topics([topics.llm(slug) for slug in stack.router.catalogue.slugs]):
        validator.validate(orjson.loads(message.value() or b""))
