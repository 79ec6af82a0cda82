"""`psc extend`, as it tells what it did."""

from __future__ import annotations

import re

from click.testing import CliRunner

from jobs.extend import command
from tests.pipeline.build import make_dataset
from tests.pipeline.conftest import make_images
from tests.pipeline.fake import FakeCodec, paper


def test_the_images_that_were_extended_and_the_others(ray_session, monkeypatch, tmp_path):
    make_images(tmp_path / "src", 5)
    make_dataset(tmp_path / "src", tmp_path / "low", paper(overrides={"tiers": 1}))
    for name in ("img0000.png", "img0003.png"):
        (tmp_path / "src" / name).unlink()
    monkeypatch.setattr("pipeline.extend.Codec", FakeCodec)
    asked = ["low", "high", "--source", "src", "--tier", "1", "--workers", "1"]
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(command, asked)
    assert said.exit_code == 1
    assert said.stderr == "not extended: 2 images; the column error says why\n"
    assert re.match(r"extended 3 images into \S+ in \S+ s \(5 in all: \d+ B, \S+ bpp\)\n", said.stdout)
