"""The folding against ViennaRNA's own manual, an explicit sum over all structures, and players' solutions."""

import math
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from firstlight import core
from firstlight.app import check_spec
from firstlight.domains import rna_design

RNA: Any = pytest.importorskip("RNA")

KT = 1.98717e-3 * 310.15
"""kcal/mol at 37 degC, with the gas constant that ViennaRNA has."""


TRIPOD5 = "CAUUCCCCCCGAGAAGGGGGGGCGAAAAGCCCGGAAAA"
"""The solution published with the puzzle."""


def point_of(bases: str, target: str) -> core.Point:
    partner = rna_design.pairs_of(target)
    paired: core.Point = {f"pair_{i + 1}_{j + 1}": bases[i] + bases[j] for i, j in partner.items()}
    return paired | {f"base_{i + 1}": base for i, base in enumerate(bases) if target[i] == "."}


def random_points(count: int, seed: int) -> Iterator[core.Point]:
    rng = random.Random(seed)
    for _ in range(count):
        yield {p.name: rng.choice(p.values) for p in rna_design.spec().parameters if isinstance(p, core.Categorical)}


def structures(bases: str, start: int, stop: int) -> Iterator[str]:
    """Every secondary structure of bases[start:stop], whose hairpins enclose three bases or more."""
    if start >= stop:
        yield ""
        return
    for rest in structures(bases, start + 1, stop):
        yield "." + rest
    for end in range(start + 4, stop):
        if bases[start] + bases[end] in rna_design.PAIRS:
            for inside in structures(bases, start + 1, end):
                for rest in structures(bases, end + 1, stop):
                    yield f"({inside}){rest}"


def test_the_example_of_the_manual_to_every_digit() -> None:
    bases, target = "CUACGGCGCGGCGCCCUUGGCGA", "...........((((...))))."
    seen = rna_design.evaluate(point_of(bases, target), target)
    assert round(seen["energy"], 2) == -5.00
    assert round(seen["energy"] - seen["gap"], 2) == -5.72
    assert round(seen["probability"] / 100, 6) == 0.311796
    assert seen["distance"] == 0


@pytest.mark.parametrize("bases", ["GGCAGCUUCGGUUG", "GCGAUUUAAACGCA", "ACGGAAAUCCGUAC"])
def test_an_explicit_sum_over_all_structures(bases: str) -> None:
    compound = RNA.fold_compound(bases)
    energies = {s: compound.eval_structure(s) for s in structures(bases, 0, len(bases))}
    weights = {s: math.exp(-energy / KT) for s, energy in energies.items()}
    total = sum(weights.values())
    target = min((s for s in energies if "(" in s), key=energies.__getitem__)
    pairs = {s: rna_design.pairs_of(s) if "(" in s else {} for s in energies}
    wrong = {s: len(bases) - same(pairs[s], pairs[target], len(bases)) for s in energies}
    # rel: ViennaRNA smooths the weights of dangling ends.
    seen = rna_design.evaluate(point_of(bases, target), target)
    assert len(energies) > 20
    assert seen["probability"] == pytest.approx(100 * weights[target] / total, rel=0.01)
    assert seen["gap"] == pytest.approx(energies[target] + KT * math.log(total), abs=0.01)
    assert seen["defect"] == pytest.approx(
        100 * sum(weights[s] * wrong[s] for s in energies) / total / len(bases), rel=0.01
    )


def same(a: dict[int, int], b: dict[int, int], length: int) -> int:
    """How many bases have the same partner, or none, in both."""
    both_ways = [{**pairs, **{j: i for i, j in pairs.items()}} for pairs in (a, b)]
    return sum(both_ways[0].get(i) == both_ways[1].get(i) for i in range(length))


