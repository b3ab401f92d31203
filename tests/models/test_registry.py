"""Versions never change, what an alias means can be told for any moment, and what is revoked is not loaded."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from firstlight.catalog.index import Record
from firstlight.catalog.library import Library
from firstlight.factory import CatalogShelf
from firstlight.models import registry as r
from firstlight.models._family import Inherited, Item
from firstlight.models._registry_links import Use
from firstlight.models._spec import Gate, TrainSpec
from firstlight.models._weights import read_header
from firstlight.models.card import CARD


class Ticks:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
def library(tmp_path: Path) -> Iterable[Library]:
    with Library(tmp_path / "catalog") as made:
        yield made


@pytest.fixture
def registry(library: Library, tmp_path: Path) -> r.Registry:
    return r.Registry(library.store, CatalogShelf(library), tmp_path / "releases", Ticks())


def weights(value: int) -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + value.to_bytes(4, "big")


def release(
    folder: Path, value: int, error: float = 1.0, parent: str = "", data: tuple[str, ...] = ("films@0123456789ab",),
    name: str = "hardness", theirs: Mapping[str, float] | None = None, lost: float | None = None,
) -> Path:  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(weights(value))
    (folder / "config.json").write_text('{"family": "table"}')
    items = tuple(Item(dataset=d, path="a.parquet", digest="sha256:" + "0" * 64, size=1) for d in data)
    r.write_report(
        folder,
        r.Report(
            name=name, family="table", metric="rmse", scores={"rmse": error}, parent=parent, data=items,
            curve=r.Curve(steps=10, best_step=9, first=3.0, best=1.0, last=1.1),
            compute=r.Compute(device="cpu", seconds=1.0, device_hours=1 / 3600), parameters=r.Parameters(changed=4),
            baselines={"mean": {"rmse": 2.0}}, parent_scores=dict(theirs or {}),
            forgetting={} if lost is None else {"rmse": lost},
        ),
    )  # fmt: skip
    return folder


def spec(name: str = "hardness", gate: Gate | None = None, parent: str = "") -> TrainSpec:
    return TrainSpec(name=name, family="table", data=("films",), gate=gate or Gate(), parent=parent)


Made = Callable[..., r.Version]


@pytest.fixture
def made(registry: r.Registry, tmp_path: Path) -> Made:
    count = iter(range(10_000))

    def make(gate: Gate | None = None, **more: object) -> r.Version:
        n = next(count)
        folder = release(tmp_path / f"release-{n}", n, **more)  # type: ignore[arg-type]
        return registry.register(folder, spec(str(more.get("name", "hardness")), gate), "ann")

    return make


def test_a_release_becomes_a_version_once(registry: r.Registry, tmp_path: Path) -> None:
    folder = release(tmp_path / "one", 1)
    version = registry.register(folder, spec(), "ann")
    assert registry.register(folder, spec(), "bob") == version
    assert (version.id, version.made.verdict.passed, len(registry.history("hardness"))) == ("hardness:1", True, 1)
    assert version.made.files["model.safetensors"] == f"sha256:{hashlib.sha256(weights(1)).hexdigest()}"
    loaded = registry.load_checked(version)
    assert (loaded / "model.safetensors").read_bytes() == weights(1)
    assert registry.resolve(version.made.record) == registry.resolve("hardness:1") == registry.resolve("hardness")


def test_its_card_says_what_its_gate_said_and_its_licence_is_that_of_all_it_was_made_from(
    registry: r.Registry, tmp_path: Path
) -> None:
    folder = release(tmp_path / "one", 1)
    report = r.read_report(folder)
    begun = Inherited(name="oxide-net", version="oxides 1.2", licence="CC-BY-SA-4.0", digest="sha256:ab")
    data = replace(report.data[0], licence="CC-BY-4.0")
    r.write_report(folder, replace(report, data=(data,), inherited=(begun,)))
    version = registry.register(folder, spec(gate=Gate(at_most={"rmse": 0.1})), "ann")
    text = (registry.load_checked(version) / CARD).read_text()
    for check in version.made.verdict.checks:
        assert f"{'holds' if check.passed else 'does NOT hold'}: {check.why}" in text
    assert version.made.licence == "CC-BY-SA-4.0"
    for said in ("It began with oxide-net", "| oxide-net | oxides 1.2 | CC-BY-SA-4.0 |", "sha256:ab"):
        assert said in text
    with pytest.raises(ValueError, match="would drop what CC-BY"):
        registry.register(folder, replace(spec(), licence="MIT"), "ann")
    # One that brings a card keeps it.
    (folder / CARD).write_text("# Of its own\n")
    own = registry.register(folder, spec(), "ann")
    assert (registry.load_checked(own) / CARD).read_text() == "# Of its own\n"


def test_what_is_no_release_is_refused(registry: r.Registry, tmp_path: Path) -> None:
    folder = release(tmp_path / "one", 1)
    for name in ("weights.pkl", "model.pt", ".hidden.json", "run.py"):
        (folder / name).write_bytes(b"\x80\x04")
        with pytest.raises(ValueError, match="release"):
            registry.register(folder, spec(), "ann")
        (folder / name).unlink()
    with pytest.raises(ValueError, match="asked for was other"):
        registry.register(folder, spec("other"), "ann")
    good = weights(1)
    for bad in (b"", good[:-1], good + b"x", b"\xff" * 40, good.replace(b"[0, 4]", b"[1, 5]")):
        (folder / "model.safetensors").write_bytes(bad)
        with pytest.raises(ValueError, match=r"model\.safetensors"):
            read_header(folder / "model.safetensors")
    assert registry.names() == []


def test_what_is_better_is_promoted_and_what_is_worse_is_refused_with_the_reason(
    registry: r.Registry, made: Made
) -> None:  # fmt: skip
    first = registry.promote(made(), "ann")
    assert registry.resolve("hardness").number == 1
    worse = made(error=1.2, parent=first.id, theirs={"rmse": 1.0})
    with pytest.raises(r.Refused, match=r"rmse is 1\.2, and must be better than 1 of its parent hardness:1"):
        registry.promote(worse, "ann")
    with pytest.raises(r.Refused, match="same test"):
        registry.promote(made(error=0.5, parent=first.id), "ann")
    with pytest.raises(r.Refused, match="baseline mean"):
        registry.promote(made(error=2.5), "ann")
    with pytest.raises(r.Refused, match="nobody has measured it"):
        registry.promote(made(Gate(at_most={"crps": 1.0})), "ann")
    with pytest.raises(r.Refused, match=r"rmse on what the parent could do is 0\.4"):
        gate = Gate(forgetting={"rmse": 0.1})
        registry.promote(made(gate, error=0.5, parent=first.id, theirs={"rmse": 1.0}, lost=0.4), "ann")
    with pytest.raises(r.Refused, match="say why"):
        registry.promote(worse, "ann", force=True)
    assert len([e for e in registry.history("hardness") if isinstance(e.fact, r.Promoted)]) == 1
    registry.promote(worse, "ann", "for the demonstration", force=True)
    last = registry.history("hardness")[-1].fact
    assert isinstance(last, r.Promoted)
    assert (last.forced, last.evidence.passed, last.why) == (True, False, "for the demonstration")


def test_a_question_waits_for_a_person(registry: r.Registry, made: Made) -> None:
    version = made(Gate(ask="Is the film stable?"))
    with pytest.raises(r.Refused, match=r"waits for a person's word: Is the film stable\?"):
        registry.promote(version, "loop")
    with pytest.raises(r.Refused, match="waits"):
        registry.promote(version, "loop", "urgent", force=True)
    registry.promote(version, "loop", answered="ann")
    assert registry.resolve("hardness@production").number == version.number


def test_a_candidate_proves_itself_in_the_shadow(registry: r.Registry, made: Made) -> None:
    first = registry.promote(made(Gate(shadow=20)), "ann")
    second = made(Gate(shadow=20))
    with pytest.raises(r.Refused, match="0 trials that hardness:1 served, of 20"):
        registry.promote(second, "ann")
    registry.shadowed(second, first, r.Compared(trials=15, metric="rmse", candidate=0.5, production=0.6), "loop")
    registry.shadowed(second, first, r.Compared(trials=15, metric="rmse", candidate=0.9, production=0.6), "loop")
    with pytest.raises(r.Refused, match=r"its rmse is 0\.7, worse than 0\.6"):
        registry.promote(second, "ann")
    registry.shadowed(second, first, r.Compared(trials=60, metric="rmse", candidate=0.5, production=0.6), "loop")
    registry.promote(second, "ann")
    assert registry.resolve("hardness").number == 2


def test_what_was_in_production_when(registry: r.Registry, made: Made) -> None:
    one, two = made(), made()
    registry.promote(one, "ann")
    registry.promote(two, "ann")
    registry.roll_back("hardness", "bob", "drift")
    times = [entry.at for entry in registry.history("hardness")]
    found = [registry.at("hardness", at) for at in [0.0, *times]]
    assert [v and v.number for v in found] == [None, None, None, 1, 2, 1]
    with pytest.raises(r.Refused, match="nothing to go back to"):
        registry.roll_back("hardness", "bob")


def test_revoked_is_not_loaded_until_restored_and_left_out_of_a_rollback(registry: r.Registry, made: Made) -> None:
    one, two, three = made(), made(), made()
    for version in (one, two, three):
        registry.promote(version, "ann")
    registry.revoke(two, "leak", "bob")
    with pytest.raises(r.Revoked, match=r"hardness:2 was revoked by bob on .*: leak"):
        registry.load_checked(two)
    assert registry.roll_back("hardness", "ann").number == 1
    with pytest.raises(r.Refused, match="cannot be promoted"):
        registry.promote(two, "ann")
    with pytest.raises(r.Refused, match="reason"):
        registry.revoke(one, " ", "bob")
    registry.restore(two, "it was none", "bob")
    registry.load_checked(two)


def test_revoked_weights_do_not_come_back_under_another_name(registry: r.Registry, made: Made, tmp_path: Path) -> None:
    bad = made()
    registry.revoke(bad, "poisoned", "bob")
    folder = release(tmp_path / "again", 0, name="softness")
    with pytest.raises(r.Refused, match="poisoned"):
        registry.register(folder, spec("softness"), "eve")


def test_another_sites_revocations_are_heard(registry: r.Registry, made: Made, tmp_path: Path) -> None:
    here = made()
    digests = [here.made.files["model.safetensors"], f"sha256:{hashlib.sha256(weights(77)).hexdigest()}"]
    for digest in digests:
        told = r.Shunned(record="x@000000000000", weights=digest, reason="poisoned", by="zoe", at=5.0)
        registry.shun(told, "ann")
        assert registry.shun(told, "ann") == []
    with pytest.raises(r.Revoked, match="zoe"):
        registry.load_checked(here)
    with pytest.raises(r.Refused, match="zoe"):
        registry.register(release(tmp_path / "late", 77), spec(), "ann")


def test_damage_is_found(registry: r.Registry, library: Library, made: Made) -> None:
    version = made()
    place = Path(library.store.address) / "models" / "hardness" / "00000001.json"
    text = place.read_text()
    made()
    place.write_text(text.replace('"rmse":1.0', '"rmse":0.1'))
    with pytest.raises(r.Damaged, match="entry 2 of model hardness does not follow"):
        registry.verify("hardness")
    place.unlink()
    with pytest.raises(r.Damaged, match="entry 1 of model hardness is missing"):
        registry.verify("hardness")
    place.write_text(text)
    registry.verify("hardness")
    kept = library.store.path(version.made.files["model.safetensors"])
    assert kept is not None
    kept.write_bytes(weights(9))
    with pytest.raises(r.Damaged, match=r"hardness:1: model\.safetensors"):
        registry.load_checked(version)


def test_a_withdrawn_dataset_lists_what_it_has_touched(registry: r.Registry, library: Library, made: Made) -> None:
    raw = library.add(Record(id="", name="raw", digest=""), {"a.csv": b"x\n1\n"}).record.id
    clean = library.add(Record(id="", name="clean", digest="", used=(raw,)), {"a.csv": b"x\n2\n"}).record.id
    first = made(data=(clean,))
    second = made(parent=first.id, error=0.5, theirs={"rmse": 1.0})
    third = made(parent=second.id, name="softness", error=0.4, theirs={"rmse": 0.5})
    other = made(name="colour")
    touched = registry.touched(raw)
    assert {t.version.id for t in touched} == {first.id, second.id, third.id}
    assert all(t.way[0] == raw and t.way[-1] == t.version.id for t in touched)
    lineage = registry.lineage(second)
    assert (lineage.parents, lineage.children) == ((first.made.record,), (third.id,))
    assert registry.touched(other.made.record)[0].version.id == other.id
    registry.revoke(first, "poisoned", "bob")
    with pytest.raises(r.Refused, match="made from hardness:1, which is revoked: poisoned"):
        registry.promote(second, "ann")


def test_two_that_write_at_once_get_two_numbers(library: Library, tmp_path: Path) -> None:
    folders = [release(tmp_path / f"r{n}", n) for n in range(8)]

    def register(folder: Path) -> int:
        own = r.Registry(library.store, CatalogShelf(library), tmp_path / "releases")
        return own.register(folder, spec(), "ann").number

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(register, folders)) == list(range(1, 9))


def test_what_is_not_there_is_said(registry: r.Registry, made: Made) -> None:
    made()
    for text, said in {
        "hardnes": "did you mean 'hardness'", "hardness:7": "there are: 1", "hardness:x": "there is no version x",
        "hardness@production": "no version of hardness is in production", "hardness@0123456789ab": "no version",
        "": "cannot be called", "../x": "cannot be called",
    }.items():  # fmt: skip
        with pytest.raises(LookupError, match=said):
            registry.resolve(text)


# ------------------------------------------------------------------ random histories

STEPS = st.lists(
    st.tuples(st.sampled_from(["register", "promote", "force", "back", "revoke", "restore"]), st.integers(1, 4)),
    max_size=25,
)


class Memory:
    def __init__(self) -> None:
        self.kept = dict[str, bytes]()

    def read(self, name: str) -> bytes:
        if name not in self.kept:
            raise FileNotFoundError(name)
        return self.kept[name]

    def names(self, below: str) -> list[str]:
        return sorted(name for name in self.kept if name.startswith(f"{below}/"))

    def create(self, name: str, content: bytes) -> bool:
        return self.kept.setdefault(name, content) is content


class NoShelf:
    def keep(self, told: r.Kept, files: Mapping[str, Path | bytes]) -> str:
        return f"m@{hashlib.sha256(bytes(files['model.safetensors'])).hexdigest()[:12]}"

    def files(self, record: str) -> Mapping[str, Path]:
        raise LookupError(record)

    def derived(self, id: str) -> Iterable[Use]:
        return ()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_random_histories_are_as_a_naive_model_says(steps: list[tuple[str, int]]) -> None:
    documents = Memory()
    registry = r.Registry(documents, NoShelf(), Path("nowhere"), Ticks())
    good, stack, revoked = dict[int, bool](), list[int](), set[int]()
    seen = list[tuple[float, int | None]]()
    for n, (word, number) in enumerate(steps):
        before = len(documents.kept)
        refused = False
        try:
            if word == "register":
                _register(registry, n, good)
            else:
                _speak(registry, word, number, good)
        except (r.Refused, LookupError):
            refused = True
        assert refused == _naive(word, number, good, stack, revoked)
        assert not refused or len(documents.kept) == before
        if good:
            production = registry.production("m")
            assert (production and production.number) == (stack[-1] if stack else None)
            seen.append((registry.history("m")[-1].at, stack[-1] if stack else None))
            assert {v.number for v in registry.versions("m") if v.revoked} == revoked
    for at, meant in seen:
        then = registry.at("m", at)
        assert (then and then.number) == meant
    again = r.Registry(documents, NoShelf(), Path("nowhere"), Ticks())
    assert not good or again.history("m") == registry.history("m")


def _register(registry: r.Registry, n: int, good: dict[int, bool]) -> None:
    content = weights(n)
    verdict = r.Verdict(checks=(r.Check(passed=n % 3 != 0, why="as drawn"),))
    made = r.Registered(
        version=0, record="", files={"model.safetensors": str(n)}, family="table", metric="e", scores={"e": 1.0},
        gate=Gate(), verdict=verdict,
    )  # fmt: skip
    version = registry.admit(r.Kept(name="m"), made, {"model.safetensors": content}, "ann")
    good[version.number] = verdict.passed


def _speak(registry: r.Registry, word: str, number: int, good: dict[int, bool]) -> None:
    if word == "back":
        registry.roll_back("m", "ann")
        return
    version = registry.resolve(f"m:{number}")
    if word in ("promote", "force"):
        registry.promote(version, "ann", "because", force=word == "force")
    elif word == "revoke":
        registry.revoke(version, "bad", "ann")
    else:
        registry.restore(version, "good", "ann")


def _naive(word: str, number: int, good: dict[int, bool], stack: list[int], revoked: set[int]) -> bool:
    """What should have come of it, on plain lists: whether it is refused."""
    if word == "register":
        return False
    if word == "back":
        left = stack[:-1]
        while left and left[-1] in revoked:
            left.pop()
        if not left:
            return True
        stack[:] = left
        return False
    if number not in good:
        return True
    if word in ("promote", "force"):
        if number in revoked:
            return True
        if stack and stack[-1] == number:
            return False
        if word == "promote" and not good[number]:
            return True
        stack.append(number)
        return False
    if (number in revoked) == (word == "revoke"):
        return True
    (revoked.add if word == "revoke" else revoked.discard)(number)
    return False
