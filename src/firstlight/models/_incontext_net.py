"""The arithmetic of the transformer that learns in context, written once for numpy (to use it) and for torch.

A prior-data fitted network (Müller et al. 2022, arXiv 2112.10510; for optimisation: PFNs4BO, Müller et al. 2023, arXiv
2305.17535) whose readings come one after another (as in TNP-A, Nguyen and Grover 2022, arXiv 2207.04179), so that one
pass tells the density of each reading given those before it. A point is a set of tokens, one a parameter, as in
`_experiment_net`. Attention is nearer to what lies nearer: on coordinates with lengths that each token chooses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._embedding import OBSERVABLE, STATIC, WORD
from ._experiment_net import Tokens
from ._weights import Weights

HEADS, COORDINATES = 4, 8
BARS, EDGE, TAIL = 80, 4.0, 0.8
"""The density is a histogram of so many bars from -EDGE to EDGE, in spreads, and half a normal one beyond each end."""
WIDTH = 2.0 * EDGE / BARS
VALUE = 4
"""What is told of a reading."""


def begin(width: int, depth: int, seed: int) -> Weights:
    """Weights to start from, float32 by name; those of all layers are stacked."""
    rng = np.random.default_rng(seed)

    def drawn(*shape: int, size: float = 1.0) -> Any:
        return (rng.standard_normal(shape) * size / math.sqrt(shape[-2])).astype(np.float32)

    def filled(value: float, *shape: int) -> Any:
        return np.full(shape, value, dtype=np.float32)

    places = np.linspace(1.0, 4.0, HEADS).repeat(COORDINATES)
    return {
        "slope": drawn(STATIC, width, size=3.0), "offset": drawn(STATIC, width), "words": drawn(WORD, width, size=3.0),
        "mix": drawn(width, width), "observable": drawn(OBSERVABLE, width), "place": drawn(width, COORDINATES),
        "point_up": drawn(width, 2 * width), "point_bias": filled(0.0, 2 * width),
        "point_down": drawn(2 * width, width, size=0.5), "value": drawn(VALUE, width, size=2.0),
        "start": drawn(1, width), "asked": drawn(1, width),
        "before": filled(1.0, depth, width), "between": filled(1.0, depth, width), "after": filled(1.0, width),
        "query": drawn(depth, width, width), "key": drawn(depth, width, width), "carried": drawn(depth, width, width),
        "out": drawn(depth, width, width, size=0.2), "up": drawn(depth, width, 2 * width),
        "up_bias": filled(0.0, depth, 2 * width), "down": drawn(depth, 2 * width, width, size=0.2),
        "near": drawn(depth, width, HEADS * COORDINATES, size=0.02),
        "near_bias": np.tile(places.astype(np.float32), (depth, 1)),
        "middle": drawn(width, 2, size=0.1), "middle_bias": filled(0.0, 2),
        "bars": drawn(width, BARS + 2, size=0.02), "bars_bias": filled(0.0, BARS + 2),
    }  # fmt: skip


def shapes(width: int, depth: int) -> dict[str, tuple[int, ...]]:
    """The shapes that weights of this width and depth have."""
    return {name: array.shape for name, array in begin(width, depth, 0).items()}


# ------------------------------------------------------------------ tokens of the sequence


def placed_points(w: Mapping[str, Any], t: Tokens, xp: Any) -> tuple[Any, Any]:
    """Points as vectors (n, width), and their coordinates (n, COORDINATES)."""
    slope, offset = t.static @ w["slope"], t.static @ w["offset"]
    h = t.number[..., None] * slope[..., None, :, :] + offset[..., None, :, :] + t.words @ w["words"]
    h = h * t.there[..., None, :, None]
    whole = h.sum(-2)
    x = whole + xp.tanh(h).sum(-2) @ w["mix"] + (t.observable @ w["observable"])[..., None, :]
    x = x + xp.tanh(x @ w["point_up"] + w["point_bias"]) @ w["point_down"]
    return x, whole @ w["place"]


def readings(w: Mapping[str, Any], y: Any, sigma: Any, xp: Any) -> Any:
    """What is read (n,) with known deviations (n,), in spreads, as vectors (n, width)."""
    return xp.stack([y, y * abs(y) / EDGE, xp.tanh(2.0 * y), sigma], -1) @ w["value"]


def asked(w: Mapping[str, Any], sigma: Any) -> Any:
    """That a reading with known deviation (n,) is asked for, as vectors (n, width)."""
    return w["asked"] + sigma[..., None] * w["value"][-1]


# ------------------------------------------------------------------ layers


def remembered(w: Mapping[str, Any], layer: int, h: Any, place: Any, real: Any, xp: Any) -> tuple[Any, Any]:
    """Keys (HEADS, n, .) and values of tokens (n, width); `real` (n, 1) is 0 for the start, which is nowhere."""
    z = _normed(h, w["before"][layer])
    many = xp.stack([place] * HEADS, -3)
    there = xp.stack([real] * HEADS, -3)
    keys = [_heads(z @ w["key"][layer]), many, -0.5 * many**2, -0.5 * there]
    return xp.concatenate(keys, -1), _heads(z @ w["carried"][layer])


def attended(
    w: Mapping[str, Any], layer: int, h: Any, place: Any, known: tuple[Any, Any], hidden: Any, xp: Any
) -> Any:  # fmt: skip
    """Tokens (n, width) after a layer in which they look at `known`, of which `hidden` (n, m) takes some away."""
    z = _normed(h, w["before"][layer])
    near = _heads(xp.exp(xp.clip(z @ w["near"][layer] + w["near_bias"][layer], -5.0, 5.0)))
    many = xp.stack([place] * HEADS, -3)
    query = _heads(z @ w["query"][layer])
    query = query / math.sqrt(query.shape[-1])
    query = xp.concatenate([query, near * many, near, (near * many**2).sum(-1)[..., None]], -1)
    found = _softmax(query @ known[0].swapaxes(-1, -2) + hidden, xp) @ known[1]
    found = found.swapaxes(-2, -3)
    h = h + found.reshape(*found.shape[:-2], -1) @ w["out"][layer]
    u = _normed(h, w["between"][layer]) @ w["up"][layer] + w["up_bias"][layer]
    return h + (u / (1.0 + xp.exp(-u))) @ w["down"][layer]


def _heads(z: Any) -> Any:
    """(n, HEADS * k) as (HEADS, n, k)."""
    return z.reshape(*z.shape[:-1], HEADS, -1).swapaxes(-2, -3)


def _normed(h: Any, gain: Any) -> Any:
    return h / ((h**2).mean(-1)[..., None] + 1e-6) ** 0.5 * gain


def _softmax(x: Any, xp: Any) -> Any:
    e = xp.exp(x - xp.amax(x, -1)[..., None])
    return e / e.sum(-1)[..., None]


# ------------------------------------------------------------------ the whole


def chained(w: Mapping[str, Any], t: Tokens, y: Any, sigma: Any, hidden: Any, xp: Any) -> Any:
    """The histogram (n, BARS + 2) of each reading (n,) given those before it; `hidden` is that of `order`."""
    x, place = placed_points(w, t, xp)
    start = x[..., :1, :] * 0.0 + w["start"]
    nowhere, n = place[..., :1, :] * 0.0, y.shape[-1]
    h = xp.concatenate([start, x + readings(w, y, sigma, xp), x + asked(w, sigma)], -2)
    place = xp.concatenate([nowhere, place, place], -2)
    real = xp.concatenate([nowhere[..., :1], nowhere[..., :1] + place[..., 1 : n + 1, :1] * 0.0 + 1.0], -2)
    for layer in range(len(w["before"])):
        known = remembered(w, layer, h[..., : n + 1, :], place[..., : n + 1, :], real, xp)
        h = attended(w, layer, h, place, known, hidden, xp)
    return histogram(w, h[..., n + 1 :, :], xp)


def order(n: int) -> Any:
    """What hides from each of start, n readings and n questions (2 n + 1) the readings (n + 1) that came no earlier."""
    of = np.r_[np.arange(n + 1), np.arange(n)]
    return np.where(np.arange(n + 1)[None] > of[:, None], -1e9, 0.0).astype(np.float32)


def told(w: Mapping[str, Any], t: Tokens, y: Any, sigma: Any) -> list[tuple[Any, Any]]:
    """What is remembered, a layer each, of readings (n,) at points: what `answered` wants. With numpy."""
    x, place = placed_points(w, t, np)
    h = np.concatenate([w["start"], x + readings(w, y, sigma, np)])
    place = np.concatenate([np.zeros_like(place[:1], shape=(1, COORDINATES)), place])
    real = np.r_[0.0, np.ones(len(y))][:, None].astype(place.dtype)
    hidden, found = order(len(y))[: len(y) + 1], []
    for layer in range(len(w["before"])):
        found.append(remembered(w, layer, h, place, real, np))
        h = attended(w, layer, h, place, found[-1], hidden, np)
    return found


def answered(w: Mapping[str, Any], t: Tokens, known: Sequence[tuple[Any, Any]]) -> Any:
    """The histograms (m, BARS + 2) of a reading at points, given what is remembered. With numpy."""
    x, place = placed_points(w, t, np)
    h = x + w["asked"]
    for layer, of in enumerate(known):
        h = attended(w, layer, h, place, of, np.float32(0.0), np)
    return histogram(w, h, np)


# ------------------------------------------------------------------ histograms


def histogram(w: Mapping[str, Any], h: Any, xp: Any) -> Any:
    """The logarithms of the chances (n, BARS + 2) of the bars: of the lower tail, the bars, the upper tail.

    A normal distribution, and what is to be added to its logarithm.
    """
    z = _normed(h, w["after"])
    middle = z @ w["middle"] + w["middle_bias"]
    centre, width = middle[..., :1], WIDTH / 2.0 + xp.exp(xp.clip(middle[..., 1:], -6.0, 2.0))
    scores = z @ w["bars"] + w["bars_bias"] - 0.5 * ((_centres(h) - centre) / width) ** 2
    most = xp.amax(scores, -1)[..., None]
    return scores - most - xp.log(xp.exp(scores - most).sum(-1))[..., None]


def log_density(chances: Any, y: Any, xp: Any) -> Any:
    """The log density (n,) of readings (n,) by their histograms."""
    inside = xp.clip((y + EDGE) / WIDTH, -0.5, BARS + 0.5)
    bar = xp.floor(inside) + 1.0
    at = xp.arange(BARS + 2) if xp is np else xp.arange(BARS + 2, device=y.device)
    chance = (chances * (at == bar[..., None])).sum(-1)
    beyond = xp.clip(abs(y) - EDGE, 0.0, 1e6)
    half = math.log(2.0) - 0.5 * math.log(2.0 * math.pi) - math.log(TAIL) - 0.5 * (beyond / TAIL) ** 2
    return chance + xp.where(beyond > 0, half, xp.zeros_like(half) - math.log(WIDTH))


def moments(chances: Any) -> tuple[Any, Any]:
    """Mean and variance (n,) of readings by their histograms. With numpy."""
    p, centres = np.exp(chances), _centres(chances)
    mean = p @ centres
    tail, bar = TAIL**2 * (1.0 - 2.0 / math.pi), WIDTH**2 / 12.0
    spread = np.r_[tail, np.full(BARS, bar), tail]
    return mean, np.maximum(p @ (spread + centres**2) - mean**2, bar)


def _centres(like: Any) -> Any:
    """The mean (BARS + 2,) of each bar and tail."""
    inner = -EDGE + WIDTH * (np.arange(BARS) + 0.5)
    beyond = EDGE + TAIL * math.sqrt(2.0 / math.pi)
    found = np.r_[-beyond, inner, beyond].astype(np.float32)
    return found if isinstance(like, np.ndarray) else like.new_tensor(found)
