"""What this machine has for compressing and decoding. What can be tried is tried, and not only looked for."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

OK, MISSING, BROKEN = "ok", "missing", "broken"
_GIB = 1024**3
_FULL_BUILD = "this Pillow was built without it: pip install --force-reinstall pillow takes the full build"
_FORMATS = {
    "JPEG": ("JPEG", _FULL_BUILD),
    "PNG": ("PNG", _FULL_BUILD),
    "WebP": ("WEBP", _FULL_BUILD),
    "AVIF": ("AVIF", _FULL_BUILD),
    "TIFF": ("TIFF", _FULL_BUILD),
    "GIF": ("GIF", _FULL_BUILD),
    "BMP": ("BMP", _FULL_BUILD),
    "JPEG 2000": ("JPEG2000", _FULL_BUILD),
    "HEIC": ("HEIF", "pip install pillow-heif"),
    "JPEG XL": ("JXL", "pip install pillow-jxl-plugin"),
}
"""Kinds of inputs, what Pillow calls them, and what to do without."""
_ROOM = 2 * _GIB
_MEMORY = 2 * _GIB


@dataclass(frozen=True)
class Finding:
    """One thing that is there, or not. ``needed``: without it nothing works. ``fix``: what to do when it is not ok."""

    area: str
    name: str
    state: str
    found: str = ""
    fix: str = ""
    needed: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine(store: str | None = None) -> Iterator[Finding]:
    """Every finding, in an order for reading. ``store``: also whether this folder or bucket can be listed."""
    for area, look in _AREAS.items():
        yield from _guarded(area, look)
    if store is not None:
        yield from _guarded("storage", lambda: _reach(store))


def usable(findings: list[Finding]) -> bool:
    """Whether everything that is needed is well."""
    return all(f.state == OK for f in findings if f.needed)


def _guarded(area: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    # Whatever a broken installation raises is what was to be found out.
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        yield Finding(area, area, BROKEN, said, "install the package again: pip install psc-archive", needed=True)


def _python() -> Iterator[Finding]:
    yield Finding("python", "python", OK, f"{platform.python_version()}, {platform.system()} {platform.machine()}")
    yield _package("psc-archive", area="python", fix="pip install . in the source folder", needed=False)


def _torch() -> Iterator[Finding]:
    import torch

    threads = f"{torch.get_num_threads()} threads of {os.cpu_count()} CPUs, {torch.backends.cpu.get_cpu_capability()}"
    yield Finding("torch", "torch", OK, f"{torch.__version__}, {threads}", needed=True)
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(index)
            yield Finding("torch", f"cuda:{index}", OK, f"{about.name}, {about.total_memory / _GIB:.0f} GiB")
    else:
        fix = "none needed; with an NVIDIA GPU, install a CUDA build of torch and its driver"
        yield Finding("torch", "cuda", MISSING, "no device: everything runs on the CPU", fix)


def _exact() -> Iterator[Finding]:
    import torch

    from psc_core.exact.backends import backend_names, get_backend, known_answer

    for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
        chosen = get_backend(device).name
        yield Finding("exact", f"{device}: used", OK, chosen, needed=True)
        for name in backend_names(device):
            right = known_answer(name, device)
            said = "known-answer test passed" if right else "not on this machine, or a wrong answer: never used"
            yield Finding("exact", f"{device}: {name}", OK if right else MISSING, said)


def _kernels() -> Iterator[Finding]:
    from psc_core.exact.compiled import LEVELS, best_level, library

    try:
        library()
    except OSError as error:
        fix = "install a C compiler and this package again: exact arithmetic is several times faster with them"
        yield Finding("exact", "compiled kernels", MISSING, f"torch stands in ({str(error)[:120]})", fix)
        return
    level = next(name for name, number in LEVELS.items() if number == best_level())
    yield Finding("exact", "compiled kernels", OK, f"built; level {level} of {', '.join(LEVELS)}")


def _coding() -> Iterator[Finding]:
    try:
        yield Finding("coding", "range coder", OK, f"constriction {version('constriction')}")
    except PackageNotFoundError:
        said = "plain integers stand in: the same bytes, slower"
        yield Finding("coding", "range coder", MISSING, said, "pip install constriction, where it has a wheel")


def _priors() -> Iterator[Finding]:
    from psc_core.priors import PRIORS_VARIABLE, prior_names

    for name in prior_names():
        yield _prior(name, needed=True)
    folder = os.environ.get(PRIORS_VARIABLE)
    if folder and not os.path.isdir(folder):
        fix = f"point {PRIORS_VARIABLE} to a folder of priors, or unset it"
        yield Finding("priors", PRIORS_VARIABLE, MISSING, f"{folder} is no folder", fix)
    elif folder:
        for name in sorted(os.listdir(folder)):
            yield _prior(name, needed=False)


def _prior(name: str, *, needed: bool) -> Finding:
    from psc_core.errors import PscError
    from psc_core.priors import load_prior

    try:
        prior = load_prior(name)
    except (PscError, OSError) as error:
        fix = "install the package again: pip install psc-archive" if needed else "mend that prior, or take it away"
        return Finding("priors", name, BROKEN, " ".join(str(error).split())[:200], fix, needed)
    backend = getattr(prior, "backend", "")
    said = f"fingerprint {prior.fingerprint}" + (f", backend {backend}" if backend else "")
    return Finding("priors", name, OK, said, needed=needed)


def _codecs() -> Iterator[Finding]:
    from PIL import __version__

    yield Finding("codecs", "Pillow", OK, __version__, needed=True)
    for name, (file_format, fix) in _FORMATS.items():
        said = _round_trip(file_format)
        yield Finding("codecs", name, OK if said == "read" else MISSING, said, "" if said == "read" else fix)


def _round_trip(file_format: str) -> str:
    """Whether a small image, written in a format, is read as an input would be: "read", or why not."""
    import io

    from PIL import Image

    from pipeline.inputs.images import Rejected, read_image

    sink = io.BytesIO()
    try:
        Image.new("RGB", (16, 16), (10, 200, 30)).save(sink, file_format)
        pixels, _ = read_image(sink.getvalue())
        return "read" if pixels.shape == (16, 16, 3) else f"comes back as {pixels.shape}"
    except (Rejected, OSError, KeyError, ValueError) as error:
        return f"such files get no stream ({type(error).__name__}: {error})"


def _ray() -> Iterator[Finding]:
    from pipeline.workers.cluster import OBJECT_STORE

    yield _package("ray", area="ray", fix="pip install 'ray[default]'", needed=True)
    address = os.environ.get("RAY_ADDRESS")
    yield Finding(
        "ray", "cluster", OK, f"RAY_ADDRESS={address}" if address else "none named: jobs start their own here"
    )
    shared = "/dev/shm"
    if os.path.isdir(shared):
        free = shutil.disk_usage(shared).free
        fix = f"give {shared} at least {size(OBJECT_STORE)} (docker run --shm-size): Ray's object store is there"
        yield _room("ray", "object store", shared, free, OBJECT_STORE, fix)


def _storage() -> Iterator[Finding]:
    for name in ("pyarrow", "duckdb", "fsspec"):
        yield _package(name, area="storage", fix=f"pip install {name}", needed=True)
    yield _package("s3fs", area="storage", fix="pip install s3fs, for s3:// sources and datasets", needed=False)
    scratch = tempfile.gettempdir()
    fix = f"free some of {scratch}, or point TMPDIR elsewhere: shards are built there before they are uploaded"
    yield _room("storage", "scratch disk", scratch, shutil.disk_usage(scratch).free, _ROOM, fix)
    memory = _available_memory()
    if memory is not None:
        fix = "a worker takes about 2 GiB: give --workers fewer, or free memory"
        yield _room("storage", "memory", "available", memory, _MEMORY, fix)


def _reach(store: str) -> Iterator[Finding]:
    from pipeline.stores.storage import Folder

    try:
        folder = Folder.at(store)
        entries = len(folder.fs.ls(folder.path, detail=False))
        yield Finding("storage", store, OK, f"listed: {entries} entries")
    except FileNotFoundError:
        yield Finding("storage", store, MISSING, "nothing is there", "create the bucket or folder, or check its name")
    # Each file system has its own classes for being refused, or for nobody answering.
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        fix = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION and AWS_ENDPOINT_URL"
        yield Finding("storage", store, BROKEN, said, fix if "://" in store else "check its rights", needed=True)


def _package(name: str, *, area: str, fix: str, needed: bool) -> Finding:
    try:
        return Finding(area, name, OK, version(name), needed=needed)
    except PackageNotFoundError:
        return Finding(area, name, MISSING, "not installed", fix, needed)


def _room(area: str, name: str, where: str, free: int, enough: int, fix: str) -> Finding:
    said = f"{size(free)} free in {where}" if where.startswith("/") else f"{size(free)} {where}"
    return Finding(area, name, OK if free >= enough else MISSING, said, "" if free >= enough else fix)


def size(count: int) -> str:
    """Bytes for people, in GiB or MiB."""
    return f"{count / _GIB:.1f} GiB" if count >= _GIB else f"{count / 1024**2:.0f} MiB"


def _available_memory() -> int | None:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return None


_AREAS: dict[str, Callable[[], Iterator[Finding]]] = {
    "python": _python,
    "torch": _torch,
    "exact": _exact,
    "compiled kernels": _kernels,
    "coding": _coding,
    "priors": _priors,
    "codecs": _codecs,
    "ray": _ray,
    "storage": _storage,
}
