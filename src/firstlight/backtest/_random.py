"""Random search on a pool, exactly: draws without replacement of which every outcome is known.

A pool of n rows has k good ones. Losses are nan where a trial fails: such a row is drawn like any other, and is paid
for.
"""

from collections.abc import Iterator

import numpy as np

from ._pool import Floats

ROUNDING = 1e-12


def chance_found(n: int, k: int) -> Floats:
    """The chance that the first good row is among 0, 1, ..., n draws: 1 - C(n - k, t) / C(n, t), (n + 1,)."""
    if not 1 <= k <= n:
        raise ValueError(f"of {n} rows between 1 and {n} can be good, not {k}")
    drawn = np.arange(n)
    missed = np.cumprod(np.maximum(n - k - drawn, 0) / (n - drawn))
    return np.concatenate([[0.0], 1.0 - missed])


def expected_draws(n: int, k: int) -> float:
    """The mean number of draws up to the first good row."""
    return (n + 1) / (k + 1)


def quantile_draws(n: int, k: int, q: float) -> int:
    """The least number of draws that meet a good row with probability q."""
    return int(np.argmax(chance_found(n, k) >= q - ROUNDING))


def expected_found(n: int, draws: int) -> Floats:
    """The expected share of any set of rows that 1 to `draws` draws have found: t / n."""
    return np.arange(1, draws + 1) / n


def _chances(n: int, working: int, draws: int) -> Iterator[Floats]:
    """For 1 to `draws` draws, the chance that the best of them is the j-th best of the working rows, (working,)."""
    better = np.arange(working + 1)
    missed = np.ones(working + 1)
    for drawn in range(min(draws, n)):
        # The chance that none of the j best is drawn: the others are that many.
        missed = missed * np.maximum(n - better - drawn, 0) / (n - drawn)
        yield missed[:-1] - missed[1:]


def expected_best(losses: Floats, draws: int) -> Floats:
    """The expected best loss of 1 to `draws` draws, given that one of them succeeded, (draws,)."""
    ordered = np.sort(losses[~np.isnan(losses)])
    return np.array([p @ ordered / p.sum() for p in _chances(len(losses), len(ordered), draws)])


def best_quantile(losses: Floats, draws: int, q: float) -> Floats:
    """The q-quantile of the best loss of 1 to `draws` draws, (draws,); inf where by then no trial succeeded."""
    ordered = np.append(np.sort(losses[~np.isnan(losses)]), np.inf)
    return np.array(
        [
            ordered[int(np.searchsorted(np.cumsum(p), q - ROUNDING))]
            for p in _chances(len(losses), len(ordered) - 1, draws)
        ]
    )  # fmt: skip


def ranks(losses: Floats) -> Floats:
    """The share of the other working rows that a row beats, (n,): 1 for the best; 0 where it fails."""
    working = np.sort(losses[~np.isnan(losses)])
    beaten = len(working) - np.searchsorted(working, losses, side="right")
    return np.where(np.isnan(losses), 0.0, beaten / max(len(working) - 1, 1))


def expected_rank(losses: Floats, draws: int) -> Floats:
    """The expected rank (see `ranks`) of the best of 1 to `draws` draws, (draws,); 0 while none succeeded."""
    ordered = np.sort(ranks(losses)[~np.isnan(losses)])[::-1]
    return np.array([p @ ordered for p in _chances(len(losses), len(ordered), draws)])
