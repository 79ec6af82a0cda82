from __future__ import annotations

import hashlib

import numpy as np

from psc_core.state import state_hash


def test_the_state_is_the_same_for_either_zero():
    """Which of -0 and +0 a maximum gives depends on the machine; both are the same state."""
    some = np.array([0.0, 3.0, -7.0])
    assert state_hash(some, -some) == state_hash(np.array([-0.0, 3.0, -7.0]), -some)
    assert state_hash(some) != state_hash(some + 1.0)


def test_the_state_is_of_little_endian_doubles():
    some = np.array([1.0, -2.5, 2.0**40])
    wanted = int.from_bytes(
        hashlib.sha256(b"".join(x.astype("<f8").tobytes() for x in (some, some))).digest()[:2], "little"
    )
    assert state_hash(some.astype(">f8"), some) == wanted
