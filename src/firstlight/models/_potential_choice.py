"""Which structures to label next: those after which a potential would be least unsure of the forces of all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ._potential_data import ELEMENTS, structure_of

Array = npt.NDArray[np.float64]

WIDTH = 1024
"""Of the sketches of gradients: inner products of millions of numbers, to a few per cent."""
PUSHES = 4
"""Directions in which the forces of a structure are looked at: each is a pass backward through the network."""
NOISE = 0.1
"""Variance of what a label says, where that of what it is about is one beforehand."""


def choose(network: Any, pool: Sequence[Any], count: int, labelled: Sequence[Any] = ()) -> list[int]:
    """The numbers of `count` structures of a pool (ase.Atoms each) whose labels would teach a potential most.

    `network` is the potential from whose weights the next training begins (`_potential_net.Network`); `labelled` are
    the structures that have labels already. Deterministic, and the first of more are those that fewer would be. It
    takes about as long as ten questions to the potential for each structure. Raises ValueError where the pool is too
    small.
    """
    found = slopes(network, [*pool, *labelled])
    return select(found[: len(pool)], found[len(pool) :], count)


def slopes(network: Any, structures: Sequence[Any]) -> list[Array]:
    """How the weights move what is said of each structure, (PUSHES + 1, WIDTH): its forces along random directions, and
    its energy an atom, whose elements' shifts are weights, too.

    Fine-tuning moves the weights little, so that to first order a network is linear in these (the neural tangent
    kernel; Jacot and others, NeurIPS 2018). They are sketched: every weight is added to, or taken from, one of WIDTH
    numbers at random (Charikar and others, 2004), which keeps inner products on average.
    """
    import torch  # noqa: PLC0415

    if not structures:
        return []
    weights = [w for n, w in network.named_parameters() if n.startswith("net.")]
    asked = [w.requires_grad for w in weights]
    for weight in weights:
        weight.requires_grad_(True)
    rng = np.random.default_rng(0)
    size = sum(w.numel() for w in weights)
    slot, sign = torch.from_numpy(rng.integers(WIDTH, size=size)), torch.from_numpy(rng.choice([-1.0, 1.0], size))
    shift = rng.choice([-1.0, 1.0], (ELEMENTS, WIDTH)) / np.sqrt(WIDTH)
    found = []
    for atoms in structures:
        answer = network.answer([network.graph(structure_of(atoms))], learn=True)
        pushed = rng.choice([-1.0, 1.0], (PUSHES, *answer.forces.shape)) / np.sqrt(len(atoms) * 3)
        told = [(answer.forces * answer.forces.new_tensor(p)).sum() for p in pushed] + [answer.energy.sum()]
        rows = np.zeros((len(told), WIDTH))
        for n, one in enumerate(told):
            parts = torch.autograd.grad(one, weights, retain_graph=True, allow_unused=True)
            whole = [torch.zeros_like(w) if g is None else g for g, w in zip(parts, weights, strict=True)]
            flat = torch.cat([g.reshape(-1) for g in whole])
            rows[n] = torch.zeros(WIDTH, dtype=torch.float64).index_add_(0, slot, flat.double().cpu() * sign).numpy()
        shares = np.bincount(np.asarray(atoms.numbers) - 1, minlength=ELEMENTS) / len(atoms)
        found.append((rows, shares @ shift))
    for weight, before in zip(weights, asked, strict=True):
        weight.requires_grad_(before)
    return _to_scale(found)


def _to_scale(found: Sequence[tuple[Array, Array]]) -> list[Array]:
    """Forces, energies and shifts each with a mean square of one: energies about their mean, which the shift takes."""
    forces = np.stack([rows[:-1] for rows, _ in found])
    energies, shifts = np.stack([rows[-1] for rows, _ in found]), np.stack([shift for _, shift in found])
    energies = energies - energies.mean(0)
    shifts = shifts - shifts.mean(0)
    whole = _unit(energies) + _unit(shifts)
    return list(np.concatenate([_unit(forces), whole[:, None]], axis=1))


def _unit(rows: Array) -> Array:
    return np.asarray(rows / np.sqrt(max(float((rows**2).sum(-1).mean()), 1e-12)))


def select(pool: Sequence[Array], known: Sequence[Array], count: int) -> list[int]:
    """The numbers of structures to label, from what labels of each would tell: rows (n, d), about zero.

    What is told is taken to be linear in these rows, with weights of which nothing is known. Each choice is the
    structure of which most is unknown, the sum of the variances of its rows, given the labels that are known and those
    already chosen; of one like another that was chosen little is ("MaxDet" of Holzmueller and others, Journal of
    Machine Learning Research 24, 164, 2023, a block at a time). Raises ValueError.
    """
    if not 0 <= count <= len(pool):
        raise ValueError(f"{count} structures cannot be chosen of a pool of {len(pool)}")
    rows = np.concatenate([*pool, *known]) if pool else np.zeros((0, 1))
    ends = np.cumsum([0, *(len(block) for block in (*pool, *known))])
    unsure = (rows**2).sum(1)
    # Columns of the Cholesky factor of the covariance of all rows, as far as labels are known.
    factor = np.zeros((len(rows), 0))

    def see(block: int) -> None:
        nonlocal factor
        here = slice(ends[block], ends[block + 1])
        cross = rows @ rows[here].T - factor @ factor[here].T
        corner = np.linalg.cholesky(cross[here] + NOISE * np.eye(here.stop - here.start))
        new = np.linalg.solve(corner, cross.T).T
        unsure[:] -= (new**2).sum(1)
        factor = np.hstack([factor, new])

    for block in range(len(pool), len(pool) + len(known)):
        see(block)
    chosen = list[int]()
    while len(chosen) < count:
        each = np.add.reduceat(unsure, ends[: len(pool)])[: len(pool)]
        each[chosen] = -np.inf
        chosen.append(int(np.argmax(each)))
        see(chosen[-1])
    return chosen
