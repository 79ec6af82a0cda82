"""The benchmark's loop: every curve on every image, each measured once, kept in the checkpoint, and summed up."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from jobs.bench import our_codecs, record, reference_codecs
from jobs.bench.curves import Point
from jobs.bench.distortion import Judge
from jobs.bench.features import frechet_distance, kernel_distance
from jobs.bench.our_codecs import Variant
from jobs.bench.photographs import Photographs, facts
from psc_core.coding.condition import Condition
from psc_core.errors import PscError

Measure = Callable[[np.ndarray, Condition], list[Point]]


@dataclass(frozen=True)
class Work:
    """One codec or variant: the curve it belongs to, what decides its figures, and how one image is measured."""

    curve: str
    about: dict[str, Any]
    measure: Measure

    def key(self, image_digest: str, condition: Condition = None) -> str:
        """Of one measurement, in the checkpoint."""
        given = {} if condition is None else {"condition": condition}
        said = json.dumps(self.about | given, sort_keys=True, default=str)
        return f"{self.curve}:{hashlib.sha256(said.encode()).hexdigest()[:16]}:{image_digest}"


@dataclass
class Run:
    """What is measured, and what has been."""

    photographs: Photographs
    codecs: Sequence[str]
    variants: Sequence[Variant]
    checkpoint: record.Checkpoint
    step: Callable[[str], None] = lambda curve: None
    """Called after every measurement."""
    fresh: bool = False
    judge: Judge = field(default_factory=Judge)
    absent: dict[str, str] = field(default_factory=dict)
    failures: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.absent = {name: why for name in self.codecs if (why := reference_codecs.missing(name)) is not None}
        self.items = {item.id: item for item in self.photographs.items()}
        self.images = facts(list(self._load_all()))
        self.abouts: dict[str, list[dict[str, Any]]] = {}
        self.curves: dict[str, dict[str, list[Point]]] = {}
        self.codes: set[str] = set()
        self.reused = 0

    @property
    def total(self) -> int:
        """How many measurements there are to be."""
        return len(self.images) * (len(self.codecs) - len(self.absent) + len(self.variants))

    def run(self) -> None:
        """Measure what the checkpoint does not hold."""
        code = our_codecs.code_digest()
        for work in self._works():
            self.abouts.setdefault(work.curve, []).append(work.about)
            for name in self.images:
                points = self._points(work, name, code if "profile" in work.about else "")
                if points:
                    self.curves.setdefault(work.curve, {}).setdefault(name, []).extend(points)
                self.step(work.curve)
        # A curve of several variants is only whole where all of them are.
        for curve, per_image in self.curves.items():
            most = max(map(len, per_image.values()))
            if len(self.abouts[curve]) > 1:
                self.curves[curve] = {name: points for name, points in per_image.items() if len(points) == most}

    def _points(self, work: Work, name: str, code: str) -> list[Point]:
        item = self.items[name]
        key = work.key(str(self.images[name]["digest"]), item.condition)
        known = None if self.fresh else self.checkpoint.found.get(key)
        if known is not None and not any(map(self.judge.would_add, known["points"])):
            self.reused += 1
            self.codes |= {known["code"]} - {""}
            return known["points"]
        try:
            points = work.measure(self.photographs.load(item), item.condition)
        except (PscError, OSError, ValueError) as error:
            self.failures.append({"curve": work.curve, "image": name, "error": f"{type(error).__name__}: {error}"})
            return []
        self.checkpoint.add(key, points, code)
        self.codes |= {code} - {""}
        return self.checkpoint.found[key]["points"]

    def _works(self) -> Iterator[Work]:
        for name in self.codecs:
            if name not in self.absent:
                yield Work(name, reference_codecs.about(name), _reference(name, self.judge))
        held: tuple[str, str] | None = None
        prior: Any = None
        for variant in self.variants:
            if held != (variant.prior, variant.arithmetic):
                import psc_core

                prior = psc_core.load_prior(variant.prior, arithmetic=variant.arithmetic)
                held = (variant.prior, variant.arithmetic)
                our_codecs.warm_up(prior)
            yield Work(variant.curve, variant.about(prior), _ours(variant, prior, self.judge))

    def _load_all(self) -> Iterator[tuple[str, np.ndarray]]:
        for name, item in list(self.items.items()):
            try:
                yield name, self.photographs.load(item)
            except (PscError, OSError) as error:
                self.failures.append({"curve": "", "image": name, "error": str(error)})

    def _sets(self) -> dict[str, dict[Any, Point]]:
        """Curve -> setting -> FID and KID over all images, where every one has features."""
        features = self.judge.features
        if features is None:
            return {}
        found: dict[str, dict[Any, Point]] = {}
        for curve, per_image in self.curves.items():
            kept: dict[Any, dict[str, str | None]] = {}
            for name, points in per_image.items():
                for point in points:
                    kept.setdefault(point["setting"], {})[name] = point.get("features")
            for setting, names in kept.items():
                if len(names) == len(per_image) and None not in names.values():
                    images = (self.photographs.load(self.items[name]) for name in names)
                    originals = features.read([str(features.keep(image, image)) for image in images])
                    pictures = features.read([str(name) for name in names.values()])
                    found.setdefault(curve, {})[setting] = {
                        "fid": frechet_distance(originals, pictures),
                        "kid": kernel_distance(originals, pictures),
                    }
        return found

    def summary(self, between: tuple[float, float]) -> dict[str, Any]:
        """The record; see :func:`jobs.bench.record.summary`."""
        # Of the source only the name: a record is kept where others read it.
        given = self.photographs
        names: dict[str, Any] = {
            key: Path(value.rstrip("/")).name for key, value in vars(given).items() if isinstance(value, str)
        }
        photographs = replace(given, **names)
        return record.summary(
            self.curves,
            between,
            sets=self._sets(),
            photographs=photographs.__dict__,
            images=self.images,
            machine=record.machine(),
            learned=self.judge.learned,
            absent=self.absent,
            failures=self.failures,
            code=sorted(self.codes),
            about={name: about[0] if len(about) == 1 else about for name, about in self.abouts.items()},
        )


def _reference(name: str, judge: Judge) -> Measure:
    return lambda image, _: reference_codecs.measure(name, image, judge)


def _ours(variant: Variant, prior: Any, judge: Judge) -> Measure:
    return lambda image, condition: our_codecs.measure(variant, prior, image, judge, condition)
