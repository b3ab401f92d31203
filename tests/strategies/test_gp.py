"""The arithmetic of the surrogate, against direct formulas."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import approx_fprime
from scipy.stats import norm

from firstlight.strategies._acquisition import log_ei
from firstlight.strategies._gp import (
    GP,
    JITTER,
    MANY,
    Belief,
    Hyper,
    Trend,
    distances,
    fit,
    matern,
    negative_log_posterior,
)


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
        return np.asarray(hyper.signal * matern(r2))

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


def _many(trend: Trend | None) -> tuple[GP, np.ndarray]:
    """One that is grown and not begun anew when it believes, and what it is to believe."""
    rng = np.random.default_rng(4)
    x = rng.random((MANY + 20, 3))
    known = rng.random(len(x)) * 0.1
    hyper = Hyper(np.array([0.3, 0.5, 2.0]), 1e-2, 1.2)
    return GP(x, 7.0 + np.sin(5 * x[:, 0]), known, np.arange(3), hyper, 7.0, 0.6, trend), rng.random((4, 3))


@pytest.mark.parametrize("trend", [None, lambda x: 7.0 + x[:, 0]])
def test_grown_by_what_it_believes_it_is_as_if_begun_anew(trend: Trend | None) -> None:
    gp, believed = _many(trend)
    new = np.random.default_rng(5).random((30, 3))
    grown = gp.believing(believed[:1]).believing(believed[1:])
    anew = GP(grown.x, grown.y, grown.extra, gp.owner, gp.hyper, gp.shift, gp.unit, trend)
    assert grown.predict(new).mean == pytest.approx(anew.predict(new).mean, rel=1e-9)
    assert grown.predict(new).deviation == pytest.approx(anew.predict(new).deviation, rel=1e-6)
    assert grown.between(new[:5], believed[[0] * 5]) == pytest.approx(
        anew.between(new[:5], believed[[0] * 5]), abs=1e-9
    )


@pytest.mark.parametrize("trend", [None, lambda x: 7.0 + x[:, 0]])
def test_what_it_watches_it_judges_as_anything_else(trend: Trend | None) -> None:
    gp, believed = _many(trend)
    seen = np.random.default_rng(6).random((50, 3))
    watching = gp.watching(seen)
    for _ in range(3):
        quick, plain = watching.predict(seen), watching.predict(seen.copy())
        assert quick.mean == pytest.approx(plain.mean, rel=1e-9)
        assert quick.deviation == pytest.approx(plain.deviation, rel=1e-6)
        watching, believed = watching.believing(believed[:2]), believed[1:]


def test_a_fit_finds_which_parameter_matters() -> None:
    rng = np.random.default_rng(3)
    x = rng.random((40, 3))
    y = np.sin(9 * x[:, 1])
    hyper = fit(x, (y - y.mean()) / y.std(), np.zeros(40), np.arange(3))
    assert hyper.lengths[1] < 0.5 * min(hyper.lengths[0], hyper.lengths[2])
    assert hyper.noise < 0.05
