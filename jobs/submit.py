"""`psc submit`: any verb as a job on a Ray cluster."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.console import exit_with, json_option, out_json

if TYPE_CHECKING:
    from pipeline.remote.submission import Outcome

_PATHS = {"src", "dataset", "source", "out", "dest", "path"}
"""Parameters of the verbs that are paths or URLs."""
_DRAIN_SECONDS = "600"
_SILENT: Callable[[str], None] = lambda text: None  # noqa: E731


def submit(
    arguments: Sequence[str],
    *,
    address: str | None = None,
    prior: Sequence[str] = (),
    env_file: str | None = None,
    image: str | None = None,
    installed: bool = False,
    with_pip: bool = False,
    python: str = "python",
    job_id: str | None = None,
    wait: bool = True,
    say: Callable[[str], None] = _SILENT,
    on_start: Callable[[str], None] = _SILENT,
) -> Outcome:
    """Run a `psc` command line (``["compress", "s3://…", "s3://…"]``) as a job on the cluster at ``address``, the URL
    of its dashboard, and follow it.

    prior: folders or checkpoints of priors that come along; env_file: environment variables of the job, one
    ``NAME=value`` a line; image: a container image that holds the package, instead of sending it; installed: the
    cluster's nodes hold it; with_pip: the job's environment gets what the package needs; python: the interpreter
    there; wait: until it ends; say is called with what the job says, on_start with its id.

    Raises:
        Refused: the arguments are wrong, nobody answers at the address, or the job is not taken.
    """
    from pipeline.remote import submission

    chdir, has_prior, takes_prior = _checked(list(arguments))
    _check_together(image, installed, with_pip, prior)
    variables = _read_variables(env_file) if env_file else {}
    with tempfile.TemporaryDirectory(prefix="psc-submit-") as scratch:
        runtime_env, names = _environment(Path(scratch), variables, image, installed, with_pip, prior)
        own = ["--prior", names[0]] if len(names) == 1 and takes_prior and not has_prior else []
        line = [python, "-m", "jobs.submitted", *(["--chdir", chdir] if chdir else []), *arguments, *own]
        client = submission.connect(address)
        started = submission.send(client, "exec " + shlex.join(line), runtime_env, job_id=job_id)
    on_start(started)
    return submission.follow(client, started, say) if wait else submission.Outcome(started, "PENDING", 0)


def _checked(arguments: list[str]) -> tuple[str | None, bool, bool]:
    """Parse a verb's arguments here, so that wrong use is refused before anything is sent.

    Returns the folder that relative paths begin in, None if there are none; whether a prior is named; whether one
    could be. Raises :class:`click.UsageError`.
    """
    from jobs import VERBS, cli

    verb = arguments[0] if arguments else ""
    if verb not in VERBS or verb == "submit":
        raise click.UsageError(f"no verb {verb!r} to submit; after -- goes one of {', '.join(sorted(VERBS))}")
    command = cli.psc.get_command(click.Context(cli.psc, info_name="psc"), verb)
    assert command is not None
    with command.make_context(f"psc {verb}", arguments[1:]) as parsed:
        given = parsed.params
    # A prior, captions or labels may be a file or a name: it is a file if it is one here.
    named = [v for name, v in given.items() if isinstance(v, str) and (name in _PATHS or os.path.exists(v))]
    relative = [value for value in named if _is_relative(value)]
    prior = given.get("prior")
    return (os.getcwd() if relative else None), bool(prior), "prior" in given


def _is_relative(path: str) -> bool:
    return "://" not in path and "::" not in path and not os.path.isabs(path)


def _check_together(image: str | None, installed: bool, with_pip: bool, prior: Sequence[str]) -> None:
    from pipeline.errors import BadRequest

    if image and (prior or installed or with_pip):
        raise BadRequest("--image brings everything: leave --prior, --installed and --pip out")
    if installed and with_pip:
        raise BadRequest("--installed says that all is there, --pip that it is not: choose one")


def _environment(
    scratch: Path,
    variables: dict[str, str],
    image: str | None,
    installed: bool,
    with_pip: bool,
    prior: Sequence[str],
) -> tuple[dict[str, Any], list[str]]:
    """Ray's runtime environment, and the names of the priors in it."""
    from pipeline.remote import parcel
    from pipeline.request import PRIORS_VARIABLE

    # `ray job stop` lets the shards under way be finished, as Ctrl-C does.
    variables = {"RAY_JOB_STOP_WAIT_TIME_S": _DRAIN_SECONDS, "RAY_USAGE_STATS_ENABLED": "0"} | variables
    if image:
        return {"image_uri": image, "env_vars": variables}, []
    names = parcel.pack(scratch, package=not installed, priors=prior)
    made: dict[str, Any] = {"env_vars": variables | ({PRIORS_VARIABLE: parcel.PRIORS} if names else {})}
    if names or not installed:
        made["working_dir"] = str(scratch)
    if with_pip:
        made["pip"] = parcel.requirements()
    return made, names


