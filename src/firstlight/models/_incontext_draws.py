"""Synthetic campaigns to learn from besides those of the archive, drawn from a seed as they are wanted.

After the priors of PFNs4BO (Müller et al. 2023): Gaussian processes and random networks. They live in the spaces of the
archive's own campaigns, so that they teach how readings tell of other points there, whatever is read. Where there is a
Gaussian process that was trained on earlier campaigns, they are drawn from that.
"""

from __future__ import annotations

import math

import numpy as np

from ._embedding import Array
from ._experiment_net import Tokens, described, kernel, matern
from ._weights import Weights

NETWORKS = 0.25
"""What part of the draws are random networks."""
HIDDEN = 24


def drawn(tokens: Tokens, teacher: Weights | None, rng: np.random.Generator) -> tuple[Tokens, Array]:
    """A campaign at points like those of another one: tokens, and what is read there (n,), in spreads.

    `teacher` are the weights of a pre-trained Gaussian process, if there is one.
    """
    number, words = tokens.number.copy(), tokens.words.copy()
    n = len(number)
    for j in range(number.shape[1]):
        order = rng.permutation(n)
        number[:, j], words[:, j] = number[order, j], words[order, j]
        if number[:, j].any() and rng.random() < 0.5:
            number[:, j] = rng.uniform(number[:, j].min(), number[:, j].max(), n)
    x = np.concatenate([number, words.reshape(n, -1)], 1)
    owner = np.r_[np.arange(number.shape[1]), np.repeat(np.arange(number.shape[1]), words.shape[2])]
    there = Tokens(tokens.static, tokens.there, tokens.observable, number, words)
    if teacher is not None:
        at = described(teacher, there, np)
        root = np.linalg.cholesky(kernel(at, at, np) + (at.noise**2 + 1e-6) * np.eye(n))
        return there, np.clip(at.mean + root @ rng.standard_normal(n), -6.0, 6.0)
    make = _network if rng.random() < NETWORKS else _process
    level, size = 0.7 * rng.standard_normal(), math.exp(0.4 * rng.standard_normal())
    noise = math.exp(rng.uniform(math.log(0.01), math.log(0.3)))
    y = level + size * (make(x, owner, rng) + noise * rng.standard_normal(n))
    return there, np.clip(y, -6.0, 6.0)


def _process(x: Array, owner: Array, rng: np.random.Generator) -> Array:
    """A draw of a Gaussian process whose lengths, some far too long to matter, are drawn as well."""
    d = int(owner.max()) + 1
    rates = np.exp(-(math.log(0.35 * math.sqrt(d)) + 0.7 * rng.standard_normal(d)))
    rates[rng.random(d) < 0.15] *= 0.1
    scaled = x * rates[owner]
    squares = (scaled**2).sum(1)
    apart = abs(squares[:, None] + squares[None] - 2.0 * scaled @ scaled.T)
    covariance = np.exp(-0.5 * apart) if rng.random() < 0.5 else matern(apart, np)
    root = np.linalg.cholesky(covariance + 1e-5 * np.eye(len(x)))
    return np.asarray(root @ rng.standard_normal(len(x)))


def _network(x: Array, owner: Array, rng: np.random.Generator) -> Array:
    """A random network of two layers, of mean 0 and deviation 1 at these points."""
    d = int(owner.max()) + 1
    heard = rng.random(d) ** 0.7 * 4.0 * math.exp(0.5 * rng.standard_normal()) / math.sqrt(d)
    first = rng.standard_normal((x.shape[1], HIDDEN)) * heard[owner][:, None]
    h = np.tanh((2.0 * x - 1.0) @ first + 2.0 * rng.standard_normal(HIDDEN))
    h = np.tanh(h @ rng.standard_normal((HIDDEN, HIDDEN)) * 2.0 / math.sqrt(HIDDEN) + rng.standard_normal(HIDDEN))
    y = h @ rng.standard_normal(HIDDEN)
    return np.asarray((y - y.mean()) / max(float(y.std()), 1e-3))
