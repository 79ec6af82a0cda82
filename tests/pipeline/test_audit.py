"""Verify finds damage of every kind, goes on behind it, and names what mends it: which is done here, and does."""

from __future__ import annotations

import json
import shutil

import pytest

from pipeline.audit import verify
from pipeline.dataset import catalog
from pipeline.dataset.commit import committed_shards, marker_name, part_name, read_marker, read_markers
from pipeline.dataset.plan import ItemsFile, check_items
from pipeline.dataset.progress import Watch, commit_times
from pipeline.dataset.reader import Dataset
from pipeline.errors import CorruptPart
from pipeline.rates import truncate
from pipeline.stores.storage import Folder
from pipeline.workers.driver import committed
from tests.jobs.command import last_json, psc
from tests.pipeline.build import make_dataset, plan_dataset, run_shards
from tests.pipeline.conftest import make_images
from tests.pipeline.test_run import parts

DAMAGED = {
    "empty": lambda marker: b"",
    "half": lambda marker: json.dumps(marker).encode()[:80],
    "bytes": lambda marker: b"\xff\xfe\x00",
    "a list": lambda marker: b"[1, 2]",
    "without a field": lambda marker: json.dumps({k: v for k, v in marker.items() if k != "sha256"}).encode(),
    "of another type": lambda marker: json.dumps(marker | {"rows": "5"}).encode(),
    "of another shard": lambda marker: json.dumps(marker | {"shard": 0, "part": part_name(0)}).encode(),
}


@pytest.fixture
def archive(tmp_path):
    """A finished dataset of several shards; its plan and an encoder for it."""
    make_images(tmp_path / "src", 8)
    plan, encoder = plan_dataset(tmp_path / "src", tmp_path / "ds")
    run_shards(plan, encoder, tmp_path / "ds")
    return plan, encoder, Folder.at(tmp_path / "ds")


def found(folder: Folder) -> dict[str, str]:
    """Where verify sees problems, and what it says."""
    audit = verify(folder.url)
    assert audit.exit_code == (1 if audit.found else 0)
    return {problem["where"]: problem["error"] for problem in audit.problems}


def resume(plan, encoder, folder: Folder) -> None:
    """As the driver does: the shards that have no marker."""
    run_shards(plan, encoder, folder.url, [s for s in range(plan.shards) if s not in committed_shards(folder)])


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_marker_is_named_and_mended(archive, kind):
    plan, encoder, folder = archive
    before, whole = read_markers(folder, [1, 2]), verify(folder.url)
    folder.put(marker_name(1), DAMAGED[kind](before[0]))
    folder.fs.rm_file(folder.full(part_name(2)))
    audit = verify(folder.url)
    assert [p["where"] for p in audit.problems] == [marker_name(1), part_name(2)]
    assert "--resume" in audit.problems[0]["error"]
    assert (audit.parts, audit.rows) == (plan.shards, whole.rows - sum(m["rows"] for m in before))
    for ask in (
        lambda: catalog.status(folder.url),
        lambda: Watch(folder).look(),
        lambda: committed(folder, plan),
        lambda: run_shards(plan, encoder, folder.url, [1]),
    ):
        with pytest.raises(CorruptPart, match=f"{marker_name(1)} is not the marker of shard 1"):
            ask()
    encoded = []
    encode, encoder._encode = encoder._encode, lambda plan, task, items: encoded.append(task.shard)
    folder.fs.rm_file(folder.full(marker_name(1)))
    resume(plan, encoder, folder)
    encoder._encode = encode
    assert encoded == []
    assert read_marker(folder, 1) == before[0] | {"figures": {}}
    folder.fs.rm_file(folder.full(marker_name(2)))
    resume(plan, encoder, folder)
    assert found(folder) == {}


def test_what_other_programs_leave_beside_the_markers(archive):
    """As macOS does with ``._…`` on disks that are not its own."""
    _, _, folder = archive
    shards = committed_shards(folder)
    for name in ("._00001.json", "1.json", "00001.json.bak", ".DS_Store", "000001.json", "٠٠٠٠٢.json"):
        folder.put(f"_psc/commits/{name}", b"\x00\x05\x16\x07")
    assert committed_shards(folder) == list(commit_times(folder)) == shards
    assert Watch(folder).look().complete
    assert catalog.status(folder.url)["ok"] == 8
    assert found(folder) == {}


def test_a_damaged_part_is_made_again(archive, tmp_path):
    plan, encoder, folder = archive
    before = parts(tmp_path / "ds")
    data = bytearray(before[part_name(1)])
    data[50] ^= 1
    folder.put(part_name(1), bytes(data))
    folder.put(part_name(2), b"")
    folder.fs.rm_file(folder.full(part_name(3)))
    problems = found(folder)
    assert list(problems) == [part_name(1), part_name(2), part_name(3)]
    for shard, said in enumerate(problems.values(), 1):
        there = f"{part_name(shard)} and " if folder.exists(part_name(shard)) else ""
        assert f"remove {there}{marker_name(shard)}," in said
        for name in (part_name(shard), marker_name(shard)):
            if folder.exists(name):
                folder.fs.rm_file(folder.full(name))
    resume(plan, encoder, folder)
    assert found(folder) == {}
    assert parts(tmp_path / "ds") == before


