from __future__ import annotations

import os
import time

import pytest

from pipeline.clean import clean
from pipeline.dataset.reader import Dataset
from pipeline.errors import BadRequest, NotADataset
from pipeline.stores.storage import Folder
from tests.pipeline.build import make_dataset
from tests.pipeline.conftest import make_images

LEFT = [
    "_psc/commits/00000.json.0a1b2c3d.tmp",
    "_psc/items-0123456789abcdef.parquet",
    "_psc/spool/psc-abc/shard-00003",
]


@pytest.fixture(params=["{}/ds", "memory://clean-test/ds"])
def dataset(request, tmp_path):
    """A dataset with leftovers."""
    url = request.param.format(tmp_path)
    make_images(tmp_path / "src", 4)
    make_dataset(tmp_path / "src", url)
    folder = Folder.at(url)
    for name in LEFT:
        folder.put(name, b"half")
    yield url
    folder.fs.rm(folder.path, recursive=True)


def files(url: str) -> list[str]:
    folder = Folder.at(url)
    return sorted(folder.fs.find(folder.path))


def test_leftovers_go_and_nothing_else(dataset):
    before = files(dataset)
    listed = clean(dataset, older_than=0, dry_run=True)
    assert files(dataset) == before
    done = clean(dataset, older_than=0)
    assert listed["leftovers"] == done["leftovers"] == LEFT
    assert (listed["removed"], done["removed"], done["bytes"]) == (0, 3, 12)
    assert [f for f in before if f not in files(dataset)] == [Folder.at(dataset).full(name) for name in LEFT]
    assert Dataset.open(dataset).arrow().count_rows() == 4
    assert clean(dataset, older_than=0)["removed"] == 0


def test_what_is_new_may_be_in_use(dataset):
    folder = Folder.at(dataset)
    assert clean(dataset)["removed"] == 0
    if folder.is_local:
        old = time.time() - 7200
        os.utime(folder.full(LEFT[1]), (old, old))
        assert clean(dataset, older_than=1)["leftovers"] == [LEFT[1]]


def test_a_start_that_was_killed_before_its_plan(tmp_path):
    folder = Folder.at(tmp_path / "ds")
    folder.put(LEFT[1], b"half")
    assert clean(str(tmp_path / "ds"), older_than=0)["leftovers"] == [LEFT[1]]


def test_wrong_use(dataset, tmp_path):
    with pytest.raises(NotADataset):
        clean(str(tmp_path / "src"))
    with pytest.raises(BadRequest):
        clean(dataset, older_than=-1)