@pytest.mark.parametrize(
    ("target", "bases"),
    [
        ("((((...)))).", "CCCCAGAGGGGA"),
        ("..((((((((.....)).))))))..", "AAGGGGCGCAGAAAAUGACGCCCCAA"),
        (rna_design.TRIPOD5, TRIPOD5),
        (
            "(((((((((....))))(((((....)))))(((((....)))))((((....))))))))).",
            "GCGCCCUCGGAAACGAGGGGAGAAAGCUCCCGCCAGGAAACUGGCGCUCGAAAGAGCGGCGCA",
        ),
        ("....(((((((((.((....))).)).).)))))....", "GAACGGGCCCUCCAUGGAAACGGCGACGUGGCCCAAAG"),
    ],
    ids=["8 G-C Placement", "26 stickshift", "40 Tripod5", "45 5 Adjacent Stack", "88 Zigzag Semicircle"],
)
def test_solutions_of_eterna_players_fold(target: str, bases: str) -> None:
    point = point_of(bases, target)
    assert rna_design.sequence(point, target) == bases
    assert rna_design.evaluate(point, target)["distance"] == 0
    assert not core.violations(rna_design.spec_for(target), point)


def test_a_weaker_stem_is_a_worse_design() -> None:
    strong = point_of(TRIPOD5, rna_design.TRIPOD5)
    seen = rna_design.evaluate(strong)
    weak = rna_design.evaluate({**strong, **{name: "GU" for name in strong if name.startswith("pair")}})
    assert weak["gap"] > seen["gap"] + 3
    assert weak["gc"] < seen["gc"]


def test_the_same_point_gives_the_same_numbers_whatever_the_defaults_are() -> None:
    (point,) = random_points(1, seed=5)
    first = rna_design.evaluate(point)
    RNA.cvar.dangles, RNA.cvar.temperature = 0, 60.0
    try:
        assert rna_design.evaluate(point) == first
    finally:
        RNA.cvar.dangles, RNA.cvar.temperature = 2, 37.0
    assert rna_design.evaluate(point) == first


def test_fifty_random_points() -> None:
    began = time.process_time()
    for point in random_points(50, seed=7):
        seen = rna_design.evaluate(point)
        bases = rna_design.sequence(point)
        assert set(seen) == {"gap", "probability", "defect", "distance", "gc", "energy"}
        assert all(0 <= seen[name] <= 100 for name in ("probability", "defect", "gc"))
        # The two come from single and double precision.
        assert seen["probability"] == pytest.approx(100 * math.exp(-seen["gap"] / KT), rel=1e-3)
        # At even odds or better nothing else can be the likeliest.
        assert seen["distance"] == 0 or seen["probability"] < 50
        assert all(bases[i] + bases[j] in rna_design.PAIRS for i, j in rna_design.pairs_of(rna_design.TRIPOD5).items())
    assert (time.process_time() - began) / 50 < 0.1


@pytest.mark.parametrize("wrong", [{}, {"base_1": "T"}, {"pair_3_36": "GA"}])
def test_a_point_of_another_target_is_invalid(wrong: core.Point) -> None:
    (point,) = random_points(1, seed=5)
    with pytest.raises(core.Failed, match="not a point of the target") as failed:
        rna_design.evaluate({**point, **wrong} if wrong else {}, rna_design.TRIPOD5)
    assert failed.value.cause == "invalid-input"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("((....", "position 2 is never closed"),
        ("(...))", "position 6 closes nothing"),
        ("((.))", "position 4 encloses fewer than 3"),
        ("((..[[..))..]]", r"made of \( \. and \)"),
        (".....", "has a base pair"),
        ("", "has a base pair"),
        ("(" + 400 * "." + ")", "at most 400 positions"),
    ],
)
def test_what_is_no_target(target: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rna_design.spec_for(target)


def test_a_campaign_for_any_target() -> None:
    for target in (rna_design.TRIPOD5, "..((((....))))..", "(((((.....))..((.........)))))"):
        spec = check_spec(rna_design.spec_for(target))
        assert len(spec.parameters) == target.count("(") + target.count(".")
        assert spec.procedure.steps[0].settings == {"target": target}
    assert check_spec(rna_design.spec()) == rna_design.spec_for(rna_design.TRIPOD5)
