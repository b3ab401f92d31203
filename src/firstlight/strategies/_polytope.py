"""The set of numbers that keep linear bounds: found by linear programming, sampled by hit-and-run."""

from functools import cached_property

import numpy as np
from scipy.linalg import null_space
from scipy.optimize import linprog

from ._encoding import Array

FLAT = 1e-9
"""A set thinner than this, on the unit box, counts as having no width in that direction."""


class Polytope:
    """All x in [0, 1]^k with A x <= b and E x = f; `centre` lies inside it, `basis` (k, r) spans its directions."""

    def __init__(self, a: Array, b: Array, e: Array, f: Array, centre: Array) -> None:
        self.e, self.f = e, f
        self.basis = null_space(e, rcond=1e-10) if len(e) else np.eye(a.shape[1])
        moves = np.linalg.norm(a @ self.basis, axis=1) > 1e-9
        self.a, self.b = a[moves], b[moves]
        self._inverse = np.linalg.pinv(e) if len(e) else np.zeros((a.shape[1], 0))
        self.centre = np.clip(self._onto(centre[None]), 0.0, 1.0)[0]

    def _onto(self, x: Array) -> Array:
        """Rounding errors against the equalities taken out."""
        return x if not len(self.e) else x - (x @ self.e.T - self.f) @ self._inverse.T

    def chord(self, x: Array, direction: Array) -> tuple[Array, Array]:
        """How far back (<= 0) and forth (>= 0) one may go from each x along its direction; both of shape (n,)."""
        if not len(self.a):
            return np.zeros(len(x)), np.zeros(len(x))
        slack = np.maximum(self.b - x @ self.a.T, 0.0)
        rate = direction @ self.a.T
        small = np.abs(rate) < 1e-14
        ratio = slack / np.where(small, 1.0, rate)
        forth = np.where(small | (rate < 0), np.inf, ratio).min(1)
        back = np.where(small | (rate > 0), -np.inf, ratio).max(1)
        return np.where(np.isfinite(back), back, 0.0), np.where(np.isfinite(forth), forth, 0.0)

    def walk(self, x: Array, rng: np.random.Generator, steps: int) -> Array:
        """Hit-and-run (Smith 1984) from points inside: after many steps they are uniform over the set."""
        if not self.basis.shape[1]:
            return x
        for _ in range(steps):
            direction = rng.standard_normal((len(x), self.basis.shape[1])) @ self.basis.T
            back, forth = self.chord(x, direction)
            x = x + (back + (forth - back) * rng.random(len(x)))[:, None] * direction
        return np.clip(self._onto(x), 0.0, 1.0)

    @cached_property
    def _mixed(self) -> Array:
        rng = np.random.default_rng(0)
        return self.walk(np.tile(self.centre, (256, 1)), rng, 20 + 6 * self.basis.shape[1])

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """n points, near enough uniform over the set; shape (n, k)."""
        return self.walk(self._mixed[rng.integers(len(self._mixed), size=n)], rng, 4)

    def towards(self, x: Array, target: Array) -> Array:
        """From each x inside as far towards its target, along the set, as the set goes."""
        direction = (target - x) @ self.basis @ self.basis.T
        step = np.clip(self.chord(x, direction)[1], 0.0, 1.0)
        return np.clip(self._onto(x + step[:, None] * direction), 0.0, 1.0)


def polytope(a: Array, b: Array, e: Array, f: Array) -> Polytope | None:
    """The set {x in [0, 1]^k: a x <= b, e x = f}, or None where it is empty.

    Bounds that leave no width ("x <= 0" with "x >= 0") are found and kept as equalities.
    """
    k = a.shape[1]
    if k == 0:
        kept = (b >= -1e-8).all() and (np.abs(f) <= 1e-8).all()
        return Polytope(np.zeros((0, 0)), np.zeros(0), np.zeros((0, 0)), np.zeros(0), np.zeros(0)) if kept else None
    a = np.vstack([a, np.eye(k), -np.eye(k)])
    b = np.concatenate([b, np.ones(k), np.zeros(k)])
    norm = np.linalg.norm(a, axis=1)
    dead = norm < 1e-12
    if (b[dead] < -1e-8).any():
        return None
    a, b = a[~dead] / norm[~dead, None], b[~dead] / norm[~dead]
    found = _centre(a, b, e, f)
    if found is None:
        return None
    centre, radius = found
    if radius < FLAT:
        flat = np.array([_slack(row, bound, a, b, e, f) < 10 * FLAT for row, bound in zip(a, b, strict=True)])
        e, f = np.vstack([e, a[flat]]), np.concatenate([f, b[flat]])
        found = _centre(a, b, e, f)
        centre = centre if found is None else found[0]
    return Polytope(a, b, e, f, centre)


def _centre(a: Array, b: Array, e: Array, f: Array) -> tuple[Array, float] | None:
    """The centre and radius of the largest ball inside (Chebyshev), within the plane of the equalities."""
    k = a.shape[1]
    within = null_space(e, rcond=1e-10) if len(e) else np.eye(k)
    reach = np.linalg.norm(a @ within, axis=1)
    reach[reach < 1e-10] = 0.0
    solved = linprog(
        np.append(np.zeros(k), -1.0),
        A_ub=np.column_stack([a, reach]),
        b_ub=b,
        A_eq=np.column_stack([e, np.zeros(len(e))]) if len(e) else None,
        b_eq=f if len(e) else None,
        bounds=[(0.0, 1.0)] * k + [(0.0, 1.0)],
        method="highs",
    )
    return (solved.x[:k], float(solved.x[k])) if solved.status == 0 else None


def _slack(row: Array, bound: float, a: Array, b: Array, e: Array, f: Array) -> float:
    """The most room that one bound can have while the others are kept."""
    equal = {"A_eq": e, "b_eq": f} if len(e) else {}
    solved = linprog(row, A_ub=a, b_ub=b, bounds=(0.0, 1.0), method="highs", **equal)
    return float(bound - solved.fun) if solved.status == 0 else np.inf
