"""Under the Gaussian prior the posterior is known: samplers, rows and distortion against it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from psc_core.exact import fixed, noise
from psc_core.paper.canvases import PublishedCanvases
from psc_core.paper.measurements import DenseMeasurements
from psc_core.paper.sensing import adasense_rows
from psc_core.priors.gaussian import GaussianPrior, sample_image
from psc_core.profiles import get_profile
from psc_core.samplers.ddpm import projected_ddpm
from psc_core.samplers.ddrm import ddrm
from psc_core.samplers.pigdm import pigdm
from psc_core.samplers.schedule import karras
from psc_core.sides import EncoderSide

SIDE = 8
DIMENSION = 3 * SIDE * SIDE


@pytest.fixture(scope="module")
def prior():
    return GaussianPrior(corner=0.06)


@pytest.fixture(scope="module")
def eigen(prior):
    """Eigenvectors (D, D) as rows, descending, and eigenvalues (D,) of the prior's covariance."""
    basis = prior.synthesize(torch.eye(DIMENSION).view(-1, 3, SIDE, SIDE)).flatten(1).double()
    values = prior.spectrum(SIDE, SIDE).flatten()
    order = torch.argsort(values, descending=True)
    return basis[order], values[order]


def known_rows(eigen, prior, count: int, seed: int) -> tuple[DenseMeasurements, torch.Tensor]:
    """The first ``count`` eigen-directions of a drawn image, measured."""
    truth = torch.from_numpy(sample_image(prior, SIDE, SIDE, seed)).flatten()
    known = DenseMeasurements(1, DIMENSION)
    rows = fixed.to_grid(eigen[0][:count], fixed.ROW_BITS)[None]
    known.append(rows, (eigen[0][:count] @ truth)[None])
    return known, truth


def draws(sampler, prior, known, count, steps, low=0.01):
    sigmas = karras(steps, 40.0, low)

    def draw(step):
        return noise.normal(noise.NoiseKey(1, 0, 0, 0, step), range(count), (3, SIDE, SIDE))

    def project(x):
        return known.project(x.flatten(1)[None])[0].view_as(x)

    return sampler(prior.denoise, project, draw, sigmas).flatten(1).double()


@pytest.mark.parametrize(
    "sampler", [projected_ddpm, lambda *a: ddrm(*a, eta=0.0)], ids=["projected ddpm", "ddrm, eta 0"]
)
def test_samples_have_the_posterior_mean_and_covariance(prior, eigen, sampler):
    basis, values = eigen
    count, rows = 600, 10
    known, truth = known_rows(eigen, prior, rows, 5)
    coordinates = draws(sampler, prior, known, count, 200, low=0.003) @ basis.T
    torch.testing.assert_close(
        coordinates[:, :rows].mean(0), (basis @ truth)[:rows], atol=2e-3, rtol=0
    )  # measured: exact
    free, variance = coordinates[:, rows:], values[rows:]
    scores = free.mean(0) / (variance / count).sqrt()
    assert scores.abs().max() < 4.5
    ratio = free.var(0) / variance
    assert abs(float(ratio.mean()) - 1) < 0.06
    assert ratio.max() < 1.4
    assert ratio.min() > 0.6
    correlation = torch.corrcoef(free[:, :40].T) - torch.eye(40)
    assert correlation.abs().max() < 6 / count**0.5


@pytest.mark.parametrize("eta", [1.0, 0.6])
def test_ddrm_has_the_variance_of_its_recursion(prior, eigen, eta):
    """V <- (w + s' sqrt(1 - eta^2) (1 - w) / s)^2 V + (s' eta)^2, w = S / (S + s^2): too small at eta = 1."""
    _, values = eigen
    known, _ = known_rows(eigen, prior, 4, 6)
    sigmas = karras(25, 40.0, 0.01)
    coordinates = draws(lambda *a: ddrm(*a, eta=eta), prior, known, 800, 25) @ eigen[0].T
    variance = torch.full_like(values, sigmas[0] ** 2)
    for sigma, following in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        w = values / (values + sigma**2)
        kept = w + following * (1 - eta**2) ** 0.5 * (1 - w) / sigma
        variance = kept**2 * variance + (following * eta) ** 2
    ratio = coordinates[:, 4:].var(0) / variance[4:]
    assert abs(float(ratio.mean()) - 1) < 0.03
    assert ratio.max() < 1.3
    assert ratio.min() > 0.75
    if eta == 1.0:
        assert float((variance[4:] / values[4:]).mean()) < 0.9


def test_pigdm_has_the_mean_and_variance_of_its_recursion(prior, eigen):
    """x <- w x + g w (y - w x) + k (1 - w) x / s + fresh a measured mode, g = sqrt(1 + s'^2); no pull elsewhere."""
    basis, values = eigen
    count, sigmas = 600, karras(5, 2.0, 0.2)  # few steps, since later ones forget the pull of the first
    measured = (torch.arange(DIMENSION) % 16 == 0).double()  # strong and weak modes
    truth = torch.from_numpy(sample_image(prior, SIDE, SIDE, 7)).flatten()
    known = DenseMeasurements(1, DIMENSION)
    rows = basis[measured > 0]
    known.append(fixed.to_grid(rows, fixed.ROW_BITS)[None], (rows @ truth)[None])
    coordinates = _guided(prior, known, sigmas, count) @ basis.T
    y = basis @ truth
    mean, variance = torch.zeros_like(values), torch.full_like(values, sigmas[0] ** 2)
    for sigma, following in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        w = values / (values + sigma**2)
        pull = measured * (1 + following**2) ** 0.5 * w
        fresh = following * (1 - following**2 / sigma**2) ** 0.5
        kept = w - pull * w + (following**2 - fresh**2) ** 0.5 / sigma * (1 - w)
        mean, variance = kept * mean + pull * y, kept**2 * variance + fresh**2
    noise_of_mean = (variance / count).sqrt() + 2.0**-fixed.PIXEL_BITS  # measured modes end below a grid step
    assert ((coordinates.mean(0) - mean) / noise_of_mean).abs().max() < 4.5
    ratio = (coordinates.var(0) / variance)[variance > 1e-6]
    assert len(ratio) > 0.9 * DIMENSION
    assert abs(float(ratio.mean()) - 1) < 0.03
    assert ratio.max() < 1.35
    assert ratio.min() > 0.7


