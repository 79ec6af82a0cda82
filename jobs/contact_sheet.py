"""A picture of pictures: each row an image, its original and what each tier decodes to, with rate and PSNR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_CELL, _GAP, _TEXT = 192, 10, 44


class Cell(NamedTuple):
    """A picture (H, W, C) uint8 and up to two lines below it."""

    picture: np.ndarray
    lines: tuple[str, ...]


def contact_sheet(rows: Sequence[Sequence[Cell]], title: str) -> Image.Image:
    """Lay ``rows`` of cells on white, pictures fitted to 192 px, enlarged without smoothing where they are small."""
    columns = max(len(row) for row in rows)
    height = [max(_fit(c.picture).height for c in row) + _TEXT + _GAP for row in rows]
    sheet = Image.new("RGB", (columns * (_CELL + _GAP) + _GAP, sum(height) + 2 * _GAP + 30), "white")
    draw = ImageDraw.Draw(sheet)
    bold, plain = ImageFont.load_default(20), ImageFont.load_default(15)
    draw.text((_GAP, _GAP), title, fill="black", font=bold)
    top = _GAP + 34
    for row, tall in zip(rows, height, strict=True):
        for column, cell in enumerate(row):
            left = _GAP + column * (_CELL + _GAP)
            picture = _fit(cell.picture)
            sheet.paste(picture, (left, top))
            for number, line in enumerate(cell.lines):
                place = (left, top + picture.height + 3 + 18 * number)
                draw.text(place, line, fill="black" if number == 0 else "#555555", font=plain)
        top += tall
    return sheet


def _fit(picture: np.ndarray) -> Image.Image:
    image = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).convert("RGB")
    factor = _CELL / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.NEAREST if factor > 1 else Image.Resampling.LANCZOS)
