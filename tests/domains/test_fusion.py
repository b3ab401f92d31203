"""Equilibria and shape metrics against closed forms, and against a design that others published."""

from types import SimpleNamespace

import numpy as np
import pytest

from firstlight import app, core
from firstlight.domains import fusion

pytest.importorskip("vmecpp")

PUBLISHED = fusion.Shape(
    r=np.array([
        [0, 0, 0, 0, 1.0, 0.31780240, -0.00494454, 0.00083566, 0.00055483],
        [0.00022784, -0.00250483, -0.00197919, -0.05986010, 0.23789309,
         0.07041809, -0.03405649, -0.00125529, 0.00036255],
        [0.00017649, -0.00087868, 0.00871051, -0.00610833, 0.01279918, 0.02540372, 0.00612022, 0.00578207, -0.00032573],
        [-0.00018625, 0.00184026, -0.00286946, 0.00324973, -0.00325465,
         0.00289275, -0.00572730, 0.00093499, -0.00029069],
        [-0.00013796, -7.114e-5, -3.700e-5, -9.262e-5, -7.553e-5, -5.891e-5, -0.00016788, -0.00013512, -0.00075776],
    ]),
    z=np.array([
        [0, 0, 0, 0, 0, -0.36824376, -0.01031333, 0.00095098, 8.7317e-5],
        [-0.00021821, 0.00257056, -0.01277956, -0.05705253, 0.25012257,
         0.01220720, 0.03403132, 0.00035768, -0.00028456],
        [0.00065812, 0.00013515, 0.02144158, -0.00948726, 0.02387563, 0.01832947, 0.03202331, -0.00240281, -0.00021251],
        [0.00042403, -0.00092677, 0.00254713, 0.00182522, 0.00254474, -0.00061395, 0.00405195, -0.00211937, 0.00066445],
        [0.00033148, 0.00032787, 0.00013156, -2.589e-5, 0.00058221, 3.0279e-5, -0.00013870, 0.00054532, 0.00024047],
    ]),
)  # fmt: skip
"""A public submission to the geometrical problem (jungdaesuh/ai-sci-feasible-designs), its modes above 5e-5.

Its authors report 1.2667, 3.9994, -0.4952 and 0.2989 at the benchmark's high fidelity.
"""
CENTRE: core.Point = {name: 0.25 if name == "d0_0" else 0.0 for name in fusion.modes()}


def ring(minor: float, height: float) -> SimpleNamespace:
    """An axisymmetric torus as VMEC++ would give it back, of elliptical section."""
    return SimpleNamespace(
        xm=np.array([0, 1]), xn=np.zeros(2),
        rmnc=np.array([[1.0, 1.0], [0.0, minor]]), zmns=np.array([[0.0, 0.0], [0.0, height * minor]]),
    )  # fmt: skip


@pytest.fixture(scope="module")
def published() -> fusion.Torus:
    return fusion.solve(PUBLISHED)


def test_a_published_design_is_what_its_authors_say(published: fusion.Torus) -> None:
    assert published.aspect_ratio == pytest.approx(3.9994, abs=2e-4)
    assert published.triangularity == pytest.approx(-0.4952, abs=2e-4)
    assert published.transform == pytest.approx(0.2989, abs=2e-4)
    # The benchmark takes its sections on a coarser grid and in another way, which reads 2 to 4 % more.
    assert 0.96 * 1.2667 < published.elongation < 1.2667
    assert fusion.score(published) > 0.97


@pytest.mark.parametrize("kappa", [1.0, 1.3, 2.5])
def test_the_elongation_of_an_ellipse_is_the_ratio_of_its_axes(kappa: float) -> None:
    assert fusion.max_elongation(ring(0.2, kappa)) == pytest.approx(kappa, rel=2e-6)


def test_triangularity_of_a_known_section() -> None:
    r, z = np.zeros((3, 1)), np.zeros((3, 1))
    r[:, 0], z[1, 0] = [1.0, 0.2, 0.02], 0.2
    # R = 1 + 0.2 cos u + 0.02 cos 2u is highest at u = 90 degrees, where it is 0.98; R runs from 0.82 to 1.22.
    assert fusion.average_triangularity(fusion.Shape(r=r, z=z)) == pytest.approx(0.1, abs=0.006)
    assert fusion.average_triangularity(fusion.Shape(r=r * [[1], [1], [0]], z=z)) == pytest.approx(0.0, abs=0.01)


def test_a_round_torus_without_current_twists_nothing() -> None:
    seen = fusion.evaluate(CENTRE)
    assert seen["aspect_ratio"] == pytest.approx(4.0, rel=1e-4)
    assert seen["elongation"] == pytest.approx(1.0, abs=1e-4)
    assert seen["transform"] == pytest.approx(0.0, abs=1e-6)
    assert seen["score"] == 0.0


def test_coefficients_make_the_boundary_they_stand_for() -> None:
    point = CENTRE | {"d1_1": 0.2, "d2_1": 0.05, "dn1_0": 0.03, "d0_n2": 0.01}
    shape = fusion.boundary(point)
    u, v = 0.7, 0.3
    whole = np.exp(1j * u) * sum(
        value * np.exp(-1j * m * u + 1j * n * fusion.PERIODS * v)
        for (m, n), value in [((1, 0), 1.0), *((fusion.modes()[k], x) for k, x in point.items())]
    )
    m, n = np.arange(3), np.arange(-2, 3)
    angle = m[:, None] * u - n * fusion.PERIODS * v
    assert (shape.r * np.cos(angle)).sum() == pytest.approx(whole.real)
    assert (shape.z * np.sin(angle)).sum() == pytest.approx(whole.imag)


def test_a_boundary_that_crosses_itself_has_no_equilibrium() -> None:
    with pytest.raises(core.Failed) as failed:
        fusion.evaluate(CENTRE | {"d2_0": 0.26, "d3_1": 0.2})
    assert failed.value.cause == "did-not-converge"
    assert failed.value.message


def test_the_same_point_gives_the_same_numbers() -> None:
    point = CENTRE | {"d1_1": 0.2, "d2_1": 0.05}
    first = fusion.evaluate(point)
    assert fusion.evaluate(point) == first
    assert first["transform"] > 0.05


def test_bounds_are_those_of_the_benchmark_with_its_tolerance() -> None:
    spec = app.check_spec(fusion.spec())
    assert len(spec.parameters) == 24
    assert {c.observable: round(c.bound, 6) for c in spec.goal.outcome_constraints} == {
        "aspect_ratio": 4.04, "triangularity": -0.495, "transform": 0.297,
    }  # fmt: skip
    torus = fusion.Torus(elongation=1.9, aspect_ratio=4.03, triangularity=-0.496, transform=0.298)
    assert fusion.score(torus) == pytest.approx(0.9)
    assert fusion.score(fusion.Torus(elongation=1.9, aspect_ratio=4.05, triangularity=-0.5, transform=0.3)) == 0.0
