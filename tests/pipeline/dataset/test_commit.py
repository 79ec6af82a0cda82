from __future__ import annotations

import json
import threading
from pathlib import Path

import duckdb
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pipeline.dataset import commit as committing
from pipeline.dataset.commit import adopt, committed_shards, part_name, read_marker
from pipeline.dataset.reader import Dataset
from pipeline.errors import CorruptPart
from pipeline.stores.storage import Folder
from tests.pipeline.build import make_dataset, plan_dataset, run_shards
from tests.pipeline.conftest import make_images


@pytest.fixture
def source(tmp_path):
    make_images(tmp_path / "src", 12)
    (tmp_path / "src" / "broken.jpg").write_bytes(b"\xff\xd8 no")
    return tmp_path / "src"


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.glob("*.parquet"))}


@pytest.mark.parametrize("url", ["{}/ds", "memory://commit-test/ds"])
def test_creation_is_exclusive(tmp_path, url):
    folder = Folder.at(url.format(tmp_path))
    wins = []

    def race(number):
        wins.append(folder.create("_psc/x", str(number).encode()) and number)

    threads = [threading.Thread(target=race, args=(n,)) for n in range(1, 9 if folder.is_local else 2)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    (winner,) = [w for w in wins if w]
    assert folder.read("_psc/x") == str(winner).encode()
    assert not folder.create("_psc/x", b"late")


def test_the_layout_is_what_the_design_promises(source, tmp_path):
    plan = make_dataset(source, tmp_path / "ds")
    path = tmp_path / "ds" / part_name(5)
    parquet = pq.ParquetFile(path)
    schema = parquet.schema_arrow
    assert schema.names[-plan.tiers :] == [f"tier_{k}" for k in range(plan.tiers)]
    group = parquet.metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    for k in range(plan.tiers):
        payload = columns[f"tier_{k}"]
        assert payload.compression == "UNCOMPRESSED"
        assert not payload.has_dictionary_page
        assert payload.statistics is None
        assert payload.has_offset_index
        assert columns[f"t{k}_bytes"].statistics.has_min_max
    assert columns["image_id"].statistics.has_min_max
    metadata = schema.metadata
    assert metadata[b"psc.fingerprint"].decode() == plan.fingerprint
    assert json.loads(metadata[b"psc.shared"])["prior_name"] == "fake"


def test_one_row_an_input_in_the_order_of_ids(source, tmp_path):
    plan = make_dataset(source, tmp_path / "ds")
    rows = Dataset.open(str(tmp_path / "ds")).arrow().to_table(columns=["image_id", "status"]).to_pylist()
    assert [r["image_id"] for r in rows] == sorted(p.name for p in source.iterdir())
    assert {r["image_id"]: r["status"] for r in rows if r["status"] != "ok"} == {"broken.jpg": "broken_image"}
    assert len(rows) == plan.items == 13


def test_a_marker_sums_up_its_part(source, tmp_path):
    make_dataset(source, tmp_path / "ds")
    opened = Dataset.open(str(tmp_path / "ds"))
    table = opened.arrow().to_table()
    tally = opened.tally()
    assert tally.rows == 13
    assert tally.ok == 12
    assert tally.failed == {"broken_image": 1}
    ok = [r for r in table.to_pylist() if r["status"] == "ok"]
    assert tally.bytes == sum(r["bytes"] for r in ok)
    assert tally.bytes == sum(
        len(r["image_header"]) + sum(len(r[f"tier_{k}"]) for k in range(opened.tiers)) for r in ok
    )
    assert tally.pixels == sum(r["width"] * r["height"] for r in ok)


def test_a_second_attempt_changes_nothing(source, tmp_path):
    plan, encoder = plan_dataset(source, tmp_path / "ds")
    first = run_shards(plan, encoder, tmp_path / "ds")
    before = files(tmp_path / "ds")
    again = run_shards(plan, encoder, tmp_path / "ds")
    assert again == first
    assert files(tmp_path / "ds") == before


def test_a_kill_between_part_and_marker_loses_nothing(source, tmp_path, monkeypatch):
    make_dataset(source, tmp_path / "undisturbed")
    plan, encoder = plan_dataset(source, tmp_path / "ds")

    def killed(*args, **kwargs):
        raise SystemExit("killed")

    with monkeypatch.context() as patch:
        patch.setattr(committing, "_mark", killed)
        with pytest.raises(SystemExit):
            run_shards(plan, encoder, tmp_path / "ds", [3])
    assert committed_shards(Folder.at(tmp_path / "ds")) == []
    assert Dataset.open(str(tmp_path / "ds")).arrow().count_rows() == 0
    calls = []
    monkeypatch.setattr(encoder, "_encode", lambda *args: calls.append(args))
    run_shards(plan, encoder, tmp_path / "ds", [3])
    assert calls == []
    monkeypatch.undo()
    run_shards(plan, encoder, tmp_path / "ds")
    assert files(tmp_path / "ds") == files(tmp_path / "undisturbed")


def test_the_loser_of_a_race_takes_the_winners_marker(source, tmp_path, monkeypatch):
    plan, encoder = plan_dataset(source, tmp_path / "ds")
    folder = Folder.at(tmp_path / "ds")
    results, gate = [], threading.Barrier(4)
    # Everyone believes to be alone until the upload.
    monkeypatch.setattr("pipeline.workers.actors.adopt", lambda *args, **kwargs: gate.wait() and None)
    threads = [
        threading.Thread(target=lambda: results.append(run_shards(plan, encoder, tmp_path / "ds", [2])[0]))
        for _ in range(4)
    ]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(results) == 4
    assert {r["sha256"] for r in results} == {read_marker(folder, 2)["sha256"]}
    assert [p.name for p in (tmp_path / "ds").glob("*.parquet")] == [part_name(2)]


def test_what_is_in_a_parts_place_is_told_and_left_alone(source, tmp_path):
    plan, encoder = plan_dataset(source, tmp_path / "ds")
    intruder = tmp_path / "ds" / part_name(1)
    intruder.write_bytes(b"PAR1 half a part")
    with pytest.raises(CorruptPart, match="in the way"):
        run_shards(plan, encoder, tmp_path / "ds", [1])
    assert intruder.read_bytes() == b"PAR1 half a part"
    assert adopt(Folder.at(tmp_path / "ds"), 0, fingerprint=plan.fingerprint, rows=None, tiers=plan.tiers) is None


def test_plain_readers_see_whole_parts_only(source, tmp_path, monkeypatch):
    plan, encoder = plan_dataset(source, tmp_path / "ds")
    run_shards(plan, encoder, tmp_path / "ds", [0, 1])

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.dataset.parts.PartWriter.close", full)
        with pytest.raises(OSError, match="No space left"):
            run_shards(plan, encoder, tmp_path / "ds", [2])
    rows = sum(m["rows"] for m in Dataset.open(str(tmp_path / "ds")).markers)
    query = f"select count(*) from read_parquet('{tmp_path}/ds/*.parquet')"
    assert duckdb.sql(query).fetchall() == [(rows,)]
    deep = f"select count(*) from read_parquet('{tmp_path}/ds/**/part-*.parquet')"
    assert duckdb.sql(deep).fetchall() == [(rows,)]
    assert ds.dataset(tmp_path / "ds", format="parquet").count_rows() == rows


def test_a_dataset_on_another_file_system(source, tmp_path):
    local = make_dataset(source, tmp_path / "ds")
    remote = make_dataset(source, "memory://elsewhere/ds")
    assert remote.fingerprint == local.fingerprint
    there, here = Dataset.open("memory://elsewhere/ds"), Dataset.open(str(tmp_path / "ds"))
    assert there.arrow().to_table().equals(here.arrow().to_table())
    assert [m["sha256"] for m in there.markers] == [m["sha256"] for m in here.markers]
