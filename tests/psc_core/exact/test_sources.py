"""What the guard cannot see is read: numpy, math and powers in the modules of the byte path, and the C kernels."""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path

import pytest

ROOM = Path(__file__).parents[3] / "psc_core"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


EXACT_NUMPY = (
    # One IEEE-754 (or integer) operation an element, correctly rounded by the standard:
    _names("abs clip floor frexp ldexp maximum minimum rint sign signbit sqrt where")
    # Order-free, or sums of integers:
    | _names("argmax argsort array_equal bincount count_nonzero flatnonzero max searchsorted")
    # Filling, moving, converting:
    | _names("arange array asarray ascontiguousarray atleast_2d broadcast_to concatenate empty errstate eye frombuffer")
    | _names("full indices load ndarray ones pad repeat stack take_along_axis zeros zeros_like")
    | _names("float32 float64 int32 int64 intp uint16 uint32 uint64 uint8")
)
EXACT_MATH = frozenset(["fsum", "inf", "isfinite", "lcm", "nan", "sqrt"])
"""fsum and sqrt are correctly rounded; the others are integers and constants."""
FORBIDDEN_METHODS = _names(
    """
    mean std var dot norm exp exp2 log log2 log10 pow softmax log_softmax prod cumsum cumprod sin cos tan tanh
    sigmoid rsqrt reciprocal lerp addcmul addcdiv addmm baddbmm silu gelu einsum linalg random rand randn randint
    manual_seed Generator svd eigh group_norm layer_norm batch_norm scaled_dot_product_attention
    """
)
FORBIDDEN_IMPORTS = frozenset(["random", "cmath", "scipy", "secrets", "statistics"])

WHY = {
    "metrics.py": "measures what was decoded; no byte comes from it",
    "diffc/closed_form.py": "the theory that tests and plots compare with; no byte comes from it",
    "samplers/pigdm.py": "perceptual restoration, which is float and says so",
    "exact/transcendental.py": "decimal arithmetic: its exp and ln are correctly rounded by specification",
    "exact/guard.py": "watches, computes nothing that is kept",
}
"""Modules that are not read."""
EXCEPT = {
    ("codec.py", "math.log10"): "the report's PSNR; ends a stream at a target, never enters it",
    ("paper/canvases.py", "np.prod"): "a product of Python integers",
    ("exact/noise.py", "np.prod"): "a product of Python integers",
    ("exact/layers.py", ".norm"): "a layer's attribute",
    ("exact/transformer.py", ".norm"): "a layer's attribute",
    ("exact/transformer.py", ".group_norm"): "a layer's attribute",
    ("paper/sensing.py", ".eigh"): "jacobi.eigh: elementwise operations in a fixed order",
    ("exact/embedding.py", ".exp"): "transcendental.exp: decimal",
    ("exact/embedding.py", ".sigmoid"): "transcendental.sigmoid: decimal",
    ("exact/integers.py", ".sigmoid"): "transcendental.sigmoid: decimal, into a table",
    ("exact/attention.py", ".exp"): "transcendental.exp: decimal, into a table",
    ("exact/wide.py", ".exp"): "transcendental.exp: decimal, into a table",
    ("coding/plain_coder.py", "np.cumsum"): "sums of int64",
    ("diffc/chunks.py", "np.cumsum"): "sums of int64",
    ("diffc/poisson.py", "np.cumsum"): "whole numbers in float64, below 2^53",
    ("archive/laws.py", ".exp"): "transcendental.exp: decimal, into a table",
    ("archive/laws.py", ".sigmoid"): "transcendental.sigmoid: decimal, into a table",
    ("exact/embedding.py", "@"): "whole numbers in float64, bounded there by 2^52; the guard proves it",
    ("exact/torch_backends.py", "@"): "whole numbers in float32, in pieces below 2^24; known-answer tested",
    ("priors/gaussian.py", "@"): "denoise_differentiably: float, for guidance alone",
    ("priors/gaussian.py", ".einsum"): "whole numbers on a grid in float64, which the guard proves",
    ("priors/gaussian.py", "np.random"): "sample_image: draws images for tests",
    ("priors/gaussian.py", "np.random.default_rng"): "sample_image: draws images for tests",
}
"""Single uses that are allowed, and why."""

