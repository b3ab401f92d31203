"""A card says what is on record, all of it and nothing else; a licence loses no condition on the way."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from firstlight.catalog import Card, Record
from firstlight.catalog.library import Library
from firstlight.core import Asset, Row
from firstlight.factory import open_registry, prepared, register
from firstlight.models import Column, Gate, Item, Split, Training, TrainSpec
from firstlight.models import registry as r
from firstlight.models.card import CONDITIONS, card, licence, licence_of, named
from firstlight.models.registry import Compute, Curve, Parameters, Report


def item(**more: Any) -> Item:
    told: dict[str, Any] = {
        "dataset": "films@0123456789ab", "path": "a.parquet", "digest": "sha256:aa", "size": 12_345, "group": "films",
        "licence": "CC-BY-4.0", "training": "Yes", "columns": (Column(name="thickness", role="parameter", unit="nm"),),
    }  # fmt: skip
    return Item(**{**told, **more})


REPORT = Report(
    name="hardness", family="table", metric="crps", parent="hardness:1",
    scores={"crps": 0.21, "rmse": 0.4, "coverage_90": 0.87, "calibration_error": 0.033},
    baselines={"ridge": {"crps": 0.35, "rmse": 0.62}, "gp": {"crps": 0.29}}, parent_scores={"crps": 0.27},
    forgetting={"crps": 0.011},
    curve=Curve(steps=731, best_step=655, first=3.25, best=1.125, last=1.375),
    compute=Compute(
        device="cpu (2 cores)", seconds=92.5, device_hours=0.0514, world=2, tokens=46_784, tokens_per_second=505.8,
        energy_joules=1850.0, energy_source="estimate: 10 W for every busy core", memory_bytes=731_000_000,
    ),
    parameters=Parameters(changed=4_321, frozen=765), parts={"train": 210, "validation": 45, "test": 47},
    groups={"train": 14, "validation": 3, "test": 4}, software={"firstlight": "0.4.1", "torch": "2.13"}, seed=17,
    order="sha256:bb", data=(item(), item(dataset="oxides@ba9876543210", path="b.parquet", synthetic=True)),
    limits=("It knows films of 10 to 90 nm.",),
)  # fmt: skip
SPEC = TrainSpec(
    name="hardness", family="table", data=("kind:film hardness>0",), title="Hardness of films", parent="hardness:1",
    description="From four campaigns on sputtered films.", options={"layers": 3}, licence="Apache-2.0",
    split=Split(validation=0.16, test=0.17, seed=5), training=Training(steps=900, batch=48, learning_rate=0.002),
)  # fmt: skip
VERDICT = r.Verdict(checks=(r.Check(passed=False, why="rmse must be at most 0.3"),), ask="Is the oven calibrated?")
PARENT = r.Version(
    name="hardness", at=1.0, by="ann", made=r.Registered(
        version=1, record="hardness@00000000000f", files={}, family="table", metric="crps", scores={}, gate=Gate(),
        verdict=r.Verdict(checks=()), licence="BSD-3-Clause",
    ),
)  # fmt: skip


def made(**more: Any) -> str:
    told: dict[str, Any] = {"report": REPORT, "spec": SPEC, "verdict": VERDICT, "parent": PARENT}
    return card(**{**told, **more})


def front(text: str) -> dict[str, Any]:
    _, matter, _ = text.split("---\n", 2)
    found = yaml.safe_load(matter)
    assert isinstance(found, dict)
    return found


def test_the_front_matter_is_what_hugging_face_reads() -> None:
    found = front(made())
    assert found["license"] == "apache-2.0"
    assert (found["library_name"], found["base_model"]) == ("firstlight", "hardness:1")
    assert found["datasets"] == ["films@0123456789ab", "oxides@ba9876543210"]
    assert found["metrics"] == list(REPORT.scores)
    (index,) = found["model-index"]
    (result,) = index["results"]
    assert index["name"] == "Hardness of films"
    assert set(result) == {"task", "dataset", "metrics"}
    assert {m["type"]: m["value"] for m in result["metrics"]} == REPORT.scores


def test_the_scores_stand_beside_those_of_baselines_and_of_the_parent() -> None:
    text = made()
    assert "| this model | 0.21 | 0.4 | 0.87 | 0.033 |" in text
    assert "| its parent hardness:1 | 0.27 | - | - | - |" in text
    assert "| baseline gp | 0.29 | - | - | - |" in text
    assert "intervals of 90 % hold 87 % of the test" in text
    assert "1850 J; estimate: 10 W for every busy core" in text


def variants(value: object) -> Iterator[tuple[str, object]]:
    """A value with one of its parts changed, for each of its parts, with the way there."""
    match value:
        case msgspec.Struct():
            for name in value.__struct_fields__:
                if isinstance(value, Report) and name in ("metric", "name"):
                    continue  # Another word would not be the one that the scores and the specification have.
                for way, other in variants(getattr(value, name)):
                    yield f"{name}.{way}", replace(value, **{name: other})
        case dict():
            for name, inner in value.items():
                for way, other in variants(inner):
                    yield f"{name}.{way}", {**value, name: other}
        case tuple():
            for n, inner in enumerate(value):
                for way, other in variants(inner):
                    yield f"{n}.{way}", (*value[:n], other, *value[n + 1 :])
        case bool():
            yield "", not value
        case int():
            yield "", 2 * value + 1
        case float():
            yield "", value * 1.37 + 0.0123
        case str():
            yield "", f"{value} changed"


NOT_ON_THE_CARD = ("media_type", "group", "data.0.size", "data.1.size")
"""Of a file: how it is encoded, and its group, of which the numbers are told. Sizes are told of datasets, rounded."""


@pytest.mark.parametrize(
    ("way", "report"),
    [(way, report) for way, report in variants(REPORT) if not any(part in way for part in NOT_ON_THE_CARD)],
)
def test_nothing_of_the_report_is_hard_coded(way: str, report: Report) -> None:
    assert made(report=report) != made(), f"{way} is not on the card"


def test_the_rest_of_the_report_is_on_the_card() -> None:
    assert made(report=replace(REPORT, metric="rmse")) != made() != made(report=replace(REPORT, name="softness"))
    larger = replace(REPORT, data=(item(size=987_654_321), REPORT.data[1]))
    assert "988 MB" in made(report=larger)
    for lost in ("energy_joules", "memory_bytes"):
        assert made(report=replace(REPORT, compute=replace(REPORT.compute, **{lost: None}))) != made()
    nobody = replace(REPORT.compute, energy_joules=None)
    assert "Nobody has measured or estimated its energy" in made(report=replace(REPORT, compute=nobody))


@pytest.mark.parametrize("field", ["title", "description", "data", "options", "split", "training", "licence"])
def test_nothing_of_the_specification_is_hard_coded(field: str) -> None:
    other: dict[str, Any] = {
        "title": "Other", "description": "Other.", "data": ("other",), "options": {"layers": 4}, "split": Split(seed=6),
        "training": Training(steps=901), "licence": "GPL-3.0-only",
    }  # fmt: skip
    assert made(spec=replace(SPEC, **{field: other[field]})) != made()


def test_nothing_of_the_verdict_and_of_the_parent_is_hard_coded() -> None:
    changed = [verdict for _, verdict in variants(VERDICT)]
    assert len(changed) == 3
    assert all(made(verdict=verdict) != made() for verdict in changed)
    assert "hardness@00000000000f" in made()
    for word in ("MIT", ""):
        assert made(parent=replace(PARENT, made=replace(PARENT.made, licence=word))) != made()
    alone = made(parent=None, report=replace(REPORT, parent="", parent_scores={}, forgetting={}))
    assert "from scratch" in alone
    assert "hardness:1" not in alone
    assert "Forgetting" not in alone


def test_what_is_not_known_is_said() -> None:
    bare = Report(
        name="hardness", family="table", metric="rmse", scores={"rmse": 1.0}, curve=REPORT.curve,
        compute=Compute(device="cpu", seconds=1.0, device_hours=0.1), parameters=Parameters(changed=1),
    )  # fmt: skip
    text = made(report=bare, spec=replace(SPEC, licence=""), verdict=r.Verdict(checks=()), parent=None)
    for said in (
        "It was held against no baseline", "No score says", "states none", "names no data", "Licence: not stated",
        "Nobody has measured", "not recorded",
    ):  # fmt: skip
        assert said in text, said
    assert front(text)["license"] == "unknown"


def test_what_others_write_does_not_become_markup() -> None:
    title = 'x"\n---\nlicense: mit\n# <script>alert(1)</script> | [a](b)'
    text = made(spec=replace(SPEC, title=title, description="# Big"))
    assert front(text)["license"] == "apache-2.0"
    assert front(text)["model-index"][0]["name"] == title
    assert "<script" not in text.split("---\n", 2)[2]
    assert "\n\\# Big\n" in text
    names = ("1e-9", "yes", "null", "~", "- a", "a: b", "\u00e9\u2028")
    for name, score in itertools.product(names, (1e-9, 1e22, -3.0, 7.5e-12)):
        found = front(made(report=replace(REPORT, scores=REPORT.scores | {name: score})))
        assert found["model-index"][0]["results"][0]["metrics"][-1] == {"type": name, "value": score}


# ------------------------------------------------------------------ licences


@pytest.mark.parametrize(
    ("own", "of_data", "of_parent", "expected"),
    [
        ("MIT", [], "", "MIT"),
        ("MIT", ["MIT", "CC0-1.0"], "BSD-2-Clause", "MIT"),
        ("Apache-2.0", ["CC-BY-4.0", "MIT"], "BSD-3-Clause", "Apache-2.0"),
        ("mit", [""], "", "MIT"),
        ("CC-BY-SA-4.0", ["CC-BY-SA-3.0"], "CC-BY-4.0", "CC-BY-SA-4.0"),
        ("GPL-3.0", ["GPL-2.0-or-later"], "Apache-2.0", "GPL-3.0-only"),
        ("", [], "", ""),
        ("", ["", ""], "", ""),
        ("", ["CC-BY-NC-4.0", "MIT"], "", "CC-BY-NC-4.0"),
        ("", ["cc by 4.0"], "https://creativecommons.org/licenses/by/4.0/", "CC-BY-4.0"),
        ("", ["CC0-1.0"], "CC0-1.0", "CC0-1.0"),
        ("", ["CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC0-1.0"], "", "other: CC-BY-SA-4.0; CC-BY-NC-4.0"),
        ("", ["MIT", ""], "", "other: MIT; not stated"),
        ("", ["ACME terms", "MIT"], "", "other: ACME terms; MIT"),
        ("", ["ACME terms"], "ACME terms", "ACME terms"),
        ("MIT", ["ACME terms", "CC0-1.0"], "", "other: MIT; ACME terms"),
        ("ACME terms", ["CC0-1.0", "CC-BY-4.0"], "", "other: ACME terms; CC-BY-4.0"),
        ("", ["MIT"], "other: CC-BY-SA-4.0; ACME terms", "other: MIT; CC-BY-SA-4.0; ACME terms"),
        ("", ["MIT AND CC-BY-4.0"], "", "CC-BY-4.0"),
        ("", ["other: not stated; MIT"], "", "other: not stated; MIT"),
    ],
)  # fmt: skip
def test_a_licence_is_carried_along(own: str, of_data: list[str], of_parent: str, expected: str) -> None:
    assert licence(own, of_data, of_parent) == expected


@pytest.mark.parametrize(
    ("own", "of_data", "of_parent", "said"),
    [
        ("MIT", ["CC-BY-NC-4.0"], "", r"CC-BY-NC-4\.0 asks .*no commercial use"),
        ("MIT", [], "CC-BY-SA-4.0", "share alike, under CC-BY-SA"),
        ("MIT", ["Apache-2.0"], "", "patents"),
        ("CC0-1.0", ["MIT"], "", "credit"),
        ("CC-BY-SA-3.0", ["CC-BY-SA-4.0"], "", r"alike, under CC-BY-SA-4\.0"),
        ("GPL-3.0-or-later", ["GPL-2.0-only"], "", r"alike, under GPL-2\.0-only"),
        ("GPL-3.0-or-later", ["CC-BY-NC-4.0"], "", "commercial"),
        ("CC-BY-NC-4.0", ["CC-BY-NC-SA-4.0"], "", "share alike"),
        ("CC-BY-4.0", ["CC-BY-ND-4.0"], "", "share nothing that was changed"),
        ("MIT", ["ACME terms"], "other: MIT; CC-BY-NC-4.0", "commercial"),
    ],
)
def test_no_licence_drops_a_condition(own: str, of_data: list[str], of_parent: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        licence(own, of_data, of_parent)


names = st.sampled_from([*CONDITIONS, "ACME terms", "https://example.org/terms", ""])


@given(names, st.lists(names, max_size=4), names)
def test_nothing_is_lost_however_it_is_put_together(own: str, of_data: list[str], of_parent: str) -> None:
    try:
        found = licence(own, of_data, of_parent)
    except ValueError:
        assert own in CONDITIONS
        return
    everything = [*of_data, of_parent]
    kept = frozenset().union(*(CONDITIONS.get(part, frozenset()) for part in found.removeprefix("other: ").split("; ")))
    for part in everything:
        assert CONDITIONS.get(part, frozenset()) <= kept
        assert part in CONDITIONS or part in found
    assert licence("", [], found) == found, "whoever goes on from this model loses nothing either"


def test_names_of_licences_are_understood() -> None:
    for said, expected in {
        "https://spdx.org/licenses/MIT.html": "MIT", "https://opensource.org/licenses/BSD-3-Clause": "BSD-3-Clause",
        "https://creativecommons.org/publicdomain/zero/1.0/": "CC0-1.0", "cc-by-nc-sa-4.0": "CC-BY-NC-SA-4.0",
        "https://creativecommons.org/licenses/by-nc/4.0/deed.en": "CC-BY-NC-4.0", "Our own  terms": "Our own terms",
        "https://creativecommons.org/licenses/by-xx/4.0/": "https://creativecommons.org/licenses/by-xx/4.0/",
    }.items():  # fmt: skip
        assert named(said) == expected


def test_a_licence_that_none_covers_is_other_on_the_card_with_all_of_them() -> None:
    report = replace(REPORT, data=(item(licence="CC-BY-SA-4.0"), item(licence="CC-BY-NC-4.0")))
    spec = replace(SPEC, licence="")
    assert licence_of(report, spec) == "other: CC-BY-SA-4.0; CC-BY-NC-4.0"
    found = front(made(report=report, spec=spec, parent=None))
    assert (found["license"], found["license_name"]) == ("other", "other: CC-BY-SA-4.0; CC-BY-NC-4.0")
    with pytest.raises(ValueError, match="alike, under CC-BY-SA-4"):
        made(report=report)


# ------------------------------------------------------------------ where it is written


def test_a_trained_model_is_registered_with_its_card_and_its_licence(tmp_path: Path) -> None:
    with Library(tmp_path) as library:
        data = Record(id="", name="peptides", digest="", card=Card(licence="CC-BY-NC-4.0"))
        dataset = library.add(data, {"a.fasta": b">a\nMKV\n"}).record.id
        registry = open_registry(library)
        spec = TrainSpec(name="peptides", family="sequence", data=(dataset,), title="Peptides")
        with pytest.raises(ValueError, match="commercial"):
            prepared(library, registry, replace(spec, licence="MIT"))
        report = replace(
            REPORT, name="peptides", family="sequence", parent="", parent_scores={}, forgetting={},
            data=(item(dataset=dataset, licence="CC-BY-NC-4.0"),),
        )  # fmt: skip
        header = json.dumps({"w": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
        left = {
            "model.safetensors": len(header).to_bytes(8, "little") + header + b"abcd",
            "config.json": b'{"family": "sequence"}', "curve.json": b"[]", "report.json": msgspec.json.encode(report),
        }  # fmt: skip
        for name, content in left.items():
            (tmp_path / name).write_bytes(content)
        row = Row(trial="t", point={}, assets=tuple(Asset(uri=name, digest=name) for name in left))
        campaign = prepared(library, registry, spec)
        version = register(registry, campaign, [row], tmp_path.joinpath, "ann")
        assert register(registry, campaign, [row], tmp_path.joinpath, "bob") == version
        assert version.made.licence == "CC-BY-NC-4.0"
        assert library.index.get(version.made.record).record.card.licence == "CC-BY-NC-4.0"
        verdict = registry.verdict(version)
        written = (registry.load_checked(version) / "card.md").read_text(encoding="utf-8")
    assert written == card(report, spec, verdict)
    assert front(written)["license"] == "cc-by-nc-4.0"
