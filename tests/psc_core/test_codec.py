"""Encode and decode: any size, any batch, every refusal."""

from __future__ import annotations

import numpy as np
import pytest

import psc_core
from psc_core import errors
from psc_core.coding.header import MAGIC
from tests.psc_core.photographs import photograph, psnr

PAPER = psc_core.get_profile("paper", samples=6, rows=5, steps=4, stages=1, tiers=2, restore_samples=4, canvas=32)
ARCHIVE = psc_core.get_profile("archive", tiers=3, canvas=32, restore_samples=2, restore_steps=2)
DIFFC = psc_core.get_profile(
    "diffc", tiers=3, canvas=32, first_sigma=4.0, sigma=0.5, first_steps=4, candidates=10, chunk_bits=6, window=16
)
PROFILES = [pytest.param(PAPER, id="paper"), pytest.param(ARCHIVE, id="archive"), pytest.param(DIFFC, id="diffc")]


@pytest.fixture(scope="module")
def prior():
    return psc_core.load_prior("photo", device="cpu")


@pytest.fixture(scope="module")
def gaussian():
    return psc_core.load_prior("gaussian", device="cpu")


@pytest.mark.parametrize("profile", PROFILES)
def test_bytes_do_not_depend_on_the_batch(prior, profile):
    names = ("astronaut", "coffee", "chelsea", "rocket", "camera")
    images = [photograph(name) for name in names]
    together = psc_core.encode_batch(images, prior, profile)
    alone = [psc_core.encode(image, prior, profile) for image in images]
    assert [s.to_bytes() for s in together] == [s.to_bytes() for s in alone]
    decoded = psc_core.decode_batch(together[::-1], prior)[::-1]
    for stream, pixels in zip(alone, decoded, strict=True):
        np.testing.assert_array_equal(psc_core.decode(stream, prior), pixels)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (17, 33), (40, 70, 1), (33, 31, 3), (7, 513, 3), (1000, 1)])
def test_any_size_comes_back_with_its_shape(gaussian, profile, shape):
    image = np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)
    stream = psc_core.Stream.from_bytes(psc_core.encode(image, gaussian, profile).to_bytes())
    out = psc_core.decode(stream, gaussian)
    assert out.shape == (*shape[:2], shape[2] if len(shape) == 3 else 1)
    assert out.dtype == np.uint8


def test_psnr_rises_from_tier_to_tier(prior):
    image = photograph("coffee", 64, 48)
    stream = psc_core.encode(image, prior, psc_core.get_profile("archive", tiers=4))
    quality = [psnr(image, psc_core.decode(stream, prior, tier=k)) for k in range(4)]
    assert quality == sorted(quality)
    assert quality[0] > 15
    assert quality[-1] > 24
    assert stream.report.nfe == 6 * (4 + 3)


def test_a_truncated_stream_decodes_as_its_tier(prior):
    stream = psc_core.encode(photograph(), prior, ARCHIVE)
    for tier in range(3):
        cut = psc_core.Stream.from_bytes(stream.truncate(tier=tier).to_bytes())
        np.testing.assert_array_equal(psc_core.decode(cut, prior), psc_core.decode(stream, prior, tier=tier))


def test_canvases_may_hold_different_lengths(gaussian):
    """A byte budget can end between two canvases of one group: each decodes as far as it goes."""
    image = photograph("coffee", 70, 40)
    stream = psc_core.encode(image, gaussian, ARCHIVE)
    head = stream.nbytes - sum(len(t.data) for t in stream.tiers)
    for cut in stream.tiers[0].cuts:
        shorter = stream.truncate(max_bytes=head + cut)
        assert shorter.nbytes == head + cut
        if len(shorter.tiers[0].chunks) == stream.canvases:
            assert psc_core.decode(shorter, gaussian).shape == (40, 70, 3)


