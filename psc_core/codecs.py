"""The stage loops by the name that a profile's ``codec`` field gives."""

from __future__ import annotations

from typing import Any

from psc_core.diffc.canvases import DiffCCanvases
from psc_core.published import PublishedCanvases
from psc_core.structured import StructuredCanvases

CODECS: dict[str, Any] = {"psc": PublishedCanvases, "structured": StructuredCanvases, "diffc": DiffCCanvases}
