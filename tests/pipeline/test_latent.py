"""Photographs through a Stable Diffusion folder, end to end: compress with captions, truncate, decompress, refuse."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import psc_core
from pipeline.dataset.reader import Dataset
from pipeline.rates import truncate
from pipeline.request import Request
from pipeline.restore import decompress
from pipeline.run import compress
from tests.psc_core.photographs import photograph
from tests.psc_core.priors.stable import stable_diffusion

CAPTIONS = {"coffee.png": "A red cup.", "chelsea.png": "the cat"}
SMALL = {"tiers": 2, "samples": 2, "restore_samples": 2, "restore_steps": 2}


def test_photographs_with_captions_through_a_model_folder(ray_session, tmp_path):
    folder = stable_diffusion(tmp_path / "tiny-diffusion")
    (tmp_path / "photos").mkdir()
    for name in CAPTIONS:
        Image.fromarray(photograph(name[:-4], 40, 24)).save(tmp_path / "photos" / name)
    (tmp_path / "captions.json").write_text(json.dumps(CAPTIONS))
    request = Request(profile="archive", prior=str(folder), overrides=SMALL, captions=str(tmp_path / "captions.json"))
    compress(str(tmp_path / "photos"), str(tmp_path / "ds"), request, workers=1)
    assert compress(str(tmp_path / "photos"), str(tmp_path / "ds"), request, workers=1, resume=True).made == 0
    opened = Dataset.open(str(tmp_path / "ds"))
    rows = opened.arrow().to_table().to_pylist()
    assert {row["image_id"]: (row["status"], row["prompt"]) for row in rows} == {
        name: ("ok", prompt) for name, prompt in CAPTIONS.items()
    }
    assert (opened.shared.prior_name, opened.shared.version) == ("tiny-diffusion", 2)
    assert (opened.shared.profile.canvas, opened.shared.profile.window) == (32, 8)
    truncate(str(tmp_path / "ds"), str(tmp_path / "small"), tier=0)
    for source in ("ds", "small"):
        result = decompress(str(tmp_path / source), str(tmp_path / f"{source}-pictures"))
        assert (result.written, result.failures) == (2, 0)
    prior = psc_core.load_prior(folder, device="cpu")
    header, row = opened.shared, rows[0]
    stream = psc_core.Stream.from_parts(header, row["image_header"], [row["tier_0"], row["tier_1"]])
    picture = next((tmp_path / "ds-pictures").glob(f"{row['image_id']}*"))
    np.testing.assert_array_equal(np.asarray(Image.open(picture)), psc_core.decode(stream, prior))
    shutil.move(folder, tmp_path / "gone")
    with pytest.raises(psc_core.PscError, match=r"tiny-diffusion.*fingerprint"):
        decompress(str(tmp_path / "ds"), str(tmp_path / "more"))
    again = decompress(str(tmp_path / "ds"), str(tmp_path / "more"), prior=str(tmp_path / "gone"))
    assert (again.written, again.failures) == (2, 0)
