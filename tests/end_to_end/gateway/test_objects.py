"""Background responses, files and batches over several gateways, on Apache Kafka with OpenAI's client."""

from typing import Any

import openai
import orjson
import pytest

from tests.conftest import TopicReader
from tests.end_to_end.gateway.gateway_process import GatewayProcess, GatewayStack
from tests.end_to_end.recorded_schemas import assert_records_fit_their_schemas
from tests.end_to_end.recorded_topics import Recorded
from tests.end_to_end.worker_process import wait_for

SECONDS = 60.0


@pytest.fixture
def client(gateway: GatewayProcess) -> openai.OpenAI:
    return gateway.client(api_key="sk-search")


@pytest.fixture
def other_client(other: GatewayProcess) -> openai.OpenAI:
    return other.client(api_key="sk-search")


def line(custom_id: str, text: str, **body: Any) -> bytes:
    messages = [{"role": "user", "content": text}]
    request = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions"}
    return orjson.dumps(request | {"body": {"model": "auto", "messages": messages, **body}}) + b"\n"


def create(client: openai.OpenAI, *lines: bytes, **options: Any) -> Any:
    file = client.files.create(file=("requests.jsonl", b"".join(lines)), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", **options
    )


def ended(client: openai.OpenAI, batch: Any) -> Any:
    def retrieved() -> Any:
        current = client.batches.retrieve(batch.id)
        return current if current.status in ("completed", "failed", "cancelled", "expired") else None

    return wait_for(retrieved, SECONDS, f"{batch.id} ends", pause=0.3)


def lines_of(client: openai.OpenAI, file: str | None) -> dict[str, Any]:
    assert file is not None
    return {
        fields["custom_id"]: fields for fields in map(orjson.loads, client.files.content(file).iter_lines())
    }


def test_background_response_is_fetched_from_another_gateway(
    stack: GatewayStack, client: openai.OpenAI, other_client: openai.OpenAI
):
    stack.server.hold("think")
    try:
        queued = client.responses.create(
            model="auto", input="think", background=True, extra_headers={"Idempotency-Key": "r1"}
        )
        assert (queued.status, queued.background) == ("queued", True)
        again = other_client.responses.create(
            model="auto", input="think", background=True, extra_headers={"Idempotency-Key": "r1"}
        )
        assert again.id == queued.id
        assert other_client.responses.retrieve(queued.id).status == "in_progress"
    finally:
        stack.server.release()

    def completed() -> Any:
        response = other_client.responses.retrieve(queued.id)
        return response if response.status == "completed" else None

    completed_response = wait_for(completed, SECONDS, "the response is completed")
    assert completed_response.output_text == "THINK"
    assert completed_response.model in stack.router.catalogue.names
    assert stack.server.asked["think"] == 1
    with pytest.raises(openai.NotFoundError):
        stack.gateways[0].client(api_key="sk-ads").responses.retrieve(queued.id)


def test_response_that_is_waited_for_has_the_answer(client: openai.OpenAI):
    answer = client.responses.create(model="auto", instructions="Be loud.", input="hear me")
    assert (answer.status, answer.output_text) == ("completed", "HEAR ME")
    assert answer.usage.total_tokens == 18


def test_batch_has_its_answers_and_its_errors_in_files(stack: GatewayStack, client: openai.OpenAI):
    stack.server.faults["bad one"].extend(["400"] * 9)
    batch = create(
        client, line("a", "first"), line("b", "second"), line("c", "bad one"), metadata={"job": "nightly"}
    )
    assert batch.status in ("validating", "in_progress")

    done = ended(client, batch)
    assert (done.status, done.metadata) == ("completed", {"job": "nightly"})
    assert done.request_counts.model_dump() == {"total": 3, "completed": 2, "failed": 1}
    output = lines_of(client, done.output_file_id)
    contents = {
        name: entry["response"]["body"]["choices"][0]["message"]["content"] for name, entry in output.items()
    }
    assert contents == {"a": "FIRST", "b": "SECOND"}
    assert set(lines_of(client, done.error_file_id)) == {"c"}
    assert client.batches.list().data[0].id == batch.id
    assert done.output_file_id in {file.id for file in client.files.list()}


