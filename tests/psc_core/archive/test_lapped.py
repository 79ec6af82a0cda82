"""The lapped basis."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psc_core.archive.lapped import LappedBasis, lap_matrix
from psc_core.windows import WindowBasis
from tests.psc_core.photographs import photograph

WINDOWS = (4, 8, 16, 32, 64)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 4), st.sampled_from(WINDOWS), st.sampled_from([3, 4]), st.integers(0, 2**32 - 1)
)
def test_it_is_orthonormal_and_has_an_inverse(down, across, window, channels, seed):
    own = LappedBasis(channels, down * window, across * window, window, "cpu")
    random = np.random.default_rng(seed)
    x = torch.from_numpy(random.integers(-(2**15), 2**15, (2, channels, own.height, own.width)).astype(np.float64))
    z = own.analyse(x)
    assert z.shape == (2, *own.shape)
    assert torch.equal(z, z.round())
    assert float((z**2).sum() / (x**2).sum()) == pytest.approx(1.0, abs=1e-4)
    assert float((own.synthesize(z) - x).abs().max()) <= 6  # of 2^14: every product is rounded


def test_the_largest_values_stay_whole():
    own, plain = (kind(3, 128, 128, 64, "cpu") for kind in (LappedBasis, WindowBasis))
    signs = np.sign(np.random.default_rng(0).normal(size=(1, 3, 128, 128)))
    for x in (torch.full((1, 3, 128, 128), 2.0**17), torch.from_numpy(signs * 2.0**17)):
        z = own.analyse(x.double())
        assert float((own.synthesize(z) - x).abs().max()) <= 8
        assert float((z**2).sum()) == pytest.approx(float((plain.analyse(x.double()) ** 2).sum()), rel=1e-5)


@pytest.mark.parametrize("size", [2, 4, 8, 16, 32])
def test_a_lap_is_a_rotation_that_leaves_flat_and_mirrored_rows(size):
    lap = lap_matrix(size)
    assert np.allclose(lap @ lap.T, np.eye(size), atol=1e-12)
    even = np.random.default_rng(1).normal(size=size)
    even = even + even[::-1]
    assert np.allclose(lap @ even, even, atol=1e-12)
    if size > 2:
        assert not np.allclose(lap, np.eye(size), atol=0.05)


def test_a_flat_image_is_its_windows_means_alone():
    own = LappedBasis(3, 96, 64, 32, "cpu")
    z = own.analyse(torch.full((1, 3, 96, 64), 2.0**12).double()).reshape(3, 6, 32 * 32)
    assert z[0, :, 0].numpy() == pytest.approx(2**12 * 3**0.5 * 32, rel=1e-4)
    assert z[0, :, 0].unique().numel() == 1
    z[0, :, 0] = 0
    assert float(z.abs().max()) <= 1


def test_places_are_what_they_are_called():
    """Mean, slope, then frequency k of the first half and of the second."""
    own = LappedBasis(1, 32, 96, 32, "cpu")
    across = np.zeros((5, 96))
    across[0] = 1
    across[1, 32:48], across[1, 48:64] = 1, -1
    k = np.arange(16) + 0.5
    for row, start in ((2, 32), (3, 48)):
        across[row, start : start + 16] = np.cos(np.pi * 5 * k / 16)
    grid = torch.from_numpy(np.round(across * 2**12))[:, None, None].expand(5, 1, 32, 96).contiguous()
    z = own.analyse(grid)[:, 0, 1].reshape(5, 32, 32)[:, 0]  # the window in the middle, flat down
    assert [int(z[row].abs().argmax()) for row in range(4)] == [0, 1, 10, 11]
    assert z[1, 1] > 0


def test_functions_of_inner_windows_end_smoothly_and_reach_over_their_borders():
    own, plain = (kind(1, 32, 160, 32, "cpu") for kind in (LappedBasis, WindowBasis))

    def drawn(basis: WindowBasis, place: int) -> np.ndarray:
        z = torch.zeros(1, 1, 5, 32, 32)
        z[0, 0, 2, 0, place] = 2.0**14
        return basis.synthesize(z.double())[0, 0, 0].numpy()

    for place in (0, 1, 2, 3):
        lapped, ends = (np.abs(np.diff(drawn(basis, place)[40:121])) for basis in (own, plain))
        assert (drawn(own, place) != 0).sum() > 16  # of a half: with its laps 32
        assert max(lapped[[23, 55]]) < 0.5 * max(ends[[23, 55]]), place


@pytest.mark.parametrize("name", ["astronaut", "coffee", "rocket"])
def test_fewer_coefficients_hold_a_photograph(name):
    """Energy left out by the largest two in a hundred coefficients, against a DCT of the same windows."""
    x = torch.tensor(photograph(name, 128, 128)).permute(2, 0, 1)[None].double() * 2.0**7
    left = []
    for kind in (LappedBasis, WindowBasis):
        energy = kind(3, 128, 128, 32, "cpu").analyse(x).reshape(-1).square().sort().values
        left.append(float(energy[: len(energy) * 98 // 100].sum()))
    assert left[0] < 0.95 * left[1]
