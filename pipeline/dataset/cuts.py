"""Cutting many byte strings at once, over the offsets of Arrow arrays."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def last_cut(cuts: pa.ListArray, budget: np.ndarray) -> np.ndarray:
    """For each row the largest of its ascending cuts that is at most its budget, or 0 if there is none."""
    offsets = cuts.offsets.to_numpy().astype(np.int64)
    # A null row may lie over values of its own.
    lengths = np.where(_valid(cuts), np.diff(offsets), 0)
    values = cuts.values.to_numpy()
    rows = np.repeat(np.arange(len(cuts)), np.diff(offsets))
    under = values[offsets[0] : offsets[-1]] <= budget[rows] if len(rows) else np.zeros(0, bool)
    running = np.concatenate([[0], np.cumsum(under)])
    start = offsets[:-1] - offsets[0]
    kept = np.where(lengths > 0, running[start + lengths] - running[start], 0)
    place = np.clip(offsets[:-1] + kept - 1, 0, max(len(values) - 1, 0))
    return np.where(kept > 0, values[place] if len(values) else 0, 0).astype(np.int64)


def cut_binary(payload: pa.LargeBinaryArray, keep: np.ndarray, gone: np.ndarray) -> pa.LargeBinaryArray:
    """The first ``keep`` bytes of every row, null where ``gone``, without a copy of the data.

    The offsets become s0, s0 + k0, s1, s1 + k1, … over the same data; of the rows they delimit, the even
    ones are those wanted, and one gather takes them.
    """
    count = len(payload)
    starts = np.frombuffer(payload.buffers()[1], np.int64, count + 1, payload.offset * 8)
    doubled = np.empty(2 * count + 1, np.int64)
    doubled[0:-1:2] = starts[:-1]
    doubled[1::2] = starts[:-1] + keep
    doubled[-1] = starts[-1]
    pieces = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), 2 * count, [None, pa.py_buffer(doubled), payload.buffers()[2]]
    )
    places = pa.array(np.arange(0, 2 * count, 2), mask=gone)
    return pieces.take(places)


def cut_lists(cuts: pa.ListArray, keep: np.ndarray, gone: np.ndarray) -> pa.ListArray:
    """Of every row the cuts up to ``keep``, null where ``gone``."""
    offsets = cuts.offsets.to_numpy().astype(np.int64)
    rows = np.repeat(np.arange(len(cuts)), np.diff(offsets))
    values = cuts.values.to_numpy()[offsets[0] : offsets[-1]]
    stays = (values <= keep[rows]) & ~gone[rows] if len(rows) else np.zeros(0, bool)
    counts = np.bincount(rows[stays], minlength=len(cuts)) if len(rows) else np.zeros(len(cuts), np.int64)
    bounds = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(
        pa.array(bounds), pa.array(values[stays], pa.int32()), type=cuts.type, mask=pa.array(gone)
    )


def _valid(array: pa.Array) -> np.ndarray:
    return array.is_valid().to_numpy(zero_copy_only=False)
