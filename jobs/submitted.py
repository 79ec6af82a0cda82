"""What `psc submit` runs on the cluster: the command line, from the folder and with the priors that came along.

python -m jobs.submitted [--chdir DIR] VERB …
"""

from __future__ import annotations

import os
import sys

from jobs import cli, progress
from pipeline.request import PRIORS_VARIABLE


def main(arguments: list[str]) -> None:
    """Run `psc` with these arguments and exit with its status."""
    # Ray starts a job in the folder that came along; relative there, absolute from here on.
    if os.environ.get(PRIORS_VARIABLE):
        os.environ[PRIORS_VARIABLE] = os.path.abspath(os.environ[PRIORS_VARIABLE])
    os.environ.setdefault(progress.PROGRESS_VARIABLE, "10")
    if arguments[:1] == ["--chdir"]:
        _enter(arguments[1])
        arguments = arguments[2:]
    cli.main(arguments)


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        fix = "give absolute paths that all nodes of the cluster have, or URLs (s3://…)"
        print(f"psc: the cluster has no folder {folder} ({error.strerror}), where relative paths begin; {fix}")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main(sys.argv[1:])