def test_max_bpp_is_never_exceeded(gaussian):
    image = photograph("coffee", 64, 64)
    full = psc_core.encode(image, gaussian, ARCHIVE)
    for share in (0.5, 0.8, 1.0):
        assert psc_core.encode(image, gaussian, ARCHIVE, max_bpp=full.bpp * share).bpp <= full.bpp * share


def test_another_seed_gives_other_bytes(prior):
    streams = [psc_core.encode(photograph(), prior, ARCHIVE, seed=seed) for seed in (0, 1)]
    assert streams[0].tiers != streams[1].tiers
    assert psnr(photograph(), psc_core.decode(streams[1], prior)) > 17


@pytest.mark.parametrize("profile", PROFILES)
def test_flat_and_noise_images(prior, profile):
    flat = np.full((32, 32, 3), (200, 40, 90), dtype=np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    streams = psc_core.encode_batch([flat, noise], prior, profile)
    decoded = psc_core.decode_batch(streams, prior)
    assert np.abs(decoded[0].astype(int) - flat).mean() < 24
    first = psc_core.decode(streams[1], prior, tier=0)
    assert psnr(noise, decoded[1]) > psnr(noise, first)


def test_a_perceptual_restoration_has_the_detail_that_a_mean_has_not(prior):
    """A member of the posterior is about 3 dB farther from the image than the mean, and as rough as the image."""
    image = photograph("coffee", 64, 64)
    stream = psc_core.encode(image, prior, "archive", tiers=3)
    mean, sample = (psc_core.decode(stream, prior, restore=restore) for restore in ("mean", "perceptual"))
    assert psnr(image, mean) - 4 < psnr(image, sample) < psnr(image, mean) - 0.5
    original, smooth, rough = (_roughness(x) for x in (image, mean, sample))
    assert smooth < rough < 1.5 * original
    other = psc_core.encode(photograph("rocket", 64, 64), prior, "archive", tiers=3)
    both = psc_core.decode_batch([other, stream], prior, restore="perceptual")
    assert np.array_equal(both[1], sample)


def _roughness(image):
    return np.abs(np.diff(image.astype(float), axis=1)).mean()


def test_float_streams_say_where_they_were_made(prior):
    float_prior = psc_core.load_prior("photo", arithmetic="float", device="cpu")
    stream = psc_core.encode(photograph(), float_prior, ARCHIVE)
    assert stream.shared.environment.startswith("torch ")
    assert psnr(photograph(), psc_core.decode(stream, float_prior)) > 17
    with pytest.raises(errors.WrongArithmetic, match="arithmetic='float'"):
        psc_core.decode(stream, prior)


def test_wrong_prior_is_refused_by_name(prior, gaussian):
    stream = psc_core.encode(photograph(), gaussian, ARCHIVE)
    with pytest.raises(errors.WrongPrior, match="gaussian"):
        psc_core.decode(stream, prior)


def test_a_state_that_is_not_reached_is_an_error(gaussian):
    """Checksums that match over a wrong state hash: as if the replay had drifted."""
    from psc_core.coding.container import Chunk, Tier

    stream = psc_core.encode(photograph(), gaussian, ARCHIVE)
    wrong = Tier.build([Chunk(c.payload, c.state ^ 1) for c in stream.tiers[0].chunks], canvases=1, index=0)
    with pytest.raises(errors.StateMismatch, match="tier 0"):
        psc_core.decode(psc_core.Stream(stream.shared, stream.image, (wrong,)), gaussian)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
    ],
)
def test_what_is_no_image_is_refused(gaussian, image, words):
    with pytest.raises(errors.InvalidImage, match=words):
        psc_core.encode(image, gaussian, ARCHIVE)


