"""What a caller gives: refused before anything is encoded, and numpy's scalars taken like Python's."""

from __future__ import annotations

import numpy as np
import pytest

import psc_core
from pipeline.codec import stream_under
from psc_core import errors
from psc_core.coding.condition import checked
from psc_core.coding.header import ImageHeader
from psc_core.profiles import ArchiveProfile, PaperProfile
from tests.psc_core.photographs import photograph
from tests.psc_core.test_conditions import GreyGaussian

SMALL = psc_core.get_profile("archive", tiers=3, canvas=32, window=16, restore_samples=2, restore_steps=2)


@pytest.fixture(scope="module")
def gaussian():
    return psc_core.load_prior("gaussian", device="cpu")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_bpp": -1}, "max_bpp=-1"),
        ({"max_bpp": 10**400}, "max_bpp=1000"),
        ({"max_bpp": "1"}, "max_bpp='1'"),
        ({"target_psnr": float("nan")}, "target_psnr=nan"),
        ({"target_psnr": "high"}, "target_psnr='high'"),
        ({"seed": 1.0}, "seed=1.0"),
    ],
)
def test_options_are_refused_before_anything_is_encoded(gaussian, options, said):
    before = gaussian.nfe
    with pytest.raises(errors.InvalidProfile, match=said):
        psc_core.encode(photograph(), gaussian, SMALL, **options)
    assert gaussian.nfe == before


def test_a_rate_below_the_first_cut_leaves_headers_and_takes_nobody_along(gaussian):
    images = [photograph("coffee", 64, 64), photograph("coffee", 8, 8)]
    whole = psc_core.encode_batch(images, gaussian, SMALL)
    rate = (whole[0].header_bytes + len(whole[0].tiers[0].data)) * 8 / (64 * 64)
    assert rate * 64 / 8 < whole[1].header_bytes
    large, small = psc_core.encode_batch(images, gaussian, SMALL, max_bpp=rate)
    assert len(large.tiers) == 1
    assert large.bpp <= rate
    assert small.tiers == ()
    assert small.nbytes == small.header_bytes
    assert psc_core.Stream.from_bytes(small.to_bytes()) == small
    with pytest.raises(errors.CutStream, match="no whole image"):
        psc_core.decode(small, gaussian)
    with pytest.raises(errors.TierOutOfRange, match="holds none"):
        small.truncate(tier=0)


def test_a_report_goes_with_the_tiers_that_are_whole(gaussian):
    stream = psc_core.encode(photograph("coffee", 40, 24), gaussian, SMALL)
    psnr, ssim = stream.report.tier_psnr, stream.report.tier_ssim
    assert len(psnr) == 3
    for count in range(1, 4):
        size = stream.nbytes - sum(len(t.data) for t in stream.tiers[count:])
        part = stream.tiers[count].cuts[0] if count < 3 else 0
        for short in (
            stream.truncate(tier=count - 1),
            stream.truncate(max_bytes=size),
            stream.truncate(max_bytes=size + part),
            stream.truncate(max_bytes=size + part).truncate(max_bytes=size + part),
            psc_core.encode(photograph("coffee", 40, 24), gaussian, SMALL, max_bpp=size * 8 / (40 * 24)),
            stream_under(stream, (size - len(stream.shared.to_bytes())) * 8 / (40 * 24)),
        ):
            assert (short.report.tier_psnr, short.report.tier_ssim) == (psnr[:count], ssim[:count])
            assert short.report.nfe == stream.report.nfe
    assert psc_core.Stream.from_bytes(stream.to_bytes()).truncate(tier=0).report is None


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        (ArchiveProfile(name="mine"), "a profile named 'mine': .* get_profile"),
        (ArchiveProfile(name=["archive"]), "a profile named"),
        (ArchiveProfile(revision=2), "revision=2 of profile 'archive': expected 1"),
        (ArchiveProfile(codec="psc"), "codec='psc' of profile 'archive': expected 'structured'"),
        (ArchiveProfile(codec="x"), "codec='x'"),
        (PaperProfile(name="archive"), "a PaperProfile named 'archive': expected ArchiveProfile"),
        (None, "profile=None: expected one of archive, paper"),
        (3, "profile=3"),
    ],
)
def test_profiles_that_no_stream_can_hold_are_refused(gaussian, profile, said):
    with pytest.raises(errors.InvalidProfile, match=said):
        psc_core.encode(photograph(), gaussian, profile)


@pytest.mark.parametrize(
    ("image", "said"),
    [([[1, 2], [3]], "list is no array of pixels"), ("photo.png", "expected uint8"), (None, "expected uint8")],
)
def test_what_is_no_array_is_no_image(gaussian, image, said):
    with pytest.raises(errors.InvalidImage, match=said):
        psc_core.encode(image, gaussian, SMALL)


def test_scalars_of_numpy_are_those_of_python(gaussian):
    image, fields = photograph("coffee", 20, 12), {"tiers": 2, "step": 2.5, "law": "gauss", "samples": 3}
    given = {"tiers": np.int64(2), "step": np.float32(2.5), "law": np.str_("gauss"), "samples": np.uint8(3)}
    plain, odd = (psc_core.get_profile("archive", **some) for some in (fields, given))
    assert odd.digest == plain.digest
    assert [type(getattr(odd, name)) for name in fields] == [int, float, str, int]
    wanted = psc_core.encode(image, gaussian, plain, seed=3, tiers=1, max_bpp=8.0)
    found = psc_core.encode(
        image, gaussian, odd, seed=np.int64(3), tiers=np.int32(1), max_bpp=np.float32(8), target_psnr=np.float64(90)
    )
    assert found.to_bytes() == wanted.to_bytes()
    assert found.shared.to_json() == wanted.shared.to_json()


def test_conditions_of_numpy_are_those_of_python():
    images, texts, labels = [photograph("coffee", 20, 12)] * 2, GreyGaussian("text"), GreyGaussian("label")
    for prior, plain, odd in (
        (texts, ["a cat", None], np.array(["a cat", ""])),
        (texts, ["a cat", None], np.array(["a cat", None])),
        (labels, [3, 7], np.array([3, 7])),
    ):
        wanted = psc_core.encode_batch(images, prior, SMALL, conditions=plain)
        found = psc_core.encode_batch(images, prior, SMALL, conditions=odd)
        assert [s.to_bytes() for s in found] == [s.to_bytes() for s in wanted]
        prior.check_condition(odd[0])
    assert type(checked(np.str_("a"))) is str
    assert type(checked(np.int64(4))) is int
    assert ImageHeader(height=1, width=1, channels=3, condition=checked(np.int16(4))).to_bytes()


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ([None], "1 conditions for 2 images"),
        (np.array([1, 2, 3]), "3 conditions for 2 images"),
        ("ab", "conditions='ab': expected one an image"),
        (7, "conditions=7"),
        ([float("nan"), 1], "condition=nan"),
    ],
)
def test_conditions_that_do_not_fit_the_images_are_refused(conditions, said):
    with pytest.raises(errors.InvalidCondition, match=said):
        psc_core.encode_batch([photograph()] * 2, GreyGaussian("label"), SMALL, conditions=conditions)
