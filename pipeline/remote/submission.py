"""A job on a cluster that this process is no part of: sent through Ray's job API, followed, its end told."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.errors import Refused

_POLL = 1.0
_PATIENCE = 60.0
"""Seconds for which the cluster may not answer while a job is followed."""

_SOME_FAILED = re.compile("inputs? ha(s|ve) no stream")
_RAYS = re.compile(r"^Running entrypoint for job|INFO job_manager\.py")
"""Lines of a job's log that are not the job's."""


class NoCluster(Refused):
    """Nobody answers at the address, or not to us."""

    code = "no_cluster"


@dataclass(frozen=True)
class Outcome:
    """How a job ended. exit_code: its command's own; 1 where there is none, 130 if it was stopped. reason: in one
    line, empty if all is well.
    """

    job_id: str
    status: str
    exit_code: int
    reason: str = ""


def connect(address: str | None) -> Any:
    """Ray's client for jobs. Raises :class:`NoCluster`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
    except AuthenticationError:
        raise NoCluster(
            f"the cluster {f'at {address}' if address else 'here'} asks for a token, or another one: set "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to the head's (on a head of this machine: ray get-auth-token)"
        ) from None
    # Ray raises these, and requests' own, for one and the same thing.
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"at {address}" if address else "here"
        fix = "give --address the dashboard of its head, http://HEAD:8265 (KubeRay: kubectl port-forward svc/HEAD 8265)"
        raise NoCluster(f"no Ray cluster answers {where} ({_line(error)}); {fix}") from None


def send(client: Any, entrypoint: str, runtime_env: dict[str, Any], *, job_id: str | None = None) -> str:
    """Start a job: its id. Raises :class:`~pipeline.errors.Refused`."""
    began = time.monotonic()
    while True:
        try:
            return client.submit_job(entrypoint=entrypoint, runtime_env=runtime_env, submission_id=job_id)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            # A cluster answers a little before it can start jobs.
            if "No available agent" in str(error) and time.monotonic() - began < _PATIENCE:
                time.sleep(_POLL)
                continue
            raise Refused(f"the cluster does not take the job: {_line(error)}") from None


def follow(client: Any, job_id: str, say: Callable[[str], None]) -> Outcome:
    """Pass on what a job says, until it ends; a connection that breaks is taken up again.

    Raises:
        NoCluster: the cluster does not answer any more. The job may go on.
    """
    shown = 0
    last: deque[str] = deque(maxlen=400)

    def heard(text: str) -> None:
        nonlocal shown
        shown += len(text)
        last.extend(text.splitlines())
        say(text)

    async def tail() -> None:
        skip = shown
        async for text in client.tail_job_logs(job_id):
            fresh, skip = text[skip:], max(0, skip - len(text))
            if fresh:
                heard(fresh)

    while True:
        try:
            asyncio.run(tail())
        # Whatever a broken connection raises, the state says whether there is more to hear.
        except (TimeoutError, RuntimeError, OSError, ValueError):
            time.sleep(_POLL)
        info = _info(client, job_id)
        if info.status.is_terminal():
            break
        time.sleep(_POLL)
    rest = _logs(client, job_id)[shown:]
    if rest:
        heard(rest)
    return outcome(job_id, info, list(last))


def outcome(job_id: str, info: Any, lines: list[str]) -> Outcome:
    """What Ray's account of a job that ended, and the job's own last lines, come to."""
    status, code = str(info.status.value), info.driver_exit_code
    if status == "SUCCEEDED":
        return Outcome(job_id, status, 0)
    if status == "STOPPED":
        return Outcome(job_id, status, 130, "it was stopped; what is committed stays, --resume goes on")
    if code is None:
        return Outcome(job_id, status, 1, _line(info.message or "Ray gives no reason"))
    if code < 0:
        name = signal.Signals(-code).name
        return Outcome(job_id, status, 1, f"its command was ended by {name}, by a lack of memory perhaps")
    own = [line.removeprefix("psc: ") for line in lines if line.startswith("psc: ")]
    if code == 1 and not own:
        # The command itself ended well; what it says of its inputs is one of its results.
        told = [line for line in lines if _SOME_FAILED.search(line)]
        return Outcome(job_id, status, 1, told[-1] if told else "done, but not all went well: it says what, above")
    said = own or [line.strip() for line in lines if line.strip() and not _RAYS.search(line)]
    hint = "; is there another interpreter? --python names it" if code in (126, 127) else ""
    return Outcome(job_id, status, code, (said[-1] if said else "it says nothing") + hint)


def _info(client: Any, job_id: str) -> Any:
    return _patiently(lambda: client.get_job_info(job_id), job_id)


def _logs(client: Any, job_id: str) -> str:
    return _patiently(lambda: client.get_job_logs(job_id), job_id)


def _patiently(ask: Callable[[], Any], job_id: str) -> Any:
    began = time.monotonic()
    while True:
        try:
            return ask()
        except (RuntimeError, OSError) as error:
            if time.monotonic() - began > _PATIENCE:
                said = f"the cluster does not answer any more ({_line(error)}); job {job_id} may go on"
                raise NoCluster(said) from None
            time.sleep(_POLL)


def _line(error: object) -> str:
    """The line of a long message that says most: what a traceback ends with, else the first."""
    lines = [line.strip() for line in str(error).splitlines() if re.search(r"\w", line)] or [type(error).__name__]
    said = lines[0]
    if any("Traceback (most recent" in line for line in lines):
        said = lines[-1] if "Traceback" in lines[0] else f"{lines[0].rstrip('.')}: {lines[-1]}"
    return said if len(said) <= 300 else said[:297] + "..."
