"""Streams under a condition: stored, needed on both sides, grouped by it, and refused where there is no place for it.

The prior is closed form: a Gaussian whose mean is a grey that the class, or the prompt, decides.
"""

from __future__ import annotations

import numpy as np
import pytest

import psc_core
from psc_core import errors
from psc_core.coding.header import SharedHeader
from psc_core.priors.gaussian import GaussianPrior
from tests.psc_core.photographs import photograph

PAPER = psc_core.get_profile("paper", samples=6, rows=5, steps=4, stages=1, tiers=2, restore_samples=4, canvas=32)
ARCHIVE = psc_core.get_profile("archive", tiers=3, canvas=32, restore_samples=2, restore_steps=2)
PROFILES = [pytest.param(PAPER, id="paper"), pytest.param(ARCHIVE, id="archive")]


class GreyGaussian(GaussianPrior):
    """x ~ N(m, S), m a grey level of the condition: D(x) = m + D0(x - m)."""

    def __init__(self, kind: str | None) -> None:
        super().__init__()
        self.condition_kind = kind

    def _denoise(self, x, sigma):
        mean = (min(len(str(self.condition or "")), 8) - 4) * 0.125
        return super()._denoise(x - mean, sigma) + mean


@pytest.fixture(scope="module")
def labelled():
    return GreyGaussian("label")


@pytest.fixture(scope="module")
def prompted():
    return GreyGaussian("text")


@pytest.mark.parametrize("profile", PROFILES)
def test_conditions_are_kept_in_every_form_and_decode(prompted, profile):
    image = photograph("coffee", 40, 24)
    stream = psc_core.encode(image, prompted, profile, condition="a cup")
    assert stream.canvases == 2
    pixels = psc_core.decode(stream, prompted)
    standalone = psc_core.Stream.from_bytes(stream.to_bytes())
    row = psc_core.Stream.from_parts(
        SharedHeader.from_json(stream.shared.to_json()), stream.image_header, [t.data for t in stream.tiers]
    )
    for read in (standalone, row):
        assert read.condition == "a cup"
        assert read == stream
        np.testing.assert_array_equal(psc_core.decode(read, prompted), pixels)
    cut = stream.truncate(tier=0)
    assert cut.condition == "a cup"
    np.testing.assert_array_equal(psc_core.decode(cut, prompted), psc_core.decode(stream, prompted, tier=0))


@pytest.mark.parametrize("profile", PROFILES)
def test_a_batch_of_many_conditions_is_as_each_alone(labelled, profile):
    images = [photograph(name) for name in ("astronaut", "coffee", "chelsea", "rocket")]
    labels = [3, None, 207, 3]
    together = psc_core.encode_batch(images, labelled, profile, conditions=labels)
    alone = [psc_core.encode(i, labelled, profile, condition=k) for i, k in zip(images, labels, strict=True)]
    assert [s.to_bytes() for s in together] == [s.to_bytes() for s in alone]
    for stream, pixels in zip(alone, psc_core.decode_batch(together, labelled), strict=True):
        np.testing.assert_array_equal(psc_core.decode(stream, labelled), pixels)


def test_another_condition_gives_another_stream_of_the_same_prior(prompted):
    streams = [psc_core.encode(photograph(), prompted, ARCHIVE, condition=c) for c in (None, "a dog", "an astronaut")]
    assert len({s.tiers for s in streams}) == 3
    assert len({s.shared for s in streams}) == 1


def test_a_stream_under_another_condition_is_not_another_image(prompted):
    from dataclasses import replace

    stream = psc_core.encode(photograph(), prompted, ARCHIVE, condition="a dog")
    other = replace(stream, image=replace(stream.image, condition="an astronaut"))
    with pytest.raises(errors.StateMismatch):
        psc_core.decode(other, prompted)


def test_encoding_more_tiers_under_the_same_condition_continues_the_stream(prompted):
    short, long = (psc_core.encode(photograph(), prompted, ARCHIVE, condition="it", tiers=n) for n in (2, 3))
    assert long.tiers[:2] == short.tiers
    assert long.image_header == short.image_header


def test_the_condition_is_counted_and_an_empty_prompt_is_none(prompted):
    bare, empty, given = (
        psc_core.encode(photograph(), prompted, PAPER, condition=c, max_bpp=4.0) for c in (None, "", "a dog")
    )
    assert bare.to_bytes() == empty.to_bytes()
    assert len(given.image_header) == len(bare.image_header) + 5
    assert given.bpp <= 4.0


def test_views_count_calls_together_and_share_what_they_hold(labelled):
    before = labelled.nfe
    view = labelled.conditioned(7)
    assert view.fingerprint == labelled.fingerprint
    assert labelled.conditioned(None) is labelled
    assert view.conditioned(7) is view
    psc_core.encode(photograph(), view.conditioned(None), ARCHIVE, condition=7)
    assert labelled.nfe == view.nfe > before


@pytest.mark.parametrize(
    ("kind", "condition", "words"),
    [
        (None, "a dog", "takes no condition"),
        (None, 3, "takes no condition"),
        ("label", "a dog", "takes a class label"),
        ("text", 3, "takes a text prompt"),
        ("label", True, "expected a prompt"),
        ("label", -1, "expected a prompt"),
        ("label", 1.5, "expected a prompt"),
        ("text", "x" * 20_000, "at most"),
        ("text", "\ud800", "not text"),
    ],
)
def test_conditions_that_cannot_be_given_are_refused(kind, condition, words):
    with pytest.raises(errors.InvalidCondition, match=words):
        psc_core.encode(photograph(), GreyGaussian(kind), ARCHIVE, condition=condition)
    with pytest.raises(errors.InvalidCondition, match=words):
        GreyGaussian(kind).conditioned(condition)


def test_streams_say_the_oldest_format_that_holds_them(labelled):
    assert psc_core.encode(photograph(), GreyGaussian(None), ARCHIVE).shared.version == 1
    assert psc_core.encode(photograph(), labelled, ARCHIVE, condition=1).shared.version == 2


def test_info_shows_the_condition(prompted, tmp_path):
    from jobs.info import info

    path = tmp_path / "one.psc"
    path.write_bytes(psc_core.encode(photograph(), prompted, PAPER, condition="a dog").to_bytes())
    found = info(str(path))
    assert found["condition"] == "a dog"
    assert found["condition_bits"] == 40
    path.write_bytes(psc_core.encode(photograph(), prompted, PAPER).to_bytes())
    assert "condition" not in info(str(path))