def test_every_flip_and_every_prefix(gaussian):
    """A typed error or the right pixels (of fewer tiers): never another image."""
    small = psc_core.get_profile("archive", tiers=2, restore_samples=2, restore_steps=1)
    stream = psc_core.encode(photograph(width=16, height=16), gaussian, small)
    data = stream.to_bytes()
    right = {psc_core.decode(stream, gaussian, tier=k).tobytes() for k in range(2)}
    refused = 0
    for place in range(len(data)):
        for flip in (1, 0x80, 0xFF, 0x55):
            broken = bytearray(data)
            broken[place] ^= flip
            refused += _refused_or_right(bytes(broken), gaussian, right)
    assert refused > 3.9 * len(data)
    for length in range(len(data)):
        _refused_or_right(data[:length], gaussian, right)
    assert psc_core.Stream.from_bytes(data[:-3], partial=True).tiers == stream.tiers[:1]


def _refused_or_right(data: bytes, prior, right: set[bytes]) -> bool:
    try:
        pixels = psc_core.decode(psc_core.Stream.from_bytes(data), prior)
    except errors.PscError:
        return True
    assert pixels.tobytes() in right
    return False


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda d: b"JUNK" + d[4:], errors.NotAStream),
        (lambda d: MAGIC + b"\x09" + d[5:], errors.UnknownVersion),
        (lambda d: d[:-2], errors.CutStream),
        (lambda d: d[:-2] + b"\0\0", errors.CorruptStream),
        (lambda d: d + b"x", errors.CorruptStream),
    ],
)
def test_each_damage_has_its_own_error(gaussian, change, error):
    data = psc_core.encode(photograph(), gaussian, ARCHIVE).to_bytes()
    with pytest.raises(error):
        psc_core.decode(psc_core.Stream.from_bytes(change(data)), gaussian)


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "a", None, True])
def test_seeds_that_no_stream_can_hold_are_refused(gaussian, seed):
    with pytest.raises(errors.InvalidProfile, match="seed="):
        psc_core.encode(photograph(), gaussian, ARCHIVE, seed=seed)


@pytest.mark.parametrize("rate", [0, -1.0, float("nan"), float("inf")])
def test_rates_that_are_none_are_refused(gaussian, rate):
    with pytest.raises(errors.InvalidProfile, match="max_bpp="):
        psc_core.encode(photograph(), gaussian, ARCHIVE, max_bpp=rate)


def test_memory_layout_does_not_reach_the_bytes(gaussian):
    image = photograph("coffee", 40, 24)
    wanted = psc_core.encode(image, gaussian, ARCHIVE).to_bytes()
    mirrored = np.ascontiguousarray(image[:, ::-1])[:, ::-1]
    for same in (np.asfortranarray(image), mirrored, np.repeat(image, 2, axis=0)[::2]):
        assert psc_core.encode(same, gaussian, ARCHIVE).to_bytes() == wanted


def test_no_images_are_no_streams(gaussian):
    assert psc_core.encode_batch([], gaussian, ARCHIVE) == []
    assert psc_core.decode_batch([], gaussian) == []


def test_a_target_ends_the_stream_at_the_first_tier_that_reaches_it(gaussian):
    whole = psc_core.encode(photograph(), gaussian, ARCHIVE)
    first, *_ = reached = whole.report.tier_psnr
    short = psc_core.encode(photograph(), gaussian, ARCHIVE, target_psnr=first + 0.01)
    assert len(short.tiers) == 2
    assert short.tiers == whole.tiers[:2]
    assert short.report.tier_psnr == reached[:2]
    assert psc_core.encode(photograph(), gaussian, ARCHIVE, target_psnr=99.0).tiers == whole.tiers
    with pytest.raises(errors.InvalidProfile, match="target_psnr=nan"):
        psc_core.encode(photograph(), gaussian, ARCHIVE, target_psnr=float("nan"))


def test_the_report_measures_every_tier(gaussian):
    report = psc_core.encode(photograph(), gaussian, ARCHIVE).report
    assert len(report.tier_ssim) == len(report.tier_psnr) == ARCHIVE.tiers
    assert 0 < report.tier_ssim[0] < report.tier_ssim[-1] <= 1
    assert psc_core.encode(photograph(width=9, height=9), gaussian, ARCHIVE).report.tier_ssim == ()
