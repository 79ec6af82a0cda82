"""The metrics against closed forms and against scikit-image's own."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import skimage.data
from skimage.measure import block_reduce
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from psc_core import metrics


def _noisy(image: np.ndarray, deviation: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, deviation, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module", params=["colour", "grey"])
def image(request) -> np.ndarray:
    if request.param == "colour":
        return skimage.data.astronaut()[40:227, 100:301]
    return skimage.data.camera()[100:290, 60:240]


@pytest.mark.parametrize("deviation", [2, 12, 60])
def test_as_scikit_image_computes(image, deviation):
    noisy = _noisy(image, deviation)
    assert metrics.ssim(image, noisy) == pytest.approx(_theirs(image, noisy), abs=1e-6)
    assert metrics.psnr(image, noisy) == pytest.approx(peak_signal_noise_ratio(image, noisy), abs=1e-9)


def _theirs(image: np.ndarray, noisy: np.ndarray, **options: float) -> float:
    return structural_similarity(
        image,
        noisy,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=2 if image.ndim == 3 else None,
        **options,
    )


@pytest.mark.parametrize("deviation", [2, 12, 60])
def test_ms_ssim_from_scikit_image_scale_by_scale(image, deviation):
    x, y = image.astype(np.float64), _noisy(image, deviation).astype(np.float64)
    even = tuple(slice(0, side // 16 * 16) for side in x.shape[:2])
    x, y = x[even], y[even]
    expected = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        if scale:
            block = (2, 2, 1)[: x.ndim]
            x, y = block_reduce(x, block, np.mean), block_reduce(y, block, np.mean)
        # A huge K1 makes the luminance term 1: what is left is contrast and structure.
        expected *= _theirs(x, y, **({"K1": 1e6} if scale < 4 else {})) ** weight
    assert metrics.ms_ssim(image[even], _noisy(image, deviation)[even]) == pytest.approx(expected, abs=1e-6)


def test_known_values(image):
    flat = np.full((64, 64, 3), 100, np.uint8)
    shifted = flat + np.uint8(5)
    assert metrics.psnr(flat, shifted) == pytest.approx(20 * math.log10(255 / 5))
    c1 = (0.01 * 255) ** 2
    assert metrics.ssim(flat, shifted) == pytest.approx((2 * 100 * 105 + c1) / (100**2 + 105**2 + c1))
    assert metrics.distortion(image, image) == (math.inf, pytest.approx(1.0), pytest.approx(1.0))
    assert metrics.ssim(image, 255 - image) < 0.2
    assert metrics.ms_ssim(image, 255 - image) == 0.0
    assert metrics.bpp(1000, 100, 50) == 1.6


def test_all_at_once_is_each_alone(image):
    noisy = _noisy(image, 20)
    expected = (metrics.psnr(image, noisy), metrics.ssim(image, noisy), metrics.ms_ssim(image, noisy))
    assert metrics.distortion(image, noisy) == expected


def test_grey_shapes_and_channel_order_do_not_matter(image):
    noisy = _noisy(image, 20)
    if image.ndim == 2:
        assert metrics.ssim(image, noisy) == metrics.ssim(image[:, :, None], noisy)
    else:
        assert metrics.ssim(image, noisy) == pytest.approx(metrics.ssim(image[:, :, ::-1], noisy[:, :, ::-1]))


def test_too_small_is_said_and_never_replaced():
    for side, defined in ((10, (False, False)), (11, (True, False)), (175, (True, False)), (176, (True, True))):
        found = metrics.distortion(*[np.zeros((side, 200), np.uint8)] * 2)
        assert (found.ssim is not None, found.ms_ssim is not None) == defined
    small = np.zeros((10, 200), np.uint8)
    with pytest.raises(ValueError, match="SSIM of 200x10 pixels"):
        metrics.ssim(small, small)
    with pytest.raises(ValueError, match="at least 176"):
        metrics.ms_ssim(np.zeros((175, 200), np.uint8), np.zeros((175, 200), np.uint8))


@pytest.mark.parametrize("other", [np.zeros((20, 21), np.uint8), np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20))])
def test_unlike_images_are_refused(other):
    with pytest.raises(ValueError, match="expected"):
        metrics.distortion(np.zeros((20, 20), np.uint8), other)


def test_needs_no_torch():
    script = "import sys, psc_core.metrics; assert not {'torch', 'skimage', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