def test_a_truncated_dataset_is_mended_by_its_own_command(archive, tmp_path):
    _, _, folder = archive
    small = Folder.at(tmp_path / "small")
    truncate(folder.url, small.url, tier=1)
    before = parts(tmp_path / "small")
    small.put(marker_name(0), b"")
    small.put(part_name(1), b"PAR1")
    with pytest.raises(CorruptPart, match="remove it"):
        truncate(folder.url, small.url, tier=1, resume=True)
    for name in (marker_name(0), marker_name(1), part_name(1)):
        small.fs.rm_file(small.full(name))
    truncate(folder.url, small.url, tier=1, resume=True)
    assert found(small) == {}
    assert parts(tmp_path / "small") == before


@pytest.mark.parametrize("damage", ["garbage", "gone", "inside"])
def test_a_damaged_list_of_inputs_is_made_again(archive, tmp_path, damage):
    plan, _, folder = archive
    whole = folder.read(plan.items_file)
    if damage == "gone":
        folder.fs.rm_file(folder.full(plan.items_file))
    else:
        folder.put(plan.items_file, b"garbage" if damage == "garbage" else whole[:4] + b"\xff" * 60 + whole[64:])
    problems = found(folder)
    assert list(problems) == [plan.items_file]
    assert "psc plan" in problems[plan.items_file]
    with pytest.raises(CorruptPart, match="not the planned list of inputs"):
        ItemsFile(folder, plan).shard(0)
    # What is committed needs it not.
    assert truncate(folder.url, str(tmp_path / "small"), tier=0).tally.ok == 8
    assert verify(str(tmp_path / "small")).exit_code == 0
    assert [i for i, _ in Dataset.open(folder.url).streams(ids=["img0003.png"])] == ["img0003.png"]
    assert catalog.query(folder.url, "from images").num_rows == 8
    again, _ = plan_dataset(tmp_path / "src", tmp_path / "new")
    assert again.items_file == plan.items_file
    shutil.copy(tmp_path / "new" / plan.items_file, tmp_path / "ds" / plan.items_file)
    check_items(folder, plan)
    assert found(folder) == {}


@pytest.mark.parametrize("url", ["{}/ds", "memory://audit-test/ds"])
def test_files_that_plain_readers_would_count_twice(tmp_path, url):
    make_images(tmp_path / "src", 8)
    make_dataset(tmp_path / "src", url.format(tmp_path))
    folder = Folder.at(url.format(tmp_path))
    for name in (part_name(99), "copy.parquet", "._part-00000.parquet"):
        folder.put(name, folder.read(part_name(0)))
    folder.put("notes.txt", b"not one of them")
    problems = found(folder)
    assert set(problems) == {part_name(99), "copy.parquet", "._part-00000.parquet"}
    assert all("move it elsewhere" in said for said in problems.values())
    for name in problems:
        folder.fs.rm_file(folder.full(name))
    assert found(folder) == {}


def test_a_part_before_its_marker(archive):
    """A kill may leave it: --resume takes it as it is."""
    plan, encoder, folder = archive
    folder.fs.rm_file(folder.full(marker_name(2)))
    (said,) = found(folder).values()
    assert "has no marker" in said
    resume(plan, encoder, folder)
    assert found(folder) == {}


def test_a_marker_of_another_plan(archive):
    plan, _, folder = archive
    marker = read_marker(folder, 0)
    folder.put(marker_name(0), json.dumps(marker | {"fingerprint": "0" * 64}).encode())
    stray = marker | {"shard": plan.shards, "part": part_name(plan.shards)}
    folder.put(marker_name(plan.shards), json.dumps(stray).encode())
    problems = found(folder)
    assert set(problems) == {marker_name(0), marker_name(plan.shards)}
    assert all("of another plan" in said for said in problems.values())


def test_what_the_command_says(archive, capfd):
    _, _, folder = archive
    folder.put(marker_name(1), b"")
    code, out, err = psc(capfd, "verify", folder.url, "--json")
    assert (code, last_json(out)["found"]) == (1, 1)
    assert last_json(out)["problems"][0]["where"] == marker_name(1)
    assert marker_name(1) in err
    code, out, err = psc(capfd, "status", folder.url, "--json")
    assert (code, last_json(out)["error"]) == (2, "corrupt_part")
    assert folder.full(marker_name(1)) in err
    assert len(err.splitlines()) == 1
    assert Dataset.open(folder.url).complete
