"""The verbs as a user calls them: exit codes are a promise, and errors are one line."""

from __future__ import annotations

import json
import os
import re

import pyarrow.parquet as pq
import pytest
import torch

from jobs import cli, words
from tests.jobs.command import last_json, psc
from tests.pipeline.conftest import make_images


def test_status_info_verify(capfd, dataset):
    code, out, _ = psc(capfd, "status", dataset, "--json")
    assert code == 0
    assert last_json(out)["failed"] == {"unknown_format": 1}
    code, out, _ = psc(capfd, "status", dataset)
    assert "6 of 6 inputs; complete" in out
    code, out, _ = psc(capfd, "info", dataset)
    assert code == 0
    assert "prior_fingerprint" in out
    assert "\n     network calls  35\n" in out
    assert "nfe" not in out
    assert last_json(psc(capfd, "info", dataset, "--json")[1])["nfe"] == 35
    code, out, _ = psc(capfd, "verify", dataset, "--json")
    assert (code, last_json(out)["found"]) == (0, 0)


def test_truncate_export_info(capfd, dataset, tmp_path):
    code, out, _ = psc(capfd, "truncate", dataset, tmp_path / "t", "--tier", 1, "--json")
    assert code == 0
    assert len(last_json(out)["tiers"]) == 2
    code, out, _ = psc(capfd, "truncate", dataset, tmp_path / "b", "--bpp", 0.001)
    assert code == 0
    assert "wrote 5 images" in out
    assert "\n1 input has no stream: 1 unknown_format\n" in out
    code, out, _ = psc(capfd, "export", tmp_path / "t", tmp_path / "psc", "--ids", "img0000.png,img0001.png")
    assert code == 0
    assert "wrote 2 files" in out
    code, out, _ = psc(capfd, "info", tmp_path / "psc" / "img0001.psc")
    assert "paper" in out
    assert re.search(r"tier +bytes +bytes_up_to +bpp +cut points\n", out)
    assert "cut points: where the stream may be cut" in out
    assert "cuts" not in out
    code, out, _ = psc(capfd, "info", tmp_path / "psc" / "img0001.psc", "--json")
    assert [tier["cuts"] for tier in last_json(out)["tiers"]] == [[tier["bytes"]] for tier in last_json(out)["tiers"]]
    again = ["export", tmp_path / "t", tmp_path / "psc", "--ids", "img0000.png"]
    code, out, err = psc(capfd, *again)
    assert (code, out) == (2, "")
    assert "img0000.psc already: add --overwrite" in err
    code, out, _ = psc(capfd, *again, "--overwrite")
    assert out.startswith("wrote 1 file to ")
    ids = tmp_path / "ids.txt"
    ids.write_text("img0002.png\nimg0003.png\n")
    code, out, _ = psc(capfd, "export", dataset, tmp_path / "more", "--ids", f"@{ids}", "--json")
    assert last_json(out)["written"] == 2


def test_a_resumed_run_tells_what_it_did_and_what_there_is(capfd, dataset, tmp_path):
    asked = ["truncate", dataset, tmp_path / "t", "--tier", 1, "--resume"]
    code, out, err = psc(capfd, *asked)
    assert (code, err) == (0, f"nothing to resume at {tmp_path}/t: beginning it\n")
    assert re.match(rf"wrote 5 images into {tmp_path}/t: \d+ B, \S+ bpp, \S+ s\n1 input has no stream: 1 un", out)
    commits = sorted((tmp_path / "t" / "_psc" / "commits").iterdir())
    rows = {path: json.loads(path.read_text())["status"].get("ok", 0) for path in commits}
    commits[-1].unlink()
    code, out, err = psc(capfd, *asked)
    assert (code, err) == (0, "")
    done = words.counted(rows[commits[-1]], "image")
    assert re.match(rf"wrote {done} into {tmp_path}/t in \S+ s \(5 in all: \d+ B, \S+ bpp\)\n", out)
    code, out, _ = psc(capfd, *asked, "--json")
    assert (last_json(out)["made"], last_json(out)["ok"]) == (0, 5)


