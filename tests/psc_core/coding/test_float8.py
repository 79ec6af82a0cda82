"""float8 e4m3 against torch's, over every float16 in range."""

from __future__ import annotations

import numpy as np
import torch

from psc_core.coding import float8


def test_every_float16_is_rounded_as_torch_does():
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
    x = halves[np.isfinite(halves) & (np.abs(halves) <= float8.MAX)]
    theirs = torch.from_numpy(x).to(torch.float8_e4m3fn).double().numpy()
    np.testing.assert_array_equal(float8.decode(float8.encode(x)), theirs)


def test_codes_are_torchs_bits():
    codes = np.array([c for c in range(256) if c & 0x7F != 0x7F and c != 0x80], dtype=np.uint8)
    theirs = torch.from_numpy(codes).view(torch.float8_e4m3fn).double().numpy()
    np.testing.assert_array_equal(float8.decode(codes), theirs)
    np.testing.assert_array_equal(float8.encode(theirs), codes)


def test_beyond_the_largest_value_saturates():
    x = np.array([448.0, 463.9, 464.0, 480.0, 1e300, np.inf])
    np.testing.assert_array_equal(float8.decode(float8.encode(x)), np.full(6, 448.0))
    np.testing.assert_array_equal(float8.decode(float8.encode(-x)), np.full(6, -448.0))


def test_the_adaptive_law_counts_exponents():
    law = float8.AdaptiveLaw()
    assert law.weights().tolist() == [1] * 256
    law.learn(np.array([0x40, 0xC0, 0x41, 0x08], dtype=np.uint8))
    weights = law.weights()
    assert weights[0x40] == weights[0xC7] == 7
    assert weights[0x08] == 3
    assert weights[0x00] == 1
