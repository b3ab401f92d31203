"""Potentials: what is read, learned, forgotten, said of the unknown, and chosen to be labelled next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firstlight.core import Failed
from firstlight.models import labels
from firstlight.models._family import Examples, Item, Learnable
from firstlight.models._potential_choice import _doubts, choose, select
from firstlight.models._potential_data import fit_shift, key, structure_of
from firstlight.models._potential_net import from_folder
from firstlight.models._potential_replay import PROBE, probe, rehearsal
from firstlight.models._potential_train import ask
from firstlight.models._release import inherited_of
from firstlight.models.potential import Potential, from_wheel

torch = pytest.importorskip("torch")
pytest.importorskip("chgnet")
ase, build, io = (pytest.importorskip(name) for name in ("ase", "ase.build", "ase.io"))
emt, safetensors = pytest.importorskip("ase.calculators.emt"), pytest.importorskip("safetensors.torch")

torch.set_num_threads(1)

ITEM = Item(dataset="d", path="labelled.extxyz", digest="sha256:1", size=1)


def clusters(count: int, seed: int = 0, far: float = 0.0) -> list[Any]:
    """Triangles of two metals: as few atoms as have an angle."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        edge = 2.5 + far
        places = edge * np.array([[0.0, 0, 0], [1, 0, 0], [0.5, 0.87, 0]]) + 0.1 * rng.standard_normal((3, 3))
        atoms = ase.Atoms(rng.choice(["Cu", "Ni"], 3), places)
        atoms.calc = emt.EMT()
        atoms.get_forces()
        found.append(atoms)
    return found


def read_all(images: list[Any], folder: Path, **options: Any) -> Examples:
    io.write(folder / "labelled.extxyz", images)
    return Potential(**options).read([ITEM], [folder / "labelled.extxyz"])


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    return read_all(clusters(10), tmp_path_factory.mktemp("data"))


