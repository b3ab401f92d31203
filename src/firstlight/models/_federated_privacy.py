"""Noise that hides what one group added, and how well it does."""

import hashlib
import math

import numpy as np
from scipy.special import log_ndtr, ndtri

from ._federated_wire import Tensors


def noised(sums: Tensors, deviation: float, key: bytes) -> Tensors:
    """The sums with Gaussian noise of that deviation on every number, drawn from the key: the same key, the same noise.

    A key must be used for one sum only, or the difference of two answers shows what the noise hides.
    """
    made = Tensors()
    for name in sorted(sums):
        size = sums[name].size
        stream = hashlib.shake_256(key + b"\0" + name.encode()).digest(8 * size)
        # 53 bits each, in the middle of their interval: neither 0 nor 1, whose quantiles are infinite.
        uniform = ((np.frombuffer(stream, "<u8") >> 11).astype(np.float64) + 0.5) / 2.0**53
        made[name] = sums[name] + deviation * ndtri(uniform).reshape(sums[name].shape)
    return made


def epsilon(noise: float, rounds: int, delta: float = 1e-5) -> float:
    """The epsilon for this delta after `rounds` answers, each with every group, clipped, and noise of `noise` x clip.

    It is for one group of a site whose contribution is there or is nothing, against whoever sees all answers; how many
    groups there are is no secret. Gaussian mechanisms compose to one with mu = sqrt(rounds) / noise, whose privacy
    profile is exact (Dong, Roth and Su 2022, corollary 1). Infinite without noise. Raises ValueError for no delta.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta must be between 0 and 1, not {delta:g}")
    if rounds == 0:
        return 0.0
    if noise <= 0:
        return math.inf
    mu = math.sqrt(rounds) / noise

    def above(eps: float) -> bool:
        first = math.exp(float(log_ndtr(mu / 2 - eps / mu)))
        return first - math.exp(eps + float(log_ndtr(-mu / 2 - eps / mu))) > delta

    if not above(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while above(high):
        low, high = high, 2 * high
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if above(middle) else (low, middle)
    return high
