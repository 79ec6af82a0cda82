"""docs/recipes.md: every block runs as it stands."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs import cli
from pipeline.codec import Codec
from pipeline.dataset import plan as planning
from pipeline.dataset.plan import ItemsFile
from pipeline.request import Request
from pipeline.run import compress_plan
from pipeline.sources import Source
from pipeline.stores.storage import Folder
from pipeline.workers.actors import Encoder
from pipeline.workers.attempts import Task
from tests.pipeline.conftest import make_images

PAGE = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
COMMANDS = [line for language, code in BLOCKS if language == "sh" for line in code.splitlines()]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A folder with ``archive/``: real streams of a real prior, and one input that failed."""
    root = tmp_path_factory.mktemp("recipes")
    make_images(root / "src", 4, size=12)
    (root / "src" / "zz.jpg").write_bytes(b"no")
    request, target, source = Request(prior="gaussian", overrides={"tiers": 2}), root / "archive", str(root / "src")
    encoder = Encoder(request, Source(source), Folder.at(target), Codec(), batch=4, threads=1)
    listing = planning.list_items(Source(source).items(), root)
    made = compress_plan(Source(source), request, encoder.describe(), listing)
    plan = planning.freeze(Folder.at(target), made, listing.file)
    items = ItemsFile(Folder.at(target), plan)
    for shard in range(plan.shards):
        encoder.run(plan, Task(shard, items.count(shard)), items.shard(shard))
    items.close()
    return root


def named(block: str) -> str:
    """The library that a block is about."""
    return re.findall(r"^import (\w+)", block, re.MULTILINE)[-1]


def test_the_page_covers_what_it_promises():
    assert [named(block) for block in PYTHON] == ["duckdb", "duckdb", "polars", "pyarrow", "pyarrow", "ray"]
    assert {word for line in COMMANDS for word in re.findall(r"--format (\w+)", line)} == {"csv", "json", "parquet"}


@pytest.mark.parametrize("block", PYTHON[:-1], ids=named)
def test_a_block_runs(archive, monkeypatch, capsys, block):
    monkeypatch.chdir(archive)
    exec(compile(block, "recipe", "exec"), {})
    said = capsys.readouterr().out
    expected = {"duckdb": ("PNG", "bytes"), "polars": ("t1_psnr",), "pyarrow": ("4 ", "img0000.png (12, 12, 3) uint8")}
    assert any(word in said for word in expected[named(block)]), said


def test_ray_data_reads_it(archive, monkeypatch, capsys, ray_session):
    monkeypatch.chdir(archive)
    exec(compile(PYTHON[-1], "recipe", "exec"), {})
    said = capsys.readouterr().out
    assert all(
        f"{{'id': 'img000{k}.png', 'pixels': {pixels}}}" in said for k, pixels in enumerate((144, 156, 168, 180))
    )


@pytest.mark.parametrize("line", COMMANDS)
def test_a_query_runs(archive, monkeypatch, capsys, line):
    monkeypatch.chdir(archive)
    program, *arguments = shlex.split(line)
    assert program == "psc"
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert not end.value.code
    said = capsys.readouterr().out
    if "--format json" in line:
        assert json.loads(said)["status"] == "unknown_format"
    elif "--out" in line:
        assert pq.read_table("low.parquet").column_names[:2] == ["image_id", "tier"]
    else:
        assert said.count("\n") >= 3
