"""Spaces under constraints: every point made is legal, and impossible constraints are named."""

import numpy as np
import pytest
from msgspec.structs import replace

from firstlight import core
from firstlight.strategies import infeasible
from firstlight.strategies._polytope import polytope
from firstlight.strategies._space import Space
from firstlight.testing.strategy import SPECS, check_point

BY_NAME = {s.id: s for s in SPECS}
NONE = np.zeros((0, 2)), np.zeros(0)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.id)
def test_sampled_points_and_their_neighbours_are_legal(spec: core.CampaignSpec) -> None:
    space, rng = Space(spec), np.random.default_rng(0)
    raw = space.sample(150, rng)
    assert len(raw) == 150
    if space.rows is None:
        raw = np.vstack([raw, space.near(raw[:5], 150, 0.2, rng), space.near(raw[:3], 50, 0.01, rng)])
        assert len(raw) == 350
    for point in space.encoding.points(raw):
        check_point(spec, point)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.id)
def test_encoding_and_decoding_agree(spec: core.CampaignSpec) -> None:
    space = Space(spec)
    raw = space.sample(30, np.random.default_rng(1))
    points = space.encoding.points(raw)
    assert space.encoding.raw(points) == pytest.approx(raw)
    features = space.encoding.features(raw)
    assert space.encoding.features_as_run(points) == pytest.approx(features)
    assert ((features >= -3.0) & (features <= 3.0)).all()


def test_different_names_are_at_unit_distance() -> None:
    encoding = Space(BY_NAME["exclude"]).encoding
    rows = encoding.raw([{"solvent": "water", "base": b, "stir": "low", "t": 50.0} for b in ("KOH", "NEt3", "none")])
    x = encoding.features(rows)
    assert [np.linalg.norm(x[0] - x[i]) for i in (1, 2)] == pytest.approx([1.0, 1.0])


def test_hit_and_run_is_uniform_over_a_triangle() -> None:
    found = polytope(np.array([[1.0, 1.0]]), np.array([1.0]), *NONE)
    assert found is not None
    x = found.sample(6_000, np.random.default_rng(0))
    assert (x.sum(1) <= 1.0 + 1e-9).all()
    assert x.mean(0) == pytest.approx([1 / 3, 1 / 3], abs=0.03)
    assert (x[:, 0] < 0.5).mean() == pytest.approx(0.75, abs=0.04)


def test_flat_and_empty_sets_are_told_apart() -> None:
    flat = polytope(np.array([[1.0, 1.0], [-1.0, -1.0]]), np.array([0.7, -0.7]), *NONE)
    assert flat is not None
    x = flat.sample(200, np.random.default_rng(0))
    assert x.sum(1) == pytest.approx(0.7)
    assert np.ptp(x[:, 0]) > 0.5
    assert polytope(np.array([[1.0, 1.0], [-1.0, -1.0]]), np.array([0.7, -0.8]), *NONE) is None


def test_every_part_and_every_number_of_parts_occurs() -> None:
    spec = BY_NAME["mixture"]
    raw = Space(spec).sample(400, np.random.default_rng(0))[:, :7]
    assert set((raw > 0).sum(1)) == {2, 3}
    assert (raw > 0).any(0).all()


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.id)
def test_feasible_specifications_have_no_reason(spec: core.CampaignSpec) -> None:
    assert infeasible(spec) is None


@pytest.mark.parametrize(
    ("name", "constraints", "named"),
    [
        ("simplex", (core.Linear(terms={"u": 1.0, "v": 1.0}, relation=">=", bound=2.5),), "constraint 1"),
        (
            "simplex",
            (core.Mixture(parameters=("u", "v")), core.Linear(terms={"u": 1.0, "v": 1.0}, relation="<=", bound=0.9)),
            "constraint 2",
        ),
        ("mixture", (core.Mixture(parameters=("m1", "m2", "m3"), total=100.0, max_parts=1),), "mixture of 1 to 1"),
        ("atoms", (core.Linear(terms={"Fe": 2.0, "Ni": 2.0}, relation="==", bound=7.0),), "2 Fe + 2 Ni == 7"),
        ("exclude", (core.Exclude(combination={"base": ("KOH", "NEt3", "none")}),), "exclude base"),
        ("pool", (core.Linear(terms={"n": 1.0}, relation="<=", bound=0.0),), "no row of the pool"),
    ],
)
def test_impossible_constraints_are_named(name: str, constraints: tuple[core.Constraint, ...], named: str) -> None:
    reason = infeasible(replace(BY_NAME[name], constraints=constraints))
    assert reason is not None
    assert named in reason


def test_a_constraint_that_cannot_be_read_says_so() -> None:
    for terms, complaint in (({"nobody": 1.0}, "not a parameter"), ({"base": 1.0}, "not a number")):
        with pytest.raises(ValueError, match=complaint):
            infeasible(replace(BY_NAME["exclude"], constraints=(core.Linear(terms=terms, relation="<=", bound=1.0),)))


