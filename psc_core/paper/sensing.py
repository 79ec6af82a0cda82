"""AdaSense (Elata et al. 2024; PSC Algorithm 1): the directions in which posterior samples disagree most."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from psc_core.exact import fixed, jacobi

_VECTOR_BITS = 22
_NEGLIGIBLE = 2.0 ** (2 * fixed.PIXEL_BITS - 20)
"""A singular value below 2^-10 (sum of squares over the image): there the samples agree to less than a grid step."""


def adasense_rows(samples_BSD: Tensor, measured_BdD: Tensor, count: int) -> Tensor:
    """The top ``count`` right singular vectors of the centred samples, orthonormal to the rows measured so far.

    Args:
        samples_BSD: posterior samples of B canvases, float32 on the pixel grid.
        measured_BdD: rows so far, integers on the grid 2^-22.

    Returns:
        (B, count, D) integers on the grid 2^-22; a direction without variance is a row of zeros.
    """
    centred = _centre(samples_BSD)
    gram = fixed.matmul(centred, centred.transpose(1, 2))
    values, vectors = jacobi.eigh(gram.cpu().numpy())
    mixing = torch.from_numpy(np.rint(vectors[:, :count] * 2.0**_VECTOR_BITS)).to(centred.device)
    rows = fixed.matmul(mixing, centred)
    strength = torch.from_numpy(np.sqrt(np.maximum(values[:, :count], 0.0)) * 2.0**_VECTOR_BITS).to(centred.device)
    silent = torch.from_numpy(values[:, :count] <= _NEGLIGIBLE).to(centred.device)
    strength = torch.where(silent, torch.ones_like(strength), strength)
    rows = torch.where(silent[:, :, None], torch.zeros_like(rows), rows / strength[:, :, None])
    return orthonormalize(rows, measured_BdD)


def orthonormalize(rows_BrD: Tensor, measured_BdD: Tensor) -> Tensor:
    """Gram-Schmidt of near-orthonormal float64 rows against ``measured`` and each other, on the grid 2^-22."""
    new = fixed.to_grid(rows_BrD, fixed.ROW_BITS)
    if measured_BdD.shape[1]:
        new = new - _along(new, measured_BdD)
    done = new[:, :0]
    for place in range(new.shape[1]):
        row = new[:, place : place + 1]
        if place:
            row = row - _along(row, done)
        norm = fixed.total(row * row, dim=2).sqrt()[:, :, None]
        dead = norm < 2.0 ** (fixed.ROW_BITS - 4)
        unit = (row / torch.where(dead, torch.ones_like(norm), norm) * 2.0**fixed.ROW_BITS).round()
        done = torch.cat((done, torch.where(dead, torch.zeros_like(row), unit)), dim=1)
    return done


def _along(rows: Tensor, basis: Tensor) -> Tensor:
    """The part of ``rows`` in the span of orthonormal ``basis``, all integers on the grid 2^-22."""
    shares = fixed.rescale(fixed.matmul(rows, basis.transpose(1, 2)), 2 * fixed.ROW_BITS, fixed.ROW_BITS)
    return fixed.rescale(fixed.matmul(shares, basis), 2 * fixed.ROW_BITS, fixed.ROW_BITS)


def _centre(samples_BSD: Tensor) -> Tensor:
    """Samples minus their mean, integers on the pixel grid within +-4 (so that a Gram entry stays below 2^53)."""
    grid = fixed.to_grid(samples_BSD)
    count = torch.full((), samples_BSD.shape[1], dtype=torch.float64, device=grid.device)
    mean = fixed.total(grid, dim=1) / count
    limit = 4.0 * 2.0**fixed.PIXEL_BITS
    return (grid - mean[:, None]).round().clamp(-limit, limit)
