"""`psc report`'s page: one HTML file that needs nothing but itself.

Jinja escapes everything that comes from a dataset, and the page's own policy (CSP) names the one script and the one
style sheet that may act in it, by their hashes: no file name can become code, and nothing can be fetched.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from jobs.console import size_text
from jobs.page import charts
from pipeline.dataset.figures import Figures
from pipeline.dataset.reader import Dataset
from pipeline.outputs.gallery import Gallery
from psc_core.errors import PscError

HERE = Path(__file__).parent
SIDE = 384
"""Pixels to which a picture's longer side is reduced."""
QUALITY = 92
_CONTROLS = {code: 0x2400 + code for code in range(32)} | {127: 0x2421}


def render(opened: Dataset, found: Figures, pictures: Gallery, *, told: dict[str, Any]) -> str:
    """The page. ``told``: what else it says of the dataset, as :func:`pipeline.dataset.catalog.info` gives it."""
    return (
        _environment()
        .get_template("page.html")
        .render(
            opened=opened,
            found=found,
            pictures=pictures,
            told=told,
            plane=charts.plane(found.tiers),
            rates=charts.rate_facets(found),
            qualities=charts.quality_facets(found),
            meaning=_meanings(),
            made=datetime.now(UTC),
            side=SIDE,
            quality=QUALITY,
            style=Markup(_text("page.css")),
            script=Markup(_text("page.js")),
            style_hash=_hash("page.css"),
            script_hash=_hash("page.js"),
        )
    )


def data_uri(pixels: np.ndarray) -> str:
    """A picture (H, W, C) uint8 within the page, reduced to ``SIDE``."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def visible(text: Any) -> str:
    """``text`` with control characters as their pictures: a file name may hold any."""
    return str(text).translate(_CONTROLS)


def figure(value: float | None, digits: int = 3) -> str:
    """A number for people: so many significant digits, zeros too; no exponent."""
    if value is None:
        return "–"
    decimals = digits - 1 - (math.floor(math.log10(abs(value))) if value and math.isfinite(value) else 0)
    return f"{value:.{min(max(decimals, 0), 6)}f}"


def duration(seconds: float) -> str:
    """A time for people."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.{1 if minutes < 10 else 0}f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def count(number: int) -> str:
    """A whole number, its thousands apart."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "visible": visible,
        "figure": figure,
        "duration": duration,
        "count": count,
        "size": size_text,
        "data_uri": data_uri,
    }
    return environment


def _meanings() -> dict[str, str]:
    """What each status means: the first paragraph of its error's docstring."""
    kinds, found = [PscError], {}
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        found[kind.code] = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    return found


@cache
def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _hash(name: str) -> str:
    return base64.b64encode(hashlib.sha256(_text(name).encode()).digest()).decode()