SOURCES = [p for p in sorted(ROOM.rglob("*.py")) if p.relative_to(ROOM).as_posix() not in WHY]


FACTORIES = _names("arange as_tensor asarray empty eye full linspace ones scalar_tensor tensor zeros")
"""Of torch: what they make has the caller's default dtype and device, unless both are said."""


def uses(tree: ast.AST) -> set[str]:
    """Names that may not be exact: ``np.exp``, ``math.pow``, ``.mean``, ``**``, ``@``, ``import random``."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {f"torch.{name}" for name in FACTORIES}:
            said = {keyword.arg for keyword in node.keywords}
            found |= set() if {"dtype", "device"} <= said else {f"{ast.unparse(node.func)} of defaults"}
        if isinstance(node, ast.Attribute):
            found |= _attribute(node)
        elif isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.MatMult):
            found.add("@")
        elif isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Pow):
            base = node.left if isinstance(node, ast.BinOp) else node.target
            whole = isinstance(base, ast.Constant) and (isinstance(base.value, int) or base.value == 2.0)
            found |= set() if whole else {"**"}
        elif isinstance(node, ast.Import):
            found |= {f"import {a.name}" for a in node.names if a.name.split(".")[0] in FORBIDDEN_IMPORTS}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {alias.name for alias in node.names}
            exact = names <= EXACT_MATH if node.module == "math" else not node.module.startswith("numpy")
            if not exact or node.module.split(".")[0] in FORBIDDEN_IMPORTS:
                found.add(f"import {node.module}")
    return found


def _attribute(node: ast.Attribute) -> set[str]:
    names = [node.attr]
    inner = node.value
    while isinstance(inner, ast.Attribute):
        names.append(inner.attr)
        inner = inner.value
    root = inner.id if isinstance(inner, ast.Name) else None
    allowed = {"np": EXACT_NUMPY, "math": EXACT_MATH}.get(root or "")
    if allowed is not None:
        return set() if names[-1] in allowed else {".".join([root or "", *reversed(names)])}
    return {f".{node.attr}"} if node.attr in FORBIDDEN_METHODS else set()


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOM).as_posix())
def test_the_byte_path_uses_nothing_that_rounds_differently_elsewhere(path):
    name = path.relative_to(ROOM).as_posix()
    unexplained = {use for use in uses(ast.parse(path.read_text())) if (name, use) not in EXCEPT}
    assert not unexplained, f"{name}: {sorted(unexplained)}: not exact; say in EXCEPT why it may be there"


def test_no_exception_is_left_over():
    used = {(p.relative_to(ROOM).as_posix(), use) for p in SOURCES for use in uses(ast.parse(p.read_text()))}
    assert set(EXCEPT) <= used
    assert all((ROOM / name).is_file() for name in WHY)


@pytest.mark.parametrize(
    "planted",
    [
        "y = np.exp(x)",
        "y = np.linalg.eigh(x)",
        "y = np.random.rand(3)",
        "y = math.log(x)",
        "y = x ** 2.15",
        "y = x @ z",
        "y = x.mean()",
        "y = torch.nn.functional.silu(x)",
        "y = torch.zeros(3)",
        "y = torch.tensor([1], dtype=torch.float32)",
        "import random",
        "from math import exp",
    ],
)
def test_what_is_planted_is_seen(planted):
    assert uses(ast.parse(planted))


def test_powers_of_two_are_exact_here():
    assert all(2.0**k == math.ldexp(1.0, k) for k in range(-60, 61))


@pytest.mark.parametrize("path", sorted((ROOM / "exact/kernels").glob("*.[ch]")), ids=lambda p: p.name)
def test_kernels_call_no_libm_and_fuse_nothing(path):
    code = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(), flags=re.S)
    libm = r"\b(?:exp|exp2|log|log2|log10|pow|sin|cos|tan|tanh|erf|fma|cbrt|hypot)f?\s*\("
    approximate = r"_mm\w*_(?:f(?:n?m(?:add|sub))|rcp|rsqrt|dpbf16)\w*"
    assert not re.search(f"{libm}|{approximate}", code)


def test_kernels_are_compiled_without_contraction_or_fast_math():
    setup = (ROOM.parent / "setup.py").read_text()
    assert "-ffp-contract=off" in setup
    assert not re.search(r"-ffast-math|-Ofast|-funsafe|-fassociative|-march=", setup)
