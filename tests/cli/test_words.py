"""Numbers and facts as a person reads them."""

from typing import get_args

import msgspec
import pytest

from firstlight import core
from firstlight.cli import _words as words
from firstlight.cli._documents import fact_document
from firstlight.testing.world import a_spec


@pytest.mark.parametrize(
    ("value", "sigma", "expected"),
    [
        (0.94213, 0.0, "0.9421"),
        (0.94213, 0.012, "0.942 ± 0.012"),
        (1234.0, 30.0, "1234 ± 30"),
        (1e-9, 1e-11, "1e-09 ± 1e-11"),
    ],
)
def test_a_number_has_the_digits_its_sigma_leaves(value: float, sigma: float, expected: str) -> None:
    assert words.number(value, sigma) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.23, "0.2 s"),
        (9.97, "10 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 05 min"),
        (270_000, "3 d 3 h"),
    ],
)
def test_a_duration_is_as_long_as_it_matters(seconds: float, expected: str) -> None:
    assert words.duration(seconds) == expected


def one_of_each() -> list[core.Fact]:
    action = core.Action(id="c1.1.evaluate", trial="c1.1", facility="f", name="evaluate", operation="o", point={})
    seen = core.Measured(observations=(core.Observation(observable="y", value=1.0),))
    given = {
        "facility": "polaris",
        "spec": a_spec(), "runner": "ada", "trial": "c1.1", "point": {"x": 0.5}, "actions": (action,), "outcome": seen,
        "reason": "why", "action": action.id, "policies": ("p",), "reasons": ("why",), "to": "owner", "question": "?",
        "job": "7", "measured": seen, "failure": core.Failure(cause="crashed"), "digest": "sha256:0", "dataset": "d",
        "rows": 3, "model": "m", "trials": ("c1.1",), "seconds": 3.0, "versions": {"m": "m:1"},
        "campaigns": (core.EarlierCampaign(campaign="c0", entries=9),),
        "training": "train-m-1",
        "region": core.Forbid(ranges={"x": (0.2, 0.4)}), "revision": 7, "budget": core.Budget(trials=9),
    }  # fmt: skip
    return [
        kind(**{f.name: given[f.name] for f in msgspec.structs.fields(kind) if f.required})
        for kind in get_args(core.Fact)
    ]


@pytest.mark.parametrize("fact", one_of_each(), ids=lambda f: type(f).__name__)
def test_every_fact_is_a_sentence_and_a_document(fact: core.Fact) -> None:
    said = words.sentence(fact, "c1")
    assert said
    assert type(fact).__name__ not in said
    document = fact_document("c1", core.Entry(seq=1, at=2.0, by="ada", fact=fact))
    own = {f.name for f in msgspec.structs.fields(type(fact))}
    # No field of a fact may hide where and when it was recorded.
    assert set(document) == {"kind", "campaign", "seq", "at", "by"} | own
    assert not own & {"kind", "campaign", "seq", "at", "by"}
    assert document["kind"] == type(fact).__name__
