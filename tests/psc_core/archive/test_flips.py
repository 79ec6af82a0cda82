"""How samples are drawn: each seen in its own orientation, mirrored noise, a better mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import psc_core
from psc_core.archive.canvases import Drawing, StructuredCanvases, restoration
from psc_core.archive.flips import flipped, seen_flipped
from tests.psc_core.photographs import photograph, psnr

RAMP = torch.arange(12.0).view(1, 3, 4)
"""A denoiser's error that knows left from right and top from bottom."""


def shifted(x_NCHW: torch.Tensor, sigma: float) -> torch.Tensor:
    return x_NCHW + RAMP * sigma


@pytest.mark.parametrize("orientation", range(4))
def test_an_orientation_undoes_itself(orientation):
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(flipped(flipped(x, orientation), orientation), x)
    assert torch.equal(flipped(x, orientation), x) == (orientation == 0)


def test_every_sample_is_seen_in_its_own_orientation():
    """Two canvases of five samples: the fifth is seen as the first."""
    seen = seen_flipped(shifted, 5, 4)(torch.zeros(10, 1, 3, 4), 2.0).view(2, 5, 1, 3, 4)
    for sample, turned in enumerate((RAMP, RAMP.flip(-1), RAMP.flip(-2), RAMP.flip(-1, -2), RAMP)):
        assert torch.equal(seen[0, sample], turned * 2.0)
    assert torch.equal(seen[0], seen[1])


def test_errors_that_know_an_orientation_cancel():
    x = torch.zeros(4, 1, 3, 4)
    assert seen_flipped(shifted, 4, 4)(x, 1.0).mean(dim=0).std() < 1e-6 < shifted(x, 1.0).mean(dim=0).std()


@pytest.mark.parametrize("samples", [2, 5])
def test_mirrored_samples_take_the_firsts_noise_others_their_own(samples):
    prior = psc_core.load_prior("gaussian", device="cpu")
    canvases = StructuredCanvases(prior, psc_core.get_profile("archive"), (32, 32), [7, 3], 0)

    def drawn(mirrored: bool) -> torch.Tensor:
        plan = Drawing(samples, (1.0,), 1.0, mirrored)
        return canvases._noise(0, plan)(0).view(2, samples, 3, 32, 32)

    mirrored, own, fresh = drawn(True), drawn(False), samples - samples // 2
    assert torch.equal(mirrored[:, :fresh], own[:, :fresh])
    assert torch.equal(mirrored[:, fresh:], -own[:, : samples // 2])
    assert len({float(x.sum()) for x in own.flatten(0, 1)}) == 2 * samples


@pytest.mark.parametrize(("wanted", "known", "seen"), [(4, 4, 4), (4, 1, 1), (2, 4, 2), (1, 4, 1)])
def test_no_orientation_that_the_prior_does_not_know(wanted, known, seen):
    prior = psc_core.load_prior("gaussian", device="cpu")
    prior.orientations = known
    profile = psc_core.get_profile("archive", restore_orientations=wanted)
    assert restoration(profile, 1, "mean", prior).orientations == seen
    assert restoration(profile, 1, "perceptual", prior).orientations == 1


def with_orientations(orientations: int) -> psc_core.Profile:
    return psc_core.get_profile("archive", tiers=3, restore_orientations=orientations)


def test_what_is_stored_does_not_depend_on_how_it_is_restored():
    prior, image = psc_core.load_prior("photo", device="cpu"), photograph("coffee", 32, 32)
    one, four = (psc_core.encode(image, prior, with_orientations(count)).tiers for count in (1, 4))
    assert one == four


def test_a_mean_of_orientations_is_nearer_to_photographs():
    prior, gained = psc_core.load_prior("photo", device="cpu"), []
    for name in ("astronaut", "coffee", "chelsea"):
        image = photograph(name, 64, 64)
        stream = psc_core.encode(image, prior, with_orientations(4))
        single = replace(stream, shared=replace(stream.shared, profile=with_orientations(1)))
        gained.append(psnr(image, psc_core.decode(stream, prior)) - psnr(image, psc_core.decode(single, prior)))
    assert np.mean(gained) > 0
