"""Chat completions requests as queries, and answers as responses."""

import orjson
import pytest
from openai.types.chat import ChatCompletion

from producers.chat_api import RequestFieldError, query_fields, response_body
from producers.session_partition import session_partition


def test_response_body_of_a_text_has_the_fields_of_a_completion():
    body = response_body({"id": "q", "model": "m", "answer": "Yes.", "finish_reason": "stop"}, 1_700_000_000)

    read = ChatCompletion.model_validate(body)
    assert (read.created, read.choices[0].message.content) == (1_700_000_000, "Yes.")
    assert response_body({"response": {"created": 5}}, 7) == {"created": 5}


def test_session_of_a_request_is_a_field_of_the_query_and_chooses_its_partition():
    messages = [{"role": "user", "content": "Why?"}]
    query = query_fields({"messages": messages, "session": "s-1", "temperature": 0})
    assert (query["session"], query["parameters"]) == ("s-1", {"temperature": 0})
    values = [orjson.dumps({"id": n, "session": f"s-{n}"}) for n in range(40)]
    partitions = [session_partition(value, 4) for value in values]
    assert set(partitions) == {0, 1, 2, 3}
    assert partitions == [session_partition(value.replace(b'"id":', b'"other":'), 4) for value in values]
    assert session_partition(b'{"session": 7}', 4) is None
    with pytest.raises(RequestFieldError, match="session"):
        query_fields({"messages": messages, "session": 7})
