"""Samples: round trips and rejected values."""

import numpy as np
import orjson
import pytest

from streams.messages.rejection import RejectedMessage
from streams.messages.samples import decode_samples, encode_samples


@pytest.mark.parametrize(("dtype", "exact"), [("<f4", 1e-7), ("<f8", 0.0)])
def test_decode_samples_encoded_samples_are_equal(dtype: str, exact: float):
    rng = np.random.default_rng(0)
    quality, cost = rng.random((5, 3)), rng.random((5, 3)) * 1e-6

    header, read_quality, read_cost = decode_samples(encode_samples({"period": 2}, quality, cost, dtype))

    assert header == {"period": 2}
    np.testing.assert_allclose(read_quality, quality, rtol=exact)
    np.testing.assert_allclose(read_cost, cost, rtol=exact)


def test_decode_samples_without_rows_is_empty():
    _, quality, cost = decode_samples(encode_samples({}, np.zeros((0, 3)), np.zeros((0, 3))))

    assert quality.shape == cost.shape == (0, 3)


@pytest.mark.parametrize(
    "change",
    [{"shape": [2, 3]}, {"shape": None}, {"dtype": "<c8"}, {"quality": "?"}, {"cost": None}, {"cost": 7}],
)
def test_decode_samples_invalid_field_is_rejected(change: dict[str, object]):
    fields = orjson.loads(encode_samples({}, np.ones((1, 3)), np.ones((1, 3)))) | change

    with pytest.raises(RejectedMessage):
        decode_samples(orjson.dumps(fields))