def train(family: Potential, some: Examples, folder: Path, parent: Path | None = None, steps: int = 12) -> Learnable:
    """As the loop does, and the release it leaves."""
    learnable = family.begin(some.only(range(6)), some.only(range(6, 10)), parent, 0)
    trained = [p for n, p in learnable.module.named_parameters() if n not in learnable.frozen]
    optimiser = torch.optim.AdamW(trained, lr=1e-3)
    for step in range(steps):
        optimiser.zero_grad()
        learnable.loss([step % 6, (step + 1) % 6], step).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    with torch.no_grad():
        learnable.validate()
    folder.mkdir(exist_ok=True)
    safetensors.save_file(
        {k: t.contiguous().clone() for k, t in learnable.module.state_dict().items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps({"config": learnable.config()}))
    return learnable


@pytest.fixture(scope="module")
def released(some: Examples, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    train(Potential(), some, folder)
    return folder


# ------------------------------------------------------------------ reading


def test_the_order_of_structures_is_their_own(tmp_path: Path) -> None:
    images = clusters(5)
    first, second = read_all(images, tmp_path), read_all(images[::-1], tmp_path)
    assert list(first.keys) == list(second.keys) and len(set(first.keys)) == 5
    assert set(first.groups) <= {"Cu3", "Cu2Ni", "CuNi2", "Ni3", "Cu", "Ni"}


def test_what_has_no_labels_is_refused_or_left_out(tmp_path: Path) -> None:
    images = [*clusters(2), build.molecule("H2O")]
    with pytest.raises(ValueError, match=r"labelled\.extxyz: structure 3 of 3 has no energy and no forces"):
        read_all(images, tmp_path)
    assert len(read_all(images, tmp_path, unlabelled="skip")) == 2
    with pytest.raises(ValueError, match="no labelled structures are in these files"):
        Potential().read([Item(dataset="d", path="a.csv", digest="", size=0)], [tmp_path / "a.csv"])


def test_damaged_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("3\nnothing\nCu 0 0\n")
    with pytest.raises(ValueError, match=r"labelled\.extxyz cannot be read as extended XYZ"):
        Potential().read([ITEM], [tmp_path / "x"])


def test_keys_see_past_the_digits_of_files() -> None:
    atoms = clusters(1)[0]
    same, other = atoms.copy(), atoms.copy()
    same.positions += 1e-7
    other.positions[0, 0] += 0.01
    a, b, c = (key(structure_of(x)) for x in (atoms, same, other))
    assert a == b != c


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'replay'"):
        Potential(repley=0.3)
    for wrong, said in (
        ({"start": "chgnet-9"}, "chgnet-9"), ({"replay": 1.0}, "replay below 1"), ({"replay": True}, "replay"),
        ({"force_weight": -1}, "at least 0"), ({"energy_weight": 0, "force_weight": 0}, "more than 0"),
        ({"freeze": "atom_embedding"}, "freeze"), ({"stress_weight": "1"}, "stress_weight"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"potential: .*{said}"):
            Potential(**wrong)
    assert Potential(force_weight=2, freeze=["atom_embedding"]).options.freeze == ("atom_embedding",)


def test_it_says_whose_weights_it_begins_with(tmp_path: Path) -> None:
    (begun,) = Potential().inherited()
    assert (begun.name, begun.licence) == ("chgnet-0.3.0", "BSD-3-Clause-LBNL") and begun.version.startswith("chgnet ")
    assert begun.digest.startswith("sha256:") and begun != Potential(start="chgnet-r2scan").inherited()[0]
    assert Potential(start="scratch").inherited() == ()
    from_wheel("chgnet-0.3.0", tmp_path)
    assert inherited_of(tmp_path) == (begun,)


def test_shifts_are_found(some: Examples) -> None:
    elements = {28: -3.0, 29: 1.5}
    missing = np.array([np.mean([elements[int(z)] for z in s.numbers]) for s in some.items])
    shift = fit_shift(some.items, missing)
    assert shift[27] == pytest.approx(-3.0, abs=0.1) and shift[28] == pytest.approx(1.5, abs=0.1)
    assert shift[0] == pytest.approx(missing.mean())


# ------------------------------------------------------------------ learning


def test_what_is_frozen_stays_and_all_else_moves(some: Examples, tmp_path: Path) -> None:
    family = Potential(freeze=["atom_embedding", "atom_conv_layers.0"])
    before = family.begin(some.only(range(6)), some.only(range(6, 10)), None, 0).module.state_dict()
    learnable = train(family, some, tmp_path, steps=3)
    moved = {n for n, p in learnable.module.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {n for n, _ in learnable.module.named_parameters()} - learnable.frozen
    assert {"net.atom_embedding.embedding.weight", "net.site_wise.weight"} <= learnable.frozen
    with pytest.raises(ValueError, match="did you mean 'atom_embedding'"):
        Potential(freeze=["atom_embeding"]).begin(some.only(range(6)), some.only(range(6, 10)), None, 0)


def test_it_learns_and_beats_its_parent(some: Examples, released: Path) -> None:
    family, test = Potential(), some.only(range(6))
    scores, base = family.evaluate(released, test), family.baselines(test, test)
    assert scores["force_mae"] < base["chgnet-0.3.0 as it comes"]["force_mae"]
    assert {"energy_mae", "force_mae_worst"} <= scores.keys() and "stress_mae" not in scores


def test_the_loss_is_a_sum_over_examples(some: Examples) -> None:
    learnable = Potential(replay=0.5).begin(some.only(range(6)), some.only(range(6, 10)), None, 0)
    whole = float(learnable.loss([0, 1, 2, 3], 7).detach())
    halves = [float(learnable.loss(part, 7).detach()) for part in ([0, 1], [2, 3])]
    assert whole == pytest.approx(np.mean(halves), rel=1e-4)
    plain = Potential().begin(some.only(range(6)), some.only(range(6, 10)), None, 0)
    # The parent is right, by definition, about what is rehearsed: so far it adds nothing.
    assert whole == pytest.approx(float(plain.loss([0, 1, 2, 3], 7).detach()), rel=1e-3)
    assert learnable._drawn(range(6), 7) and not plain._drawn(range(6), 7)  # type: ignore[attr-defined]


def test_a_fine_tune_of_a_fine_tune(some: Examples, released: Path, tmp_path: Path) -> None:
    learnable = train(Potential(), some, tmp_path, parent=released, steps=2)
    assert learnable.config()["elements"] == ["Cu", "Ni"] and learnable.config()["origin"] == "chgnet-0.3.0"
    lost = Potential().forgetting(tmp_path, released)
    assert lost["probe_force"] > 0.0
    assert Potential().forgetting(released, released) == {"probe_force": 0.0, "probe_energy": 0.0}


def test_the_wheel_is_a_parent_like_any_other(some: Examples, tmp_path: Path) -> None:
    from_wheel("chgnet-0.3.0", tmp_path)
    one = Potential().begin(some.only(range(6)), some.only(range(6, 10)), tmp_path, 0)
    two = Potential().begin(some.only(range(6)), some.only(range(6, 10)), None, 0)
    assert float(one.loss([0], 0)) == float(two.loss([0], 0)) and one.config()["shift"] == two.config()["shift"]


def test_other_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"config": {"architecture": "mace"}}))
    with pytest.raises(ValueError, match="holds a mace, not a chgnet"):
        Potential().load(tmp_path)


def test_what_is_asked_was_never_rehearsed() -> None:
    asked = {frozenset(s.numbers.tolist()) for s in probe()}
    rehearsed = [s for seed in range(20) for s in rehearsal(seed)]
    assert len(asked) == len(PROBE) and not asked & {frozenset(s.numbers.tolist()) for s in rehearsed}
    # No two atoms sit upon each other: of such crystals no parent has an answer worth keeping.
    ends = [np.linalg.norm(s.positions[1] - s.positions[0]) for s in rehearsed]
    assert min(ends) > 0.4


# ------------------------------------------------------------------ using


def test_forces_and_stress_are_slopes_of_the_energy(released: Path) -> None:
    calculator = Potential().load(released)
    atoms = build.bulk("CuNi", "rocksalt", a=5.0)
    atoms.rattle(0.05, seed=1)
    atoms.calc = calculator
    force, stress = atoms.get_forces()[0, 0], atoms.get_stress()

    def energy(push: float, strain: float) -> float:
        moved = atoms.copy()
        moved.set_cell(atoms.cell.array @ np.diag([1.0 + strain, 1.0, 1.0]), scale_atoms=True)
        moved.positions[0, 0] += push
        moved.calc = calculator
        return float(moved.get_potential_energy())

    assert force == pytest.approx(-(energy(0.01, 0) - energy(-0.01, 0)) / 0.02, abs=0.01)
    slope = (energy(0, 0.005) - energy(0, -0.005)) / 0.01
    assert stress[0] == pytest.approx(slope / atoms.get_volume(), abs=0.002)


def test_it_says_when_it_has_seen_nothing_alike(released: Path) -> None:
    calculator = Potential().load(released)

    def asked(atoms: Any) -> Any:
        calculator.calculate(atoms, ["energy"])
        return calculator.results

    near, far, other = asked(clusters(1)[0]), asked(build.bulk("Cu", cubic=True)), asked(build.molecule("H2O"))
    assert near["familiar"] and not far["familiar"] and not other["familiar"]
    assert far["uncertainty"].mean() > 2 * near["uncertainty"].mean() > 0.0
    with pytest.raises(ValueError, match="has no other within 6 angstrom"):
        asked(ase.Atoms("Cu"))


def test_energies_are_on_the_scale_of_the_labels(some: Examples, released: Path) -> None:
    atoms = clusters(1)[0]
    wanted = atoms.get_potential_energy()
    atoms.calc = Potential().load(released)
    assert atoms.get_potential_energy() == pytest.approx(wanted, abs=1.5)


# ------------------------------------------------------------------ choosing


def test_the_chosen_are_doubtful_and_no_two_are_alike() -> None:
    """Doubt alone would take two of the three that are alike, distance alone the one of which enough is known."""
    places = np.array([[0.0, 0], [1, 0], [1, 0.1], [1, -0.1], [0, 1], [-9, 0]])
    doubts = np.array([1.0, 8, 7, 7, 4, 0.1])
    none = np.empty((0, 2))
    assert select(doubts, places, places[:1], 2) == [1, 4]
    assert select(doubts, places, places[[0, 4]], 1) == [1]
    assert select(np.ones(6), places, places[:1], 2) == [5, 2]
    # Where nothing is labelled the first is in the middle, and the next is far from it.
    assert select(np.ones(6), places, none, 2) == [0, 5]
    assert select(doubts, places, none, 4)[:2] == select(doubts, places, none, 2)
    assert sorted(select(doubts, places[[0] * 6], none, 6)) == list(range(6))


def test_doubt_is_what_users_are_told_and_a_wheel_has_none(released: Path, tmp_path: Path) -> None:
    usual, strange = clusters(3, seed=5), clusters(1, far=-0.5)[0]
    network, _ = from_folder(released)
    unsure = []
    for atoms in (*usual, strange):
        calculator = Potential().load(released)
        calculator.calculate(atoms)
        unsure.append(float(np.mean(calculator.results["uncertainty"] ** 2)) ** 0.5)
    doubts = _doubts(network, ask(network, [network.graph(structure_of(a)) for a in (*usual, strange)]).features)
    assert doubts * float(network.scale) == pytest.approx(unsure) and int(np.argmax(doubts)) == 3
    from_wheel("chgnet-0.3.0", tmp_path / "wheel")
    wheel = from_folder(tmp_path / "wheel")[0]
    assert _doubts(wheel, [np.ones((2, 64)), np.zeros((3, 64))]).tolist() == [1.0, 1.0]
    assert choose(wheel, [usual[0].copy(), usual[1]], 1, usual[:1]) == [1]


def test_how_a_structure_lies_does_not_matter(released: Path) -> None:
    network, _ = from_folder(released)
    one, other = clusters(2)
    turned = one.copy()
    turned.rotate(70, (1, 2, 3))
    assert choose(network, [turned, other], 1, [one]) == [1]
    assert choose(network, [one, turned, other], 2)[-1] == 2
    with pytest.raises(ValueError, match="3 structures cannot be chosen of a pool of 2"):
        choose(network, [one, other], 3)


def test_what_is_known_already_is_not_chosen(released: Path) -> None:
    pool = [*clusters(4), *clusters(1, far=-0.6)]
    assert labels.next_labels(released, pool, 1, pool[:1]) == [4]
    assert sorted(labels.next_labels(released, pool, 4, pool[:1])) == [1, 2, 3, 4]
    twice = [pool[1], pool[0].copy(), pool[1].copy()]
    assert labels.next_labels(released, twice, 1, pool[:1]) == [0]
    with pytest.raises(ValueError, match="of 3 structures 1 are neither labelled nor the same as another: 2 cannot"):
        labels.next_labels(released, twice, 2, pool[:1])


# ------------------------------------------------------------------ labels


def test_labels_are_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    atoms = build.bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=0)
    io.write("in.extxyz", [atoms])
    seen = labels.label({}, structures="in.extxyz")
    (found,) = Potential().read([ITEM], [tmp_path / "labelled.extxyz"]).items
    atoms.calc = emt.EMT()
    assert seen["labelled"] == 1.0 and seen["atoms"] == 4.0
    assert found.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
    assert found.forces == pytest.approx(atoms.get_forces(), abs=1e-6)
    assert found.stress == pytest.approx(atoms.get_stress(voigt=False), abs=1e-6)


