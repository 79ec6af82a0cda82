"""Metrics against scikit-image's."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from psc_core import metrics
from tests.psc_core.photographs import photograph


@pytest.fixture(scope="module")
def pair():
    image = photograph("coffee", 200, 180)
    noisy = image + np.random.default_rng(0).normal(0, 12, image.shape)
    return image, noisy.clip(0, 255).astype(np.uint8)


def test_psnr(pair):
    assert metrics.psnr(*pair) == pytest.approx(peak_signal_noise_ratio(*pair), abs=1e-6)
    assert metrics.psnr(pair[0], pair[0]) == np.inf


def test_ssim(pair):
    theirs = structural_similarity(
        *pair, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=2, data_range=255
    )
    assert metrics.ssim(*pair) == pytest.approx(theirs, abs=1e-3)
    assert metrics.ssim(pair[0], pair[0]) == pytest.approx(1)
    assert np.isnan(metrics.ssim(pair[0][:10], pair[1][:10]))


def test_ms_ssim(pair):
    image, noisy = pair
    assert metrics.ms_ssim(image, image) == pytest.approx(1)
    assert 0.8 < metrics.ms_ssim(image, noisy) < 0.999
    assert np.isnan(metrics.ms_ssim(image[:100], noisy[:100]))
