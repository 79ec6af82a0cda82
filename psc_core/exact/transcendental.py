"""exp, ln, sin, cos and powers in decimal arithmetic: correctly rounded by specification, so the same everywhere.

Slow (microseconds a value): for schedules, embeddings and tables, which are few and cached.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow, localcontext
from functools import cache


def _digits(count: int) -> Context:
    """All of a context is said: what is not comes from ``decimal.DefaultContext``, which a caller may have changed."""
    traps = [InvalidOperation, DivisionByZero, Overflow]
    return Context(count, ROUND_HALF_EVEN, Emin=-999999, Emax=999999, capitals=1, clamp=0, flags=[], traps=traps)


_CONTEXT = _digits(40)
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582")


def exp(x: float) -> float:
    """e^x, correctly rounded to 40 digits before it becomes a float."""
    with localcontext(_CONTEXT):
        return float(Decimal(x).exp())


def ln(x: float) -> float:
    """Natural logarithm of x > 0."""
    with localcontext(_CONTEXT):
        return float(Decimal(x).ln())


def power(x: float, y: float) -> float:
    """x^y for x > 0."""
    with localcontext(_CONTEXT):
        return float((Decimal(x).ln() * Decimal(y)).exp())


def sigmoid(x: float) -> float:
    """1 / (1 + e^-x)."""
    with localcontext(_CONTEXT):
        return float(1 / (1 + (-Decimal(x)).exp()))


def erf(x: float) -> float:
    """The error function, by its Taylor series; |x| up to 6."""
    if abs(x) > 6:
        return 1.0 if x > 0 else -1.0
    with localcontext(_digits(60)):
        z = Decimal(x)
        term, total, n = z, z, 0
        while term and abs(term) > Decimal(10) ** -45:
            n += 1
            term = -term * z * z / n
            total += term / (2 * n + 1)
        return float(2 * total / _PI.sqrt())


@cache
def sin_cos(x: float) -> tuple[float, float]:
    """(sin x, cos x), x in radians."""
    with localcontext(_CONTEXT):
        angle = Decimal(x) % (2 * _PI)
        return float(_series(angle, 1)), float(_series(angle, 0))


def cos_pi(numerator: int, denominator: int) -> float:
    """cos(pi numerator / denominator), the angle reduced exactly first."""
    with localcontext(_CONTEXT):
        angle = _PI * (numerator % (2 * denominator)) / denominator
        return float(_series(angle, 0))


def _series(angle: Decimal, first: int) -> Decimal:
    term = angle if first else Decimal(1)
    total, n = term, first
    while abs(term) > Decimal(10) ** -38:
        term = -term * angle * angle / ((n + 1) * (n + 2))
        total += term
        n += 2
    return total