def test_one_structure_of_many_is_labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images = [build.bulk("Cu"), build.bulk("Fe"), build.bulk("Ni")]
    io.write("in.extxyz", images)
    assert labels.label({"structure": 3}, structures="in.extxyz")["labelled"] == 1.0
    assert io.read("labelled.extxyz", format="extxyz").get_chemical_formula() == "Ni"
    with pytest.raises(Failed, match=r"structure 2 of 3 .*EMT has no Fe"):
        labels.label({"structure": 2}, structures="in.extxyz")
    for number in (0, 4, 1.5):
        with pytest.raises(Failed, match="is none of the 3 there are"):
            labels.label({"structure": number}, structures="in.extxyz")


@pytest.mark.parametrize(
    ("atoms", "method", "message"),
    [
        (build.bulk("Si"), "emt", "invalid-input: structure 1 of 1 .*EMT has no Si"),
        (build.bulk("Cu"), "emd", "did you mean 'emt'"),
        (build.molecule("H2O"), "pyscf:pbe", "there is no 'pyscf:pbe'; there are: emt, gfn1-xtb"),
    ],
)
def test_what_cannot_be_labelled_is_a_failure_with_a_cause(
    atoms: Any, method: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    io.write("in.extxyz", [atoms])
    with pytest.raises(Failed, match=message):
        labels.label({}, structures="in.extxyz", method=method)
    assert not Path("labelled.extxyz").exists()


def test_xtb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tblite")
    monkeypatch.chdir(tmp_path)
    io.write("in.extxyz", [build.molecule("H2O")])
    labels.label({"method": "gfn2-xtb"}, structures="in.extxyz")
    assert io.read("labelled.extxyz", format="extxyz").get_potential_energy() == pytest.approx(-137.97, abs=0.05)
    io.write("in.extxyz", [build.bulk("NaCl", "rocksalt", a=5.64)])
    with pytest.raises(Failed, match="a periodic cell of 2 atoms is too small"):
        labels.label({}, structures="in.extxyz", method="gfn2-xtb")


def test_dft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyscf")
    monkeypatch.chdir(tmp_path)
    io.write("in.extxyz", [ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.9]])])
    seen = labels.label({}, structures="in.extxyz", method="pyscf:pbe/sto-3g")
    assert seen["largest-force"] > 1.0
    with pytest.raises(Failed, match="pyscf does not know nonsense"):
        labels.label({}, structures="in.extxyz", method="pyscf:nonsense/sto-3g")