def test_a_refused_resume_begins_with_the_options_that_differ(capfd, dataset):
    asked = ["compress", os.path.dirname(dataset) + "/src", dataset, "--profile", "paper", "--resume"]
    code, _, err = psc(capfd, *asked, "--tiers", 6, "--size", 64)
    assert code == 2
    assert err.startswith("psc: --size none planned, 64 given; --tiers 4 planned, 6 given: give the planned values")
    assert not re.search("[0-9a-f]{16}", err)
    _, _, err = psc(capfd, *asked[:3], "--profile", "archive", "--resume")
    assert err.startswith("psc: --profile paper planned, archive given; --tiers 4 planned, 6 given: ")


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("verb", ["plan", "compress", "truncate"])
def test_ctrl_c_before_anything_is_written(capfd, dataset, tmp_path, monkeypatch, verb, as_json):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.dataset.plan.spill", interrupted)
    monkeypatch.setattr("pipeline.rates._plan", interrupted)
    asked = {"truncate": [dataset, tmp_path / "new", "--tier", 0]}.get(
        verb, [os.path.dirname(dataset) + "/src", tmp_path / "new", "--prior", "gaussian"]
    )
    code, out, err = psc(capfd, verb, *asked, *(["--json"] if as_json else []))
    assert (code, err) == (130, "\npsc: stopped: nothing was begun, nothing is written\n")
    assert not (tmp_path / "new").exists()
    assert out == "" if not as_json else last_json(out)["error"] == "stopped"


