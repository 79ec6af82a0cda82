"""The noise schedule of a discrete-time diffusion model, read from its diffusers scheduler's configuration.

x_t = sqrt(a_t) x + sqrt(1 - a_t) n is x + sigma_t n scaled by sqrt(a_t), with sigma_t = sqrt((1 - a_t) / a_t).
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from psc_core.errors import InvalidPrior, PriorNotFound
from psc_core.exact import transcendental
from psc_core.priors.settings import number, read_object, whole

PREDICTIONS = ("epsilon", "sample", "v_prediction")
_MOST_STEPS, _MOST_BETA = 100_000, 0.9999
_LEAST_KEPT = 1e-18
"""Share of the image's variance that the last step must leave: a noise level of 10^9."""
_USUAL = (("start", 1e-4), ("end", 0.02))


class DiscreteSchedule:
    """Noise levels sigma_t of t = 0, 1, ..., and what the network predicts."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """config: diffusers' scheduler_config.json. Raises :class:`InvalidPrior` for what it cannot mean here."""
        self.prediction = config.get("prediction_type", "epsilon")
        if self.prediction not in PREDICTIONS:
            raise InvalidPrior(f"prediction_type={self.prediction!r}: expected one of {', '.join(PREDICTIONS)}")
        if config.get("rescale_betas_zero_snr"):
            raise InvalidPrior("rescale_betas_zero_snr: the last noise level is infinite and has no x + sigma n form")
        if config.get("thresholding"):
            raise InvalidPrior("thresholding: dynamic thresholds depend on the whole image and are not supported")
        clips = config.get("clip_sample", False)
        self.clip = number(config, "clip_sample_range", 1e-6, 1e6, 1.0) if clips else None
        self.sigmas = _sigmas(_betas(config))
        self._logs = [transcendental.ln(sigma) for sigma in self.sigmas]

    def timestep(self, sigma: float) -> float:
        """The t, between two whole ones linear in ln sigma, whose noise level is sigma; the ends hold beyond them."""
        wanted = transcendental.ln(sigma)
        after = bisect_right(self._logs, wanted)
        if after == 0:
            return 0.0
        if after == len(self._logs):
            return float(after - 1)
        low, high = self._logs[after - 1 : after + 1]
        return after - 1 + (wanted - low) / (high - low)

    def denoised(self, network: Callable[[Tensor, float], Tensor], x_NCHW: Tensor, sigma: float) -> Tensor:
        """D(x, sigma) by one call network(input, timestep); elementwise IEEE operations alone.

        The input is (x + sigma n) / sqrt(1 + sigma^2); channels of the output beyond x's (learned variances) are
        not used.
        """
        scale = 1 / sqrt(1 + sigma * sigma)
        out = network(x_NCHW * float(np.float32(scale)), self.timestep(sigma))[:, : x_NCHW.shape[1]]
        if self.prediction == "epsilon":
            x0 = x_NCHW - out * float(np.float32(sigma))
        elif self.prediction == "v_prediction":
            x0 = x_NCHW * float(np.float32(scale * scale)) - out * float(np.float32(sigma * scale))
        else:
            x0 = out
        return x0 if self.clip is None else x0.clamp(-self.clip, self.clip)

    @property
    def about(self) -> dict[str, Any]:
        """What decides the denoiser beside the network's weights."""
        return {"prediction": self.prediction, "clip": self.clip, "sigmas": [s.hex() for s in self.sigmas]}


def read_schedule(folder: Path) -> DiscreteSchedule:
    """From ``folder``/scheduler/scheduler_config.json or ``folder``/scheduler_config.json."""
    for path in (folder / "scheduler" / "scheduler_config.json", folder / "scheduler_config.json"):
        if path.is_file():
            config = read_object(path)
            try:
                return DiscreteSchedule(config)
            except InvalidPrior as error:
                raise InvalidPrior(f"{path}: {error}") from None
    raise PriorNotFound(f"{folder} holds no scheduler_config.json: expected a diffusers pipeline's folder")


def _sigmas(betas: Sequence[float]) -> tuple[float, ...]:
    """Noise levels after the steps of these variances."""
    product, sigmas = 1.0, [0.0]
    for beta in betas:
        product *= 1.0 - beta
        if product < _LEAST_KEPT:
            raise InvalidPrior(f"after {len(sigmas)} of {len(betas)} steps the scheduler leaves nothing of the image")
        sigmas.append(sqrt((1.0 - product) / product))
    if any(b <= a for a, b in itertools.pairwise(sigmas)):
        raise InvalidPrior("the scheduler's noise levels do not rise")
    return tuple(sigmas[1:])


def _betas(config: Mapping[str, Any]) -> list[float]:
    """Variances of the steps as diffusers' DDPMScheduler makes them."""
    if config.get("trained_betas") is not None:
        given = config["trained_betas"]
        if not isinstance(given, list) or not 1 <= len(given) <= _MOST_STEPS:
            raise InvalidPrior(f"trained_betas: expected a list of 1 to {_MOST_STEPS} numbers")
        named = {f"trained_betas[{place}]": beta for place, beta in enumerate(given)}
        return [number(named, name, 0.0, _MOST_BETA) for name in named]
    count = whole(config, "num_train_timesteps", 1, _MOST_STEPS, 1000)
    first, last = (number(config, f"beta_{end}", 0.0, _MOST_BETA, usual) for end, usual in _USUAL)
    kind = config.get("beta_schedule", "linear")
    if kind == "linear":
        return _line(first, last, count)
    if kind == "scaled_linear":
        return [root * root for root in _line(sqrt(first), sqrt(last), count)]
    if kind == "squaredcos_cap_v2":
        kept = [_cosine(2000 * i + 16 * count, 2016 * 2 * count) for i in range(count + 1)]
        return [min(1.0 - b / a, 0.999) for a, b in itertools.pairwise(kept)]
    raise InvalidPrior(f"beta_schedule={kind!r}: expected linear, scaled_linear, squaredcos_cap_v2 or trained_betas")


def _line(first: float, last: float, count: int) -> list[float]:
    return [float(np.float32(first + (last - first) * i / max(1, count - 1))) for i in range(count)]


def _cosine(numerator: int, denominator: int) -> float:
    """cos(pi numerator / denominator)^2; (t + 0.008) / 1.008 / 2 of Nichol & Dhariwal 2021, eq. 17."""
    value = transcendental.cos_pi(numerator, denominator)
    return value * value
