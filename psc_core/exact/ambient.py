"""What a caller may have switched on around us in torch, and what would change results here.

Defaults (dtype, device) have no part: every tensor that is made names both, which a test reads from the sources.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def undisturbed(device: torch.device) -> AbstractContextManager[None]:
    """No autocast inside: it would take the whole numbers of a network's products through bfloat16."""
    return torch.autocast(device.type, enabled=False)
