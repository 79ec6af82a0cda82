"""The vectorized cuts against one row at a time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.cuts import cut_binary, cut_lists, last_cut

rows_of_cuts = st.lists(
    st.one_of(st.none(), st.lists(st.integers(1, 60), max_size=6, unique=True).map(sorted)), max_size=12
)


def arrays(rows, offset):
    """Payloads and cuts as Arrow arrays that begin ``offset`` rows into their buffers."""
    before = [[5]] * offset
    cuts = pa.array([*before, *rows], pa.list_(pa.int32()))[offset:]
    data = [None if r is None else bytes(range(i, i + (r[-1] if r else 0))) for i, r in enumerate(rows)]
    payload = pa.array([*(b"hello" for _ in before), *data], pa.large_binary())[offset:]
    return cuts, payload, data


@given(rows=rows_of_cuts, offset=st.integers(0, 3), draw=st.data())
def test_they_cut_like_a_loop_over_rows(rows, offset, draw):
    cuts, payload, data = arrays(rows, offset)
    budget = np.array(draw.draw(st.lists(st.integers(-5, 70), min_size=len(rows), max_size=len(rows))), float)
    keep = last_cut(cuts, budget)
    expected = [max([c for c in row or [] if c <= b], default=0) for row, b in zip(rows, budget, strict=True)]
    assert keep.tolist() == expected
    gone = keep == 0
    kept = [None if k == 0 else d[:k] for d, k in zip(data, expected, strict=True)]
    assert cut_binary(payload, keep, gone).to_pylist() == kept
    lists = [None if k == 0 else [c for c in row if c <= k] for row, k in zip(rows, expected, strict=True)]
    short = cut_lists(cuts, keep, gone)
    assert short.to_pylist() == lists
    assert short.type == cuts.type
    short.validate(full=True)


def test_a_null_over_values_of_its_own_has_no_cuts():
    cuts = pa.ListArray.from_arrays(
        pa.array([0, 2, 4], pa.int32()), pa.array([1, 2, 3, 4], pa.int32()), mask=pa.array([True, False])
    )
    assert last_cut(cuts, np.array([9.0, 9.0])).tolist() == [0, 4]
