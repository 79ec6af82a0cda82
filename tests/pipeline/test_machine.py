"""What `psc doctor` finds here, and on machines that lack something."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import psc_core
from jobs import cli
from jobs.doctor import doctor, lines
from pipeline import machine
from pipeline.machine import BROKEN, MISSING, OK, Finding, examine, usable
from psc_core.exact import backends, compiled
from psc_core.priors import PRIORS_VARIABLE


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_this_machine_is_usable_and_what_it_says_is_true(capsys):
    found = doctor()
    named = {f["name"]: f for f in found["findings"]}
    assert found["usable"]
    assert named["gaussian"]["found"] == f"fingerprint {psc_core.load_prior('gaussian').fingerprint}"
    assert named["photo"]["found"].startswith(f"fingerprint {psc_core.load_prior('photo').fingerprint}, backend ")
    assert named["cpu: used"]["found"] == backends.get_backend("cpu").name
    for name in backends.backend_names("cpu"):
        assert (named[f"cpu: {name}"]["state"] == OK) == backends.known_answer(name)
    assert {"JPEG", "PNG", "WebP", "AVIF", "JPEG 2000", "JPEG XL", "ray", "scratch disk"} <= named.keys()
    assert named["HEIC"]["found"] == named["AVIF"]["found"] == "read"
    assert json.loads(json.dumps(found)) == found
    said = lines(found)
    assert sum(line.startswith("  ") and line[2] in "+-!" for line in said) == len(found["findings"])
    assert said[-1].startswith("psc can work here")


def test_no_kernels_is_missing_and_not_the_end(monkeypatch):
    compiled.library.cache_clear()
    monkeypatch.setattr(compiled, "LIBRARY", Path("nowhere.so"))
    try:
        (finding,) = machine._kernels()
    finally:
        compiled.library.cache_clear()
    assert (finding.state, finding.needed) == (MISSING, False)
    assert "C compiler" in finding.fix


def test_a_wrong_backend_is_said(monkeypatch):
    monkeypatch.setattr(backends, "known_answer", lambda name, device="cpu": name == "float32")
    backends.get_backend.cache_clear()
    try:
        named = by_name(list(machine._exact()))
    finally:
        backends.get_backend.cache_clear()
    assert named["cpu: used"].found == backends._CPU["float32"]().name
    assert named["cpu: native"].state == MISSING


def test_no_right_backend_at_all_is_broken(monkeypatch):
    monkeypatch.setattr(backends, "known_answer", lambda name, device="cpu": False)
    backends.get_backend.cache_clear()
    try:
        findings = list(machine._guarded("exact", machine._exact))
    finally:
        backends.get_backend.cache_clear()
    assert [f.state for f in findings] == [BROKEN]
    assert not usable(findings)


def test_what_is_not_installed_says_what_to_install(monkeypatch):
    def version(name):
        raise machine.PackageNotFoundError(name)

    monkeypatch.setattr(machine, "version", version)
    named = by_name([*machine._ray(), *machine._storage(), *machine._coding()])
    assert named["ray"].state == named["s3fs"].state == named["range coder"].state == MISSING
    assert "ray[default]" in named["ray"].fix
    assert not usable(list(named.values()))
    assert usable([named["s3fs"], named["range coder"]])


def test_priors_of_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("psc_core.priors.prior_names", lambda: ["gaussian"])
    (tmp_path / "odd").mkdir()
    monkeypatch.setenv(PRIORS_VARIABLE, str(tmp_path))
    bundled, odd = machine._priors()
    assert (bundled.state, odd.name, odd.state, odd.needed) == (OK, "odd", BROKEN, False)
    assert "prior.json" in odd.found
    monkeypatch.setenv(PRIORS_VARIABLE, str(tmp_path / "gone"))
    assert [finding.state for finding in machine._priors()] == [OK, MISSING]


def test_too_little_room_is_said():
    tight = machine._room("ray", "object store", "/dev/shm", 64 * 1024**2, 128 * 1024**2, "--shm-size")
    assert (tight.state, tight.found, tight.fix) == (MISSING, "64 MiB free in /dev/shm", "--shm-size")


def test_stores(tmp_path, monkeypatch):
    (tmp_path / "one").touch()
    assert next(machine._reach(str(tmp_path))).found == "listed: 1 entries"
    (gone,) = machine._reach(str(tmp_path / "gone"))
    assert (gone.state, gone.needed) == (MISSING, False)
    (odd,) = machine._reach("nosuch://bucket")
    assert (odd.state, odd.needed) == (BROKEN, True)


@pytest.mark.parametrize(("state", "code"), [(OK, 0), (BROKEN, 1)])
def test_the_exit_status_says_whether_psc_can_work(monkeypatch, capsys, state, code):
    monkeypatch.setattr(machine, "examine", lambda store: iter([Finding("a", "b", state, needed=True)]))
    with pytest.raises(SystemExit) as end:
        cli.main(["doctor"])
    assert int(end.value.code or 0) == code
    assert ("! b: broken" in capsys.readouterr().out) == bool(code)


def test_examine_never_raises(monkeypatch):
    monkeypatch.setitem(machine._AREAS, "torch", lambda: (_ for _ in ()).throw(ImportError("no torch\nhere")))
    monkeypatch.setattr(machine, "_AREAS", {"torch": machine._AREAS["torch"]})
    (finding,) = examine()
    assert (finding.state, finding.found, finding.needed) == (BROKEN, "ImportError: no torch here", True)