def test_a_space_of_which_every_parameter_is_tied_is_listed_whole() -> None:
    sites = tuple(core.Integer(name=name, low=0, high=4) for name in ("Fe", "Mn", "Co", "Ni"))
    goal = core.Goal(objectives=(core.Objective(observable="y", direction="maximize"),))
    spec = core.CampaignSpec(
        id="c", parameters=sites, goal=goal, procedure=core.ProcedureSpec(steps=()),
        constraints=(core.Mixture(parameters=("Fe", "Mn", "Co", "Ni"), total=4.0),),
    )  # fmt: skip
    rows = Space(spec).rows
    assert rows is not None
    assert rows.shape == (35, 4)
    assert (rows.sum(1) == 4).all()


def test_what_a_forbidden_box_leaves_is_filled_evenly() -> None:
    """A frame of which each side has a known share of the area."""
    region = core.Forbid(ranges={"a": (0.2, 0.9), "b": (0.1, 0.6)})
    spec = replace(BY_NAME["simplex"], parameters=_square("a", "b"), constraints=(region,))
    raw = Space(spec).sample(8_000, np.random.default_rng(0))
    assert len(raw) == 8_000
    left = 1.0 - 0.7 * 0.5
    for part, share in (
        (raw[:, 0] < 0.2, 0.2),
        (raw[:, 0] > 0.9, 0.1),
        ((raw[:, 0] >= 0.2) & (raw[:, 0] <= 0.9) & (raw[:, 1] < 0.1), 0.07),
        ((raw[:, 0] >= 0.2) & (raw[:, 0] <= 0.9) & (raw[:, 1] > 0.6), 0.28),
    ):
        assert part.mean() == pytest.approx(share / left, abs=0.02)


def test_a_log_scale_stays_one_beside_a_forbidden_range() -> None:
    c = core.Continuous(name="c", low=1e-6, high=1.0, scale="log")
    spec = replace(
        BY_NAME["simplex"], parameters=(c,), constraints=(core.Forbid(ranges={"c": (1e-4, 1e-3)}),)
    )  # fmt: skip
    raw = Space(spec).sample(6_000, np.random.default_rng(0))[:, 0]
    assert (raw < 1e-5).mean() == pytest.approx(1 / 5, abs=0.02)
    assert (raw > 1e-2).mean() == pytest.approx(2 / 5, abs=0.02)


def test_a_discrete_space_with_forbidden_regions_is_listed_whole_and_once() -> None:
    parameters = (core.Integer(name="k", low=1, high=200), core.Categorical(name="base", values=("KOH", "none")))
    constraints = (
        core.Forbid(ranges={"k": (50.0, 199.0)}, values={"base": ("KOH",)}),
        core.Forbid(ranges={"k": (0.0, 10.0)}),
    )
    spec = replace(BY_NAME["simplex"], parameters=parameters, constraints=constraints)
    rows = Space(spec).rows
    assert rows is not None
    points = [(k, b) for k in range(1, 201) for b in ("KOH", "none")]
    legal = [p for p in points if not core.violations(spec, {"k": p[0], "base": p[1]})]
    assert sorted((int(k), ("KOH", "none")[int(b)]) for k, b in rows) == sorted(legal)


def test_every_legal_point_has_a_skeleton_and_no_forbidden_one_has() -> None:
    for name in ("forbidden box", "overlapping boxes", "forbidden names", "forbidden whole numbers"):
        spec = BY_NAME[name]
        space, bare = Space(spec), Space(replace(spec, constraints=()))
        raw = bare.sample(400, np.random.default_rng(1))
        legal = [not core.violations(spec, p) for p in bare.encoding.points(raw)]
        assert 20 < sum(legal) < 380
        allowed = [space.choices.allows(space.choices.of(row)) for row in raw]
        assert allowed == legal, name


def test_regions_that_leave_nothing_are_named() -> None:
    regions = (
        core.Forbid(ranges={"a": (0.0, 0.6)}),
        core.Forbid(ranges={"a": (0.5, 1.0)}),
    )
    spec = replace(BY_NAME["simplex"], parameters=_square("a", "b"), constraints=regions)
    assert infeasible(spec) == "constraint 2 (forbid a 0.5 to 1) leaves no point together with those before it"
    whole = replace(spec, constraints=(core.Forbid(ranges={"a": (0.0, 1.0), "b": (-1.0, 2.0)}),))
    assert "constraint 1 (forbid a 0 to 1, b -1 to 2) leaves no point within" in str(infeasible(whole))
    mixed = replace(
        BY_NAME["simplex"],
        constraints=(core.Mixture(parameters=("u", "v", "w")), core.Forbid(ranges={"u": (0.1, 1.0)}),
                     core.Forbid(ranges={"v": (0.2, 1.0)}), core.Forbid(ranges={"w": (0.6, 1.0)})),
    )  # fmt: skip
    assert "constraint 4 (forbid w 0.6 to 1) leaves no point together" in str(infeasible(mixed))


def _square(*names: str) -> tuple[core.Continuous, ...]:
    return tuple(core.Continuous(name=n, low=0.0, high=1.0) for n in names)
