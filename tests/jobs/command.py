"""`psc` called as a user does, and what it printed."""

from __future__ import annotations

import json

import pytest

from jobs import cli


def psc(capfd, *arguments: object) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of one call."""
    with pytest.raises(SystemExit) as end:
        cli.main([str(a) for a in arguments])
    out, err = capfd.readouterr()
    return int(end.value.code or 0), out, err


def last_json(out: str) -> dict:
    return json.loads(out.splitlines()[-1])
