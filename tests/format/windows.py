"""Sections 4.1, 4.4 a and 6: coefficients of windows, and the laws of their variances before anything is known."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from tests.format.arithmetic import colour, dct, dct4, power


@cache
def radius(window: int, halves: bool = False) -> np.ndarray:
    k = np.arange(window).astype(float)
    if halves:
        k[2:] = k[2:] // 2 * 2 + 0.5
    return np.rint(np.sqrt(k[:, None] ** 2 + k[None, :] ** 2)).astype(int).reshape(-1)


@cache
def band(window: int) -> np.ndarray:
    r = radius(window, halves=True)
    return (r >= 1).astype(int) + (r >= 3) + (r >= 6) + (r >= 12) + (r >= 24)


class Windows:
    """Section 6.1: (C, H, W) whole numbers to (C, windows, w w) and back, by the DCT of windows."""

    def __init__(self, shape: tuple[int, int, int], window: int) -> None:
        self.shape, self.w = shape, window
        self.counts = shape[1] // window, shape[2] // window
        self.m, self.mix = np.rint(self.rows(window) * 2.0**20), np.rint(colour() * 2.0**20)

    def rows(self, window: int) -> np.ndarray:
        return dct(window)

    def analyse(self, n: np.ndarray) -> np.ndarray:
        c, (down, across), w = self.shape[0], self.counts, self.w
        x = self.lapped(_step(self.mix @ n.reshape(c, -1)).reshape(self.shape))
        x = x.reshape(c, down, w, across, w).transpose(0, 1, 3, 2, 4)
        return _step(self.m @ _step(x @ self.m.T)).reshape(c, down * across, w * w)

    def synthesize(self, z: np.ndarray) -> np.ndarray:
        c, (down, across), w = self.shape[0], self.counts, self.w
        x = _step(_step(self.m.T @ z.reshape(c, down, across, w, w)) @ self.m)
        x = self.unlapped(x.transpose(0, 1, 3, 2, 4).reshape(self.shape))
        return _step(self.mix.T @ x.reshape(c, -1)).reshape(self.shape)

    def lapped(self, x: np.ndarray) -> np.ndarray:
        return x

    unlapped = lapped


class Halves(Windows):
    """Section 4.1."""

    def rows(self, window: int) -> np.ndarray:
        h, out = window // 2, np.zeros((window, window))
        out[0::2, :h] = out[1::2, h:] = dct(h)
        out[:2] = np.sqrt(0.5) * (out[0] + out[1]), np.sqrt(0.5) * (out[0] - out[1])
        self.lap = np.rint(_lap(h) * 2.0**20)
        return out

    def lapped(self, x: np.ndarray) -> np.ndarray:
        return self.around(self.around(x, 2, self.lap), 1, self.lap)

    def unlapped(self, x: np.ndarray) -> np.ndarray:
        return self.around(self.around(x, 1, self.lap.T), 2, self.lap.T)

    def around(self, x: np.ndarray, axis: int, lap: np.ndarray) -> np.ndarray:
        """Lines of pixels along an axis, each border's turned one after the other."""
        h, out = self.w // 2, np.moveaxis(x, axis, 0).copy()
        for border in range(h, len(out), h):
            span = slice(border - h // 2, border + h // 2)
            out[span] = _step(np.tensordot(lap, out[span], 1))
        return np.moveaxis(out, 0, axis)


def _lap(h: int) -> np.ndarray:
    q, u = h // 2, np.zeros((h // 2, h // 2))
    for k in range(q):
        u = u + np.multiply.outer(dct(q)[k], dct4(q)[k])
    out = np.zeros((h, h))
    for i, j in np.ndindex(q, q):
        one = float(i == j)
        out[i, j] = out[h - 1 - i, h - 1 - j] = (one + u[i, j]) * 0.5
        out[i, h - 1 - j] = out[h - 1 - i, j] = (one - u[i, j]) * 0.5
    return out


DIFFC_LAW = ((606.0, 32.0, 2.15), (101.0, 2.8, 2.2), (43.0, 1.75, 2.25))
ARCHIVE_LAW = ((606.0, 32.0, 2.15), (50.0, 0.7, 2.2), (22.0, 0.44, 2.25))


def first_variance(window: int, windows: int, laws: Any = DIFFC_LAW, halves: bool = False) -> np.ndarray:
    """Sections 4.4 a and 6.1."""
    r, out = radius(window, halves), []
    for dc, gain, slope in laws:
        law = [dc] + [gain * power(k * 32.0 / window, -slope) for k in range(1, r.max() + 1)]
        out.append(np.tile(np.array(law)[r] * (window * window / 1024.0), windows))
    return np.concatenate(out) * 2.0**28


def _step(n: np.ndarray) -> np.ndarray:
    return np.rint(n * 2.0**-20)
