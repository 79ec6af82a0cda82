"""The public names: what they take is to be seen, and what they raise can be imported."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import psc_core
from psc_core import errors
from tests.psc_core.photographs import photograph

ROOT = Path(__file__).parents[2]
PUBLIC = [name for name in psc_core.__all__ if inspect.isfunction(getattr(psc_core, name))]


def test_every_error_is_public():
    raised = {name for name, found in vars(errors).items() if inspect.isclass(found)}
    assert raised <= set(psc_core.__all__)
    assert all(getattr(psc_core, name) is getattr(errors, name) for name in raised)


@pytest.mark.parametrize("name", PUBLIC)
def test_what_a_docstring_says_is_raised_is_public(name):
    said = (inspect.getdoc(getattr(psc_core, name)) or "").partition("Raises:")[2]
    assert set(re.findall(r"\b[A-Z][a-z]+[A-Z]\w+", said)) <= set(psc_core.__all__)


def test_encode_takes_what_encode_batch_takes():
    one, many = (inspect.signature(f).parameters for f in (psc_core.encode, psc_core.encode_batch))
    assert list(one)[1:] == [{"conditions": "condition"}.get(name, name) for name in list(many)[1:]]
    for name in ("seed", "tiers", "max_bpp", "target_psnr"):
        assert (one[name].annotation, one[name].default) == (many[name].annotation, many[name].default)
    with pytest.raises(TypeError, match=r"encode\(\) got an unexpected keyword argument 'sede'"):
        psc_core.encode(photograph(), None, sede=1)


@pytest.mark.parametrize("room", ["psc_core", "pipeline", "jobs"])
def test_types_are_for_others_too(room):
    assert (ROOT / room / "py.typed").is_file()
    assert re.search(rf'^{room} = \[.*"py.typed"', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("shape", [(20, 24), (20, 24, 3)])
def test_pixels_are_contiguous(shape):
    prior = psc_core.load_prior("gaussian", device="cpu")
    stream = psc_core.encode(np.full(shape, 90, np.uint8), prior, tiers=1)
    (replayed,) = psc_core.replay(stream, prior)
    for pixels in (psc_core.decode(stream, prior), replayed.restore()):
        assert pixels.flags.c_contiguous
        assert len(memoryview(pixels).cast("B")) == pixels.size
