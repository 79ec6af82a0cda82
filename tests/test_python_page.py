"""docs/python.md: its blocks run as they stand, in order, with a prior that costs little."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jobs
import psc_core
from tests.psc_core.photographs import photograph

PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """``photos/`` with two photographs and a broken file, as the working directory; ``photo`` is the gaussian prior."""
    (tmp_path / "photos").mkdir()
    for name, source in (("one", "astronaut"), ("two", "camera")):
        Image.fromarray(photograph(source, 32, 32)).save(tmp_path / "photos" / f"{name}.png")
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"no picture")
    monkeypatch.chdir(tmp_path)
    _ = jobs.compress  # its module is needed, to give it another default
    for module in ("jobs.compress", "pipeline.request"):
        monkeypatch.setattr(sys.modules[module], "DEFAULT_PRIOR", "gaussian")
    return tmp_path


def test_every_block_runs(ray_session, folder, capsys):
    names: dict = {}
    for number, block in enumerate(BLOCKS):
        exec(compile(block.replace('"photo"', '"gaussian"'), f"python.md, block {number}", "exec"), names)
    said = capsys.readouterr().out
    assert np.array_equal(names["pixels"], psc_core.decode(names["stream"], names["prior"]))
    assert len(names["low"].tiers) == 2
    assert names["tight"].nbytes <= 300
    assert 0 < len(names["half"].tiers) <= 6
    assert names["small"].bpp <= 0.5
    assert names["good"].report.tier_psnr[-1] >= 24
    assert "{'tiers': 3, 'samples': 8}" in said
    assert "cut_stream" in said
    assert (names["result"].exit_code, names["result"].tally.failed) == (1, {"unknown_format": 1})
    assert names["table"].column_names == ["image_id", "bpp", "t2_psnr"]
    assert (folder / "pictures" / "one.png").exists()
    assert (folder / "files" / "one.psc").exists()
    assert (folder / "report.html").stat().st_size > 10_000
    assert len(names["again"].tiers) == 2


def test_the_page_names_every_verb_that_is_a_function():
    named = set(re.findall(r"from jobs import (.+)", PAGE))
    about_machines = {"info", "clean", "models", "doctor", "submit"}
    assert {verb for line in named for verb in line.split(", ")} >= set(jobs.VERBS) - about_machines
    for name in set(re.findall(r"psc_core\.(\w+)", PAGE)) - {"metrics"}:
        assert hasattr(psc_core, name)