@pytest.mark.parametrize("tail", [1, 2, 4])
def test_pigdm_with_an_unguided_tail_follows_its_recursion(prior, eigen, tail):
    """The last steps have no pull: measured modes drift as all others do, from where guidance left them."""
    basis, values = eigen
    count, sigmas = 600, karras(4, 2.0, 0.2)
    rows = 24
    known, truth = known_rows(eigen, prior, rows, 7)
    coordinates = _guided(prior, known, sigmas, count, unguided_tail=tail) @ basis.T
    y, measured = basis @ truth, (torch.arange(DIMENSION) < rows).double()
    mean, variance = torch.zeros_like(values), torch.full_like(values, sigmas[0] ** 2)
    for step, (sigma, following) in enumerate(zip(sigmas, [*sigmas[1:], 0.0], strict=True)):
        w = values / (values + sigma**2)
        pull = measured * (1 + following**2) ** 0.5 * w * (step < len(sigmas) - tail)
        fresh = following * (1 - following**2 / sigma**2) ** 0.5
        kept = w - pull * w + (following**2 - fresh**2) ** 0.5 / sigma * (1 - w)
        mean, variance = kept * mean + pull * y, kept**2 * variance + fresh**2
    noise_of_mean = (variance / count).sqrt() + 2.0**-fixed.PIXEL_BITS
    assert ((coordinates.mean(0) - mean) / noise_of_mean).abs().max() < 4.5
    assert abs(float((coordinates.var(0) / variance)[variance > 1e-6].mean()) - 1) < 0.03
    if tail == 4:
        unguided = known_rows(eigen, prior, 0, 7)[0]
        assert torch.equal(coordinates, _guided(prior, unguided, sigmas, count) @ basis.T)


def _guided(prior, known, sigmas, count, **options):
    def draw(step):
        return noise.normal(noise.NoiseKey(2, 0, 0, 0, step), range(count), (3, SIDE, SIDE))

    def residual(x):
        return known.back_projected_residual(x.flatten(1)[None])[0].view_as(x)

    return pigdm(prior.denoise_differentiably, residual, draw, sigmas, **options).flatten(1).double()


def test_pigdm_centres_on_the_posterior_mean(prior, eigen):
    basis, values = eigen
    rows = 10
    known, truth = known_rows(eigen, prior, rows, 7)
    sigmas = karras(60, 40.0, 0.01)
    count = 200

    samples = _guided(prior, known, sigmas, count)
    mean = samples.mean(0) @ basis.T
    wanted = torch.where(torch.arange(DIMENSION) < rows, basis @ truth, torch.zeros(DIMENSION).double())
    # In standard deviations of the prior: measured modes are pulled to y, the others stay centred on zero.
    assert float(((mean - wanted) / values.sqrt())[:rows].abs().max()) < 0.25
    assert float(((mean - wanted) / (values / count).sqrt())[rows:].abs().max()) < 5


def test_chosen_rows_capture_what_the_klt_captures(prior, eigen):
    basis, values = eigen
    rows = 12
    known = DenseMeasurements(1, DIMENSION)
    samples = draws(projected_ddpm, prior, known, 320, 60)
    chosen = adasense_rows(samples.float()[None], known.rows, rows)[0] * 2.0**-fixed.ROW_BITS
    captured = ((chosen @ basis.T) ** 2 @ values).sum()
    assert float(captured / values[:rows].sum()) > 0.95
    torch.testing.assert_close(chosen @ chosen.T, torch.eye(rows).double(), atol=1e-5, rtol=0)


def test_distortion_follows_the_analytic_curve(prior, eigen):
    """Mean error after d rows against the sum of the eigenvalues left, with rows chosen from many samples."""
    _, values = eigen
    profile = get_profile("paper", samples=160, rows=12, steps=20, stages=1, sampler="ddpm")
    images = [torch.from_numpy(sample_image(prior, SIDE, SIDE, 100 + i)).float() for i in range(6)]
    errors = np.zeros((len(images), 3))
    for i, image in enumerate(images):
        canvases = PublishedCanvases(prior, profile, (SIDE, SIDE), [0], i)
        side = EncoderSide(image[None])
        for stage in range(3):
            canvases.stage(side)
            mean = canvases._samples(160, 1, stage)[0].double().mean(0)
            errors[i, stage] = float(((mean - image) ** 2).sum())
        gram = canvases.known.rows[0] @ canvases.known.rows[0].T * 2.0 ** (-2 * fixed.ROW_BITS)
        torch.testing.assert_close(gram, torch.eye(36).double(), atol=1e-5, rtol=0)
    for stage in range(3):
        left = float(values[12 * (stage + 1) :].sum())
        assert 0.75 * left < errors[:, stage].mean() < 1.45 * left
