"""The arithmetic of the surrogate, against direct formulas."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import approx_fprime
from scipy.stats import norm

from firstlight.strategies._acquisition import log_ei
from firstlight.strategies._gp import GP, JITTER, Belief, Hyper, distances, fit, matern, negative_log_posterior


@pytest.mark.parametrize("gap", [-30.0, -5.0, -1.0, -0.1, 0.0, 2.0])
def test_log_expected_improvement_is_the_integral(gap: float) -> None:
    mean, deviation = 1.5, 0.7
    best = mean + gap * deviation
    # With the density's peak over the range taken out, so that the integral does not underflow.
    peak = norm.logpdf(min(gap, 0.0))
    integral, _ = quad(lambda z: (gap - z) * np.exp(norm.logpdf(z) - peak), gap - 12.0, gap, points=[min(gap, 0.0)])
    found = log_ei(Belief(np.array([mean]), np.array([deviation])), best)[0]
    assert found == pytest.approx(np.log(integral) + peak + np.log(deviation), rel=1e-6)


def test_log_expected_improvement_stays_finite_and_ordered_far_away() -> None:
    gaps = np.array([-1e2, -9.99e2, -1.001e3, -1e5])
    found = log_ei(Belief(-gaps, np.ones(4)), 0.0)
    assert np.isfinite(found).all()
    assert (np.diff(found) < 0).all()
    assert found[0] == pytest.approx(norm.logpdf(100.0) - 2 * np.log(100.0), rel=1e-6)


def test_gradients_of_the_posterior_density_are_right() -> None:
    rng = np.random.default_rng(0)
    x, owner = rng.random((14, 4)), np.array([0, 1, 1, 2])
    apart, y, extra = distances(x, owner), rng.standard_normal(14), rng.random(14) * 0.1
    for _ in range(3):
        theta = rng.normal(0.0, 0.7, 5)
        _, slope = negative_log_posterior(theta, apart, y, extra)
        numeric = approx_fprime(theta, lambda t: negative_log_posterior(t, apart, y, extra)[0], 1e-6)
        assert slope == pytest.approx(numeric, rel=1e-3, abs=1e-4)


def test_the_posterior_is_the_textbook_formula() -> None:
    rng = np.random.default_rng(1)
    x, new, owner = rng.random((9, 2)), rng.random((5, 2)), np.array([0, 1])
    y, extra = 40.0 + 8.0 * rng.standard_normal(9), np.full(9, 0.5)
    hyper = Hyper(np.array([0.4, 0.9]), 0.02, 1.3)
    gp = GP(x, y, extra, owner, hyper, 40.0, 8.0)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        r2 = (((a[:, None] - b[None]) / hyper.lengths) ** 2).sum(-1)
        return np.asarray(hyper.signal * matern(r2)[0])

    k = kernel(x, x) + np.diag(hyper.noise + extra / 64.0 + JITTER)
    inverse, z, ones = np.linalg.inv(k), (y - 40.0) / 8.0, np.ones(9)
    level = ones @ inverse @ z / (ones @ inverse @ ones)
    mean = level + kernel(new, x) @ inverse @ (z - level)
    variance = hyper.signal - np.einsum("ij,jk,ik->i", kernel(new, x), inverse, kernel(new, x))
    belief = gp.predict(new)
    assert belief.mean == pytest.approx(40.0 + 8.0 * mean)
    assert belief.deviation == pytest.approx(8.0 * np.sqrt(variance), rel=1e-6)


def test_believing_narrows_and_keeps_the_mean() -> None:
    rng = np.random.default_rng(2)
    x = rng.random((8, 2))
    gp = GP(x, np.sin(5 * x[:, 0]), np.zeros(8), np.array([0, 1]), Hyper(np.full(2, 0.5), 1e-3, 1.0), 0.0, 1.0)
    new = rng.random((3, 2))
    before, after = gp.predict(new), gp.believing(new).predict(new)
    assert (after.deviation < 0.5 * before.deviation).all()
    assert after.mean == pytest.approx(before.mean, abs=0.05)


def test_a_fit_finds_which_parameter_matters() -> None:
    rng = np.random.default_rng(3)
    x = rng.random((40, 3))
    y = np.sin(9 * x[:, 1])
    hyper = fit(x, (y - y.mean()) / y.std(), np.zeros(40), np.arange(3))
    assert hyper.lengths[1] < 0.5 * min(hyper.lengths[0], hyper.lengths[2])
    assert hyper.noise < 0.05
