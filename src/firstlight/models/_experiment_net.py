"""The arithmetic of the pre-trained Gaussian process, written once for numpy (to use it) and for torch (to train it).

After HyperBO (Wang et al. 2021, arXiv 2109.08215): a mean, a Matern-5/2 kernel on inputs and on deep features, and a
noise, shared by all campaigns. A point is a set of tokens, one a parameter, which are summed over (Deep Sets, Zaheer et
al. 2017, arXiv 1703.06114), so campaigns may differ in their parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._embedding import OBSERVABLE, STATIC, WORD
from ._weights import Weights

DEEP = 4
"""Deep features besides the inputs themselves."""
MODES = 8
"""Ways in which campaigns differ over the whole space, each to a degree of its own."""
FLOOR = 1e-3
"""The least noise, in spreads of the archive."""


@dataclass(frozen=True)
class Tokens:
    """Points of one campaign, or of several (with one more dimension in front), padded to one number of parameters.

    `static` (d, STATIC), `there` (d,) one where there is such a parameter, `observable` (OBSERVABLE,), `number` (n, d)
    0 for words, and `words` (n, d, WORD) 0 for numbers: arrays of numpy or tensors of torch.
    """

    static: Any
    there: Any
    observable: Any
    number: Any
    words: Any


@dataclass(frozen=True)
class Described:
    """Mean (n,), coordinates (n, E) and modes (n, MODES) of points, and deviations, all in spreads of the archive: of
    the signal, of the noise, of the level of a campaign, and of the factor by which a campaign follows the mean."""

    mean: Any
    coordinates: Any
    modes: Any
    signal: Any
    noise: Any
    level: Any
    factor: Any


def begin(width: int, seed: int) -> Weights:
    """Weights to start from, float32 by name."""
    rng = np.random.default_rng(seed)

    def drawn(rows: int, columns: int, size: float = 1.0) -> Any:
        return (rng.standard_normal((rows, columns)) * size / math.sqrt(rows)).astype(np.float32)

    def filled(*values: float) -> Any:
        return np.array(values, dtype=np.float32)

    return {
        "slope": drawn(STATIC, width, 3.0), "offset": drawn(STATIC, width, 2.0), "words": drawn(WORD, width, 3.0),
        "mix": drawn(width, width), "first": drawn(width, width), "first_observable": drawn(OBSERVABLE, width),
        "first_bias": filled(*np.zeros(width)), "second": drawn(width, width),
        "second_bias": filled(*np.zeros(width)), "last": drawn(width, 1 + DEEP + MODES),
        "last_bias": filled(*np.zeros(1 + DEEP + MODES)), "length_in": drawn(STATIC, 16),
        "length_observable": drawn(OBSERVABLE, 16), "length_out": drawn(16, 1, 0.3), "length_bias": filled(0.5),
        "heads": drawn(OBSERVABLE, 4, 0.1), "heads_bias": filled(-0.5, -2.0, -1.0, -1.5),
    }  # fmt: skip


def shapes(width: int) -> dict[str, tuple[int, ...]]:
    """The shapes that weights of this width have."""
    return {name: array.shape for name, array in begin(width, 0).items()}


def described(w: Mapping[str, Any], t: Tokens, xp: Any) -> Described:
    """What the weights make of points; `xp` is numpy or torch."""
    slope, offset = t.static @ w["slope"], t.static @ w["offset"]
    h = t.number[..., None] * slope[..., None, :, :] + offset[..., None, :, :] + t.words @ w["words"]
    h = h * t.there[..., None, :, None]
    latent = h.sum(-2) + xp.tanh(h).sum(-2) @ w["mix"]
    wanted = (t.observable @ w["first_observable"])[..., None, :]
    r = xp.tanh(latent @ w["first"] + wanted + w["first_bias"])
    r = xp.tanh(r @ w["second"] + w["second_bias"])
    out = r @ w["last"] + w["last_bias"]
    asked = (t.observable @ w["length_observable"])[..., None, :]
    rate = xp.exp((xp.tanh(t.static @ w["length_in"] + asked) @ w["length_out"] + w["length_bias"])[..., 0]) * t.there
    words = t.words * rate[..., None, :, None]
    coordinates = [t.number * rate[..., None, :], words.reshape(*words.shape[:-2], -1), out[..., 1 : 1 + DEEP]]
    heads = xp.exp(t.observable @ w["heads"] + w["heads_bias"])
    return Described(
        out[..., 0], xp.concatenate(coordinates, -1), out[..., 1 + DEEP :], heads[..., 0], heads[..., 1] + FLOOR,
        heads[..., 2], heads[..., 3],
    )  # fmt: skip


def kernel(a: Described, b: Described, xp: Any) -> Any:
    """The covariance (n, m) of the quantity at some points with that at others."""
    squares = (a.coordinates**2).sum(-1)[..., :, None] + (b.coordinates**2).sum(-1)[..., None, :]
    apart = abs(squares - 2.0 * a.coordinates @ b.coordinates.swapaxes(-1, -2))
    signal, level, factor = (x[..., None, None] ** 2 for x in (a.signal, a.level, a.factor))
    shared = a.modes @ b.modes.swapaxes(-1, -2) + factor * a.mean[..., :, None] * b.mean[..., None, :]
    return signal * matern(apart, xp) + level + shared


def matern(apart: Any, xp: Any) -> Any:
    """The Matern-5/2 kernel of squared distances."""
    r = (5.0 * apart + 1e-10) ** 0.5
    return (1.0 + r + r * r / 3.0) * xp.exp(-r)