def test_ctrl_c_elsewhere(capfd, dataset, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.audit._check_file", interrupted)
    assert psc(capfd, "verify", dataset) == (130, "", "\npsc: stopped\n")


def test_report(capfd, dataset, tmp_path):
    code, out, _ = psc(capfd, "report", dataset, tmp_path / "page.html", "--images", 0)
    assert (code, out.startswith(f"wrote {tmp_path}/page.html: ")) == (0, True)
    code, out, _ = psc(capfd, "report", dataset, tmp_path / "page.html", "--images", 0, "--json")
    told = last_json(out)
    assert (code, told["images"], told["failed"], told["pictures"]) == (0, 5, {"unknown_format": 1}, 0)
    assert [tier["tier"] for tier in told["tiers"]] == [0, 1, 2, 3]
    assert told["page_bytes"] == (tmp_path / "page.html").stat().st_size


def test_query_outputs(capfd, dataset, tmp_path):
    sql = "select status, count(*) as n from images group by 1 order by 1"
    code, out, _ = psc(capfd, "query", dataset, sql)
    assert code == 0
    assert out.splitlines()[2].split() == ["ok", "5"]
    _, out, _ = psc(capfd, "query", dataset, sql, "--format", "csv")
    assert out.splitlines() == ["status,n", "ok,5", "unknown_format,1"]
    _, out, _ = psc(capfd, "query", dataset, sql, "--format", "json")
    assert json.loads(out.splitlines()[0]) == {"status": "ok", "n": 5}
    _, out, _ = psc(capfd, "query", dataset, sql, "--json")
    assert last_json(out)["rows"][1] == {"status": "unknown_format", "n": 1}
    code, _, _ = psc(capfd, "query", dataset, sql, "--format", "parquet", "--out", tmp_path / "q.parquet")
    assert code == 0
    assert pq.read_table(tmp_path / "q.parquet")["n"].to_pylist() == [5, 1]


def test_errors_are_json_too(capfd, dataset, tmp_path):
    code, out, err = psc(capfd, "truncate", dataset, tmp_path / "t", "--tier", 9, "--json")
    assert code == 2
    assert last_json(out)["error"] == "tier_out_of_range"
    assert err.startswith("psc: tier 9")


def test_an_unexpected_error_has_no_traceback_unless_asked(capfd, dataset, monkeypatch):
    monkeypatch.setattr("pipeline.dataset.catalog.status", lambda path: 1 / 0)
    code, _, err = psc(capfd, "status", dataset)
    assert (code, len(err.splitlines())) == (2, 1)
    monkeypatch.setenv("PSC_DEBUG", "1")
    _, _, err = psc(capfd, "status", dataset)
    assert "Traceback" in err


def test_compress_and_decompress(capfd, ray_session, tmp_path):
    make_images(tmp_path / "src", 1, size=16)
    (tmp_path / "src" / "bad.png").write_bytes(b"?")
    torch.set_num_threads(1)
    cheap = ["--prior", "gaussian", "--size", 8, "--tiers", 1, "--workers", 2]
    code, out, _ = psc(capfd, "compress", tmp_path / "src", tmp_path / "ds", *cheap, "--json")
    assert code == 1
    assert last_json(out)["failed"] == {"unknown_format": 1}
    code, out, _ = psc(capfd, "compress", tmp_path / "src", tmp_path / "ds", *cheap, "--resume")
    assert code == 1
    assert "1 unknown_format" in out
    code, out, _ = psc(capfd, "decompress", tmp_path / "ds", tmp_path / "out", "--json")
    assert code == 0
    assert last_json(out)["written"] == 1


def test_plan_compress_retry_extend_clean(capfd, ray_session, tmp_path):
    make_images(tmp_path / "src", 1, size=16)
    (tmp_path / "src" / "late.png").write_bytes(b"?")
    torch.set_num_threads(1)
    asked = [tmp_path / "src", tmp_path / "ds", "--prior", "gaussian", "--size", 8, "--tiers", 1]
    code, out, _ = psc(capfd, "plan", *asked, "--dry-run", "--json")
    assert code == 0
    assert not (tmp_path / "ds").exists()
    fingerprint = last_json(out)["fingerprint"]
    code, out, _ = psc(capfd, "plan", *asked)
    assert (code, fingerprint in out) == (0, True)
    assert "2 inputs" in out
    code, _, err = psc(capfd, "compress", *asked[:-1], 2, "--resume")
    assert (code, err.startswith("psc: --tiers 1 planned, 2 given: ")) == (2, True)
    code, out, err = psc(capfd, "compress", *asked, "--workers", 1, "--resume", "--json")
    assert (code, last_json(out)["ok"], last_json(out)["made"]) == (1, 1, 1)
    assert "nothing to resume" not in err
    code, out, _ = psc(capfd, "compress", *asked, "--workers", 1, "--resume")
    assert re.match(rf"compressed 0 images into {tmp_path}/ds in \S+ s \(1 in all: ", out)
    make_images(tmp_path / "more", 1, size=12, seed=1)
    (tmp_path / "more" / "img0000.png").rename(tmp_path / "src" / "late.png")
    code, out, _ = psc(capfd, "retry", tmp_path / "ds", "--workers", 1)
    assert code == 0
    assert re.match(rf"1 failed input tried again\nrecovered 1 image into {tmp_path}/ds in \S+ s \(2 in all: ", out)
    code, out, _ = psc(capfd, "retry", tmp_path / "ds", "--workers", 1, "--json")
    assert (code, last_json(out)["recovered"], last_json(out)["retried"]) == (0, 0, 0)
    extend = ["extend", tmp_path / "ds", tmp_path / "more-tiers", "--source", tmp_path / "src", "--tier", 1]
    code, out, err = psc(capfd, *extend, "--workers", 1, "--resume", "--json")
    assert f"nothing to resume at {tmp_path}/more-tiers: beginning it\n" in err
    assert last_json(out)["made"] == 2
    assert (code, [t["images"] for t in last_json(out)["tiers"]]) == (0, [2, 2])
    left = tmp_path / "ds" / "_psc" / "spool" / "psc-x" / "half"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    code, out, _ = psc(capfd, "clean", tmp_path / "ds")
    assert (code, left.exists()) == (0, True)
    code, out, _ = psc(capfd, "clean", tmp_path / "ds", "--older-than", 0, "--json")
    assert (code, last_json(out)["leftovers"]) == (0, ["_psc/spool/psc-x/half"])
    assert not left.parent.exists()
    code, _, _ = psc(capfd, "verify", tmp_path / "ds")
    assert code == 0


@pytest.mark.parametrize("given", [{}, {"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}])
def test_threads_that_wait_sleep_unless_told_otherwise(monkeypatch, given):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert os.environ.get("GOMP_SPINCOUNT") == ("10000" if not given else given.get("GOMP_SPINCOUNT"))
