"""`psc query`: every column, valid JSON, whole files or none, and rows as they come."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import answers
from tests.jobs.command import last_json, psc

ROOT = Path(__file__).parents[2]
ODD = (
    "select 'nan'::double as n, 'inf'::double as i, [1.5, '-inf'::double] as l, {'x': 'nan'::double} as s, "
    "'abc'::blob as b, sum(range) as total, 1.25 as d, null as nothing, date '2026-01-02' as day from range(5)"
)
PLAIN = {
    "n": None,
    "i": None,
    "l": [1.5, None],
    "s": {"x": None},
    "b": "616263",
    "total": 10,
    "d": 1.25,
    "nothing": None,
    "day": "2026-01-02",
}


def strict(text: str):
    """JSON as its standard has it: NaN and Infinity are none."""

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_json_is_json(capfd, dataset, tmp_path):
    code, out, _ = psc(capfd, "query", dataset, ODD, "--json")
    assert (code, strict(out)) == (0, {"columns": list(PLAIN), "rows": [PLAIN]})
    code, out, _ = psc(capfd, "query", dataset, ODD, "--format", "json")
    assert (code, strict(out)) == (0, PLAIN)
    psc(capfd, "query", dataset, ODD, "--format", "json", "--out", tmp_path / "q.json")
    assert strict((tmp_path / "q.json").read_text()) == PLAIN


@pytest.mark.parametrize("more", [["--out", "x.parquet", "--format", "parquet"], ["--out", "x"], ["--format", "csv"]])
def test_json_is_not_mixed_with_a_file_or_a_format(capfd, dataset, tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    code, out, err = psc(capfd, "query", dataset, "from images", "--json", *more)
    assert (code, last_json(out)["error"], len(err.splitlines())) == (2, "usage", 1)
    assert "leave out" in err
    assert not list(tmp_path.iterdir())


def test_two_columns_of_one_name(capfd, dataset, tmp_path):
    sql = "select 1 as a, 2 as a, 3 as b"
    assert psc(capfd, "query", dataset, sql)[1].splitlines() == ["a  a  b", "-  -  -", "1  2  3"]
    assert psc(capfd, "query", dataset, sql, "--format", "csv")[1] == "a,a,b\n1,2,3\n"
    parquet = ["--format", "parquet", "--out", tmp_path / "q"]
    for more in (["--json"], ["--format", "json"], parquet):
        code, _, err = psc(capfd, "query", dataset, sql, *more)
        assert (code, "two columns are called a" in err) == (2, True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sql", ["select image_id, bpp from images order by 1", "select 1 as a where false"])
def test_all_formats_hold_the_same_rows(capfd, dataset, tmp_path, sql):
    for form in ("csv", "json", "parquet"):
        assert psc(capfd, "query", dataset, sql, "--format", form, "--out", tmp_path / form)[0] == 0
        if form != "parquet":
            assert psc(capfd, "query", dataset, sql, "--format", form)[1] == (tmp_path / form).read_text()
    rows = pq.read_table(tmp_path / "parquet").to_pylist()
    assert [strict(line) for line in (tmp_path / "json").read_text().splitlines()] == rows
    read = csv.DictReader(io.StringIO((tmp_path / "csv").read_text()))
    assert list(read) == [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["csv", "json", "parquet"]


def test_a_type_that_parquet_has_not(capfd, dataset, tmp_path):
    asked = ["query", dataset, "select interval 1 day as i", "--format", "parquet", "--out", tmp_path / "q"]
    code, _, err = psc(capfd, *asked)
    assert (code, "i::varchar" in err, list(tmp_path.iterdir())) == (2, True, [])


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_what_fails_in_the_middle_leaves_no_file(capfd, dataset, tmp_path, form):
    (tmp_path / "there").write_text("as it was")
    sql = "select case when range = 99999 then error('boom') else range::varchar end as a from range(100000)"
    for name in ("new", "there"):
        code, _, err = psc(capfd, "query", dataset, sql, "--format", form, "--out", tmp_path / name, "--overwrite")
        assert (code, "boom" in err, len(err.splitlines())) == (2, True, 1)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"there": "as it was"}


def test_a_file_is_replaced_only_when_asked(capfd, dataset, tmp_path):
    (tmp_path / "there").write_text("as it was")
    asked = ["query", dataset, "select 1 as a", "--format", "csv", "--out", tmp_path / "there"]
    code, _, err = psc(capfd, *asked)
    assert (code, "--overwrite" in err, (tmp_path / "there").read_text()) == (2, True, "as it was")
    assert psc(capfd, *asked, "--overwrite")[0] == 0
    assert (tmp_path / "there").read_text() == "a\n1\n"


def test_a_part_that_is_gone_is_told_with_what_to_do(capfd, dataset, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(dataset, damaged)
    next(damaged.glob("*.parquet")).unlink()
    for more in ([], ["--format", "csv"], ["--json"]):
        code, _, err = psc(capfd, "query", damaged, "from images", *more)
        assert (code, len(err.splitlines()), "psc verify" in err) == (2, 1, True), err


def test_a_pipe_or_a_link_as_output(capfd, dataset, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    read = []
    thread = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    thread.start()
    for name in ("pipe", "link"):
        code, _, _ = psc(capfd, "query", dataset, "select 1 as a", "--format", "csv", "--out", tmp_path / name)
        assert code == 0
    thread.join(20)
    assert read == ["a\n1\n"]
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "a\n1\n"


@pytest.mark.parametrize("form", ["csv", "json"])
def test_rows_come_before_the_query_ends(dataset, form):
    """This one would take a day, and more memory than there is."""
    sql = "select range as n, md5(range::varchar) as text from range(100000000000)"
    command = [sys.executable, "-m", "jobs.cli", "query", dataset, sql, "--format", form]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    lines = [running.stdout.readline() for _ in range(5000)]
    running.stdout.close()
    assert b"4990" in b"".join(lines)
    running.wait(60)
    assert running.stderr.read() == b""
    running.stderr.close()


def test_row_groups_are_bounded_and_nothing_is_held(tmp_path):
    """Of 600 batches of 1 MB never more than a row group and one batch are alive."""
    before, most = pa.total_allocated_bytes(), 0

    def batches():
        nonlocal most
        for _ in range(600):
            most = max(most, pa.total_allocated_bytes() - before)
            yield pa.record_batch({"a": pa.array([b"x" * 1_000_000])})

    with open(tmp_path / "q.parquet", "wb") as sink:
        answers.write_parquet(pa.schema({"a": pa.binary()}), batches(), sink)
    held = pq.ParquetFile(tmp_path / "q.parquet")
    assert held.metadata.num_rows == 600
    assert held.num_row_groups == 9
    assert most < 3 * 64 * 1024 * 1024
