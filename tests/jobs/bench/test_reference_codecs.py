"""The codecs of today: their files are what they say, and each is used as well as it can be."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from jobs.bench import reference_codecs
from jobs.bench.distortion import Judge
from jobs.bench.reference_codecs import CODECS, coded_bytes, decode
from psc_core import metrics
from tests.psc_core.photographs import photograph

FORMATS = {"jpeg": "JPEG", "jpeg2000": "JPEG2000", "webp": "WEBP", "avif": "AVIF", "heic": "HEIF"}


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return photograph("coffee", 192, 160)


@pytest.mark.parametrize("name", CODECS)
def test_rate_and_quality_rise_with_the_setting(name, image):
    assert reference_codecs.missing(name) is None
    points = reference_codecs.measure(name, image, Judge())
    assert [p["setting"] for p in points] == list(CODECS[name].settings)
    for key in ("bytes", "psnr", "ssim"):
        values = [p[key] for p in points]
        assert values == sorted(values), key
    assert points[-1]["psnr"] > 30
    assert points[0]["bpp"] == 8 * points[0]["bytes"] / (192 * 160)
    assert all(p["seconds_encode"] > 0 < p["memory_mb_encode"] for p in points)


@pytest.mark.parametrize("name", CODECS)
def test_files_are_of_their_format_and_grey_stays_grey(name, image):
    for picture in (image, image[:, :, 1]):
        data = CODECS[name].encode(Image.fromarray(picture), CODECS[name].settings[-1])
        assert Image.open(io.BytesIO(data)).format == FORMATS[name]
        mode = "L" if picture.ndim == 2 else "RGB"
        decoded = decode(data, mode)
        assert decoded.shape == (160, 192, 1 if picture.ndim == 2 else 3)
        assert metrics.psnr(np.atleast_3d(picture), decoded) > 30


def test_jpeg_is_the_smaller_of_baseline_and_progressive(image):
    for side in (32, 512):
        picture = Image.fromarray(image).resize((side, side))
        ours = len(CODECS["jpeg"].encode(picture, 20))
        for progressive in (False, True):
            out = io.BytesIO()
            picture.save(out, "JPEG", quality=20, optimize=True, progressive=progressive)
            assert ours <= len(out.getvalue())


def test_jpeg2000_decorrelates_colour(image):
    """Without it, as Pillow does by default, the same rate gives 1 to 2 dB less."""
    picture = Image.fromarray(photograph("coffee", 256, 256))
    out = io.BytesIO()
    picture.save(out, "JPEG2000", quality_mode="rates", quality_layers=[24 / 0.4], irreversible=True, no_jp2=True)
    ours = CODECS["jpeg2000"].encode(picture, 0.4)
    assert len(ours) <= 1.02 * len(out.getvalue())
    original = np.asarray(picture)
    assert metrics.psnr(original, decode(ours, "RGB")) > 0.5 + metrics.psnr(original, decode(out.getvalue(), "RGB"))


def test_container_bytes_are_told_apart(image):
    picture = Image.fromarray(image)
    for name in ("avif", "heic"):
        data = CODECS[name].encode(picture, 20)
        assert 100 < len(data) - coded_bytes(data) < 800
    assert coded_bytes(CODECS["webp"].encode(picture, 20)) is None
    box = b"\0\0\0\x0cftypavif" + b"\0\0\0\x0bmdat123" + b"\0\0\0\0mdat4567"
    assert coded_bytes(box) == 3 + 4
    assert coded_bytes(b"\0\0\0\x0cftypavif\0\0\0\x02mdatxx") is not None  # a broken size does not loop for ever


def test_a_lossless_point_has_no_psnr():
    flat = np.full((32, 32, 3), 128, np.uint8)
    assert Judge().rate_and_distortion(10, flat, flat)["psnr"] is None