def test_invalid_batch_names_line_and_field(client: openai.OpenAI):
    batch = create(client, line("a", "x"), line("a", "y"), line("b", "z", model="unknown-llm"))

    failed = ended(client, batch)
    assert failed.status == "failed"
    assert [(error.line, error.message.split(":")[0]) for error in failed.errors.data] == [
        (2, "custom_id"),
        (3, "body.model"),
    ]


def test_cancelled_batch_ends(stack: GatewayStack, client: openai.OpenAI, other_client: openai.OpenAI):
    stack.server.hold("never mind")
    try:
        batch = create(client, line("a", "never mind"))
        assert other_client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
        assert ended(other_client, batch).status == "cancelled"
    finally:
        stack.server.release()


def test_batch_of_a_gateway_that_ends_is_continued_by_another(
    stack: GatewayStack, other_client: openai.OpenAI, client: openai.OpenAI
):
    leaving = stack.start_with_keys()
    text = "carry on"
    stack.server.hold(text)
    try:
        batch = create(leaving.client(api_key="sk-search"), line("a", text), line("b", "other work"))
        wait_for(lambda: stack.server.asked[text], SECONDS, "the query reached the endpoint")
        assert leaving.stop() == 0
    finally:
        stack.server.release()

    done = ended(other_client, batch)
    assert done.status == "completed"
    assert set(lines_of(client, done.output_file_id)) == {"a", "b"}
    assert stack.server.asked[text] == 1


def test_file_of_another_owner_does_not_exist(stack: GatewayStack, client: openai.OpenAI):
    file = client.files.create(file=("x.jsonl", line("a", "x") * 20_000), purpose="batch")
    assert client.files.content(file.id).content == line("a", "x") * 20_000
    assert client.files.retrieve(file.id).bytes == file.bytes
    with pytest.raises(openai.NotFoundError):
        stack.gateways[0].client(api_key="sk-ads").files.retrieve(file.id)
    client.files.delete(file.id)
    with pytest.raises(openai.NotFoundError):
        client.files.content(file.id)


def test_query_that_is_a_cloud_event_gets_events(stack: GatewayStack, read_topics: TopicReader):
    router = stack.router
    sent = {
        "specversion": "1.0",
        "id": "e-1",
        "source": "/shop",
        "type": "shop.question",
        "subject": "order 7",
    }
    headers = [(f"ce_{name}", value.encode()) for name, value in sent.items()]
    query = orjson.dumps({"id": "event", "prompt": "an event", "models": list(router.catalogue.names)})
    router.send_raw("event", query, key=b"event", headers=headers)

    def event(topics: list[str]) -> dict[str, str] | None:
        messages = [message for message in read_topics(topics) if message.key() == b"event"]
        return {name: value.decode() for name, value in messages[0].headers() or []} if messages else None

    answer = wait_for(lambda: event([router.topics.answers]), SECONDS, "the event is answered", pause=0.3)
    routed = event([router.topics.llm(slug) for slug in router.catalogue.slugs])
    assert routed is not None
    assert (routed["ce_type"], answer["ce_type"]) == ("port.query.routed", "port.query.answered")
    assert len({sent["id"], routed["ce_id"], answer["ce_id"]}) == 3
    assert {attributes["ce_source"] for attributes in (routed, answer)} == {f"/port-router/{router.name}"}
    assert answer["ce_subject"] == "order 7"
    assert answer["content-type"] == "application/json"


def test_every_message_of_the_stack_fits_its_schema(stack: GatewayStack, client: openai.OpenAI):
    assert ended(client, create(client, line("a", "of any form"))).status == "completed"
    with stack.router.logs() as logs:
        counts = assert_records_fit_their_schemas(Recorded.of(logs, stack.router.topics))
    expected = {"query", "routed-query", "answer", "outcome", "heartbeat"}
    expected |= {"gateway-object", "file-piece", "batch-progress"}
    assert not expected - {*counts}, counts