def _read_variables(path: str) -> dict[str, str]:
    """``NAME=value`` a line; empty lines, # comments, ``export`` and quotes as shells know them."""
    from pipeline.errors import BadRequest

    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BadRequest(f"--env-file {path}: {error.strerror}") from None
    found = {}
    for number, line in enumerate(lines, 1):
        text = line.strip().removeprefix("export ").strip()
        if not text or text.startswith("#"):
            continue
        name, sign, value = text.partition("=")
        # What it holds may be a secret: the line's number alone is named.
        if not sign or not name.strip().isidentifier():
            raise BadRequest(f"--env-file {path}, line {number}: expected NAME=value")
        value = value.strip()
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
        found[name.strip()] = value[1:-1] if quoted else value
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Ray tells of every step, on loggers whose levels importing them sets; here one line does."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--address", metavar="URL", help="The dashboard, http://HEAD:8265.  [default: RAY_ADDRESS, or here]")
@click.option("--prior", multiple=True, metavar="DIR", help="A prior of this machine that comes along; repeatable.")
@click.option("--env-file", metavar="FILE", help="The job's environment, NAME=value a line: credentials and the like.")
@click.option("--image", metavar="NAME", help="Run in this container image, which holds psc; nothing is sent.")
@click.option("--installed", is_flag=True, help="The cluster's nodes have psc: the package is not sent.")
@click.option("--pip", "with_pip", is_flag=True, help="Let pip install what the package needs, for this job.")
@click.option("--python", default="python", show_default=True, metavar="PROGRAM", help="The interpreter there.")
@click.option("--id", "job_id", metavar="NAME", help="The job's name.  [default: Ray makes one]")
@click.option("--no-wait", is_flag=True, help="Only start it, and print its id.")
@json_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="-- VERB …")
def command(arguments: tuple[str, ...], no_wait: bool, as_json: bool, **options) -> None:
    """Run `psc VERB …` as a job on a Ray cluster, follow what it says, and exit as it does.

    The package of this machine is sent along, so the cluster needs only what it depends on. Relative paths begin
    in this folder, which all nodes must then have. Ctrl-C leaves the job running; `ray job stop` drains it.

    \b
    Example: psc submit --address http://head:8265 -- compress s3://b/a s3://b/z
             psc submit --env-file aws.env --prior mine/ -- retry s3://b/z
    """
    started: list[str] = []

    def begin(job_id: str) -> None:
        started.append(job_id)
        if not no_wait:
            click.echo(f"psc: job {job_id} is on the cluster", err=True)

    def say(text: str) -> None:
        click.echo(text, nl=False)
        sys.stdout.flush()

    try:
        with _quiet():
            ended = submit(arguments, wait=not no_wait, say=say, on_start=begin, **options)
    except KeyboardInterrupt:
        if started:
            click.echo(f"\npsc: job {started[0]} goes on; ray job stop {started[0]} would drain it", err=True)
            exit_with(130)
        raise
    if as_json:
        out_json(asdict(ended))
    elif no_wait:
        click.echo(ended.job_id)
    if ended.reason:
        said = f"job {ended.job_id} ended with status {ended.exit_code}: {ended.reason}"
        click.echo(f"psc: {said}", err=True)
    exit_with(ended.exit_code)
