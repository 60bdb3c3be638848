"""Numbers keep their digits from one message to the next."""

import orjson
import pytest

from streams.messages.exact_json import ExactFloat, ExactInteger, decode, encode


@pytest.mark.parametrize(
    "number",
    [
        "7",
        "-7",
        "0.1",
        "1.5",
        "18446744073709551615",
        "-9223372036854775808",
        "18446744073709551616",
        "-9223372036854775809",
        "123456789012345678901234567890",
        "-0",
        "1.50",
        "0.10",
        "1e5",
        "1E+5",
        "-0.0",
        "3.14159265358979323846264338327950288",
        "1e-400",
        "123456789.000000000000000000001",
    ],
)
def test_encode_decoded_number_keeps_its_spelling(number: str):
    text = f'{{"a":[{number},"{number}"],"b":{{"c":{number}}}}}'.encode()

    assert encode(decode(text)) == text


def test_decode_numbers_are_numbers():
    fields = decode(b'{"big": 123456789012345678901234567890, "long": 0.250, "small": 7, "short": 0.25}')

    assert fields == {"big": 123456789012345678901234567890, "long": 0.25, "small": 7, "short": 0.25}
    assert (type(fields["big"]), type(fields["long"])) == (ExactInteger, ExactFloat)
    assert (type(fields["small"]), type(fields["short"])) == (int, float)


@pytest.mark.parametrize(
    "text",
    [b"NaN", b"[-Infinity]", b"1e999", b"9" * 400, b'"\\ud800"', b'"\xff"', b"\xef\xbb\xbf{}", b"{", b""],
)
def test_decode_invalid_json_raises(text: bytes):
    with pytest.raises(orjson.JSONDecodeError):
        decode(text)


def test_encode_deep_value_raises():
    deep = decode(b"[" * 1000 + b"1.50" + b"]" * 1000)

    with pytest.raises(orjson.JSONEncodeError):
        encode(deep)


def test_encode_other_type_raises():
    with pytest.raises(TypeError, match="set"):
        encode({"a": {1}})
