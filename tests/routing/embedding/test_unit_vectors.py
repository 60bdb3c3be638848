import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from routing.embedding.unit_vectors import as_stored, normalised

vectors = st_np.arrays(
    np.float64, st.tuples(st.integers(0, 5), st.integers(1, 5)), elements=st.floats(-1e6, 1e6)
)


@given(vectors)
def test_normalised_rows_have_unit_length_independent_of_others(rows):
    unit = normalised(rows)
    assert unit.dtype == np.float32
    assert np.allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    for i in range(len(rows)):
        assert np.array_equal(normalised(rows[i : i + 1])[0], unit[i])


def test_normalised_half_precision_has_unit_length():
    rows = normalised(np.random.default_rng(0).standard_normal((100, 384)))
    again = normalised(rows.astype(np.float16))
    assert np.abs((rows * again).sum(1) - 1).max() < 1e-6


def test_as_stored_keeps_half_precision_rows_and_scales_others():
    rows = normalised(np.random.default_rng(0).standard_normal((100, 384))).astype(np.float16)
    assert np.array_equal(as_stored(rows), rows.astype(np.float32))
    assert not np.array_equal(normalised(rows), rows.astype(np.float32))
    assert np.array_equal(as_stored(rows * np.float16(2)), normalised(rows))
    mixed = as_stored(np.vstack([rows[:1], rows[1:2] * np.float16(4), np.zeros((1, 384))]))
    assert np.array_equal(mixed[0], rows[0].astype(np.float32))
    assert np.abs(np.linalg.norm(mixed, axis=1) - 1).max() < 5e-4
