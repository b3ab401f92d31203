"""The words of the journal are kept for ever: what was written once must always read the same."""

from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from firstlight import core
from firstlight.testing.journal import EXAMPLES, entry

GOLDEN = Path(__file__).parent / "golden"
KINDS = {kind.__name__ for kind in get_args(core.Fact)}


def test_every_fact_has_a_golden_file_and_an_example() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == KINDS
    assert {type(fact).__name__ for fact in EXAMPLES} == KINDS
    assert len(EXAMPLES) == len(KINDS)


@pytest.mark.parametrize(("seq", "fact"), list(enumerate(EXAMPLES, 1)), ids=lambda x: type(x).__name__)
def test_an_entry_is_written_and_read_as_ever(seq: int, fact: core.Fact) -> None:
    line = (GOLDEN / f"{type(fact).__name__}.json").read_bytes().removesuffix(b"\n")
    assert core.encode(entry(seq, fact)) == line
    assert core.decode(line) == entry(seq, fact)


@pytest.mark.parametrize("fact", EXAMPLES, ids=lambda fact: type(fact).__name__)
def test_every_field_is_filled(fact: core.Fact) -> None:
    assert list(_defaults(fact, type(fact).__name__)) == []


def _defaults(value: object, where: str) -> list[str]:
    """The fields, at any depth, that a golden file would not show to have been kept: those left at their default."""
    if isinstance(value, (tuple, list)):
        return [found for number, item in enumerate(value) for found in _defaults(item, f"{where}[{number}]")]
    if not isinstance(value, msgspec.Struct):
        return []
    left = []
    for field in msgspec.structs.fields(value):
        inner = getattr(value, field.name)
        if inner == field.default or (field.default_factory is not msgspec.NODEFAULT and not inner):
            left.append(f"{where}.{field.name}")
        left += _defaults(inner, f"{where}.{field.name}")
    return left


def test_old_words_become_new_ones() -> None:
    """A field renamed and a field added since schema 1, read by a version that writes schema 2 (and 3)."""
    line = b'{"seq":3,"at":7.5,"by":"anna","fact":{"type":"CampaignPaused","why":"lunch"},"schema":1}'

    def to_2(plain: dict[str, Any]) -> dict[str, Any]:
        fact = dict(plain["fact"])
        fact["reason"] = fact.pop("why")
        return plain | {"fact": fact}

    def to_3(plain: dict[str, Any]) -> dict[str, Any]:
        assert plain["schema"] == 2
        return plain | {"by": plain["by"].title()}

    with pytest.raises(core.UnreadableEntry):
        core.decode(line)
    found = core.decode(line, upcasts={1: to_2}, schema=2)
    assert found == core.Entry(seq=3, at=7.5, by="anna", fact=core.CampaignPaused(reason="lunch"), schema=2)
    found = core.decode(line, upcasts={1: to_2, 2: to_3}, schema=3)
    assert (found.by, found.schema) == ("Anna", 3)


def test_newer_words_are_refused_by_name() -> None:
    line = core.encode(entry(1)).replace(b'"schema":1', b'"schema":9')
    with pytest.raises(core.UnreadableEntry, match=r"schema 9.*install a newer firstlight"):
        core.decode(line)


def test_an_upcast_that_is_missing_is_no_crash() -> None:
    with pytest.raises(core.UnreadableEntry):
        core.decode(core.encode(entry(1)), upcasts={}, schema=2)


def test_a_trial_from_before_decisions_were_recorded_is_read_without_one() -> None:
    line = msgspec.json.decode((GOLDEN / "TrialProposed.json").read_bytes())
    del line["fact"]["decision"], line["fact"]["asked"]
    fact = core.decode(msgspec.json.encode(line)).fact
    assert isinstance(fact, core.TrialProposed)
    assert (fact.decision, fact.asked, fact.reason) == (None, None, "high variance")
