"""A potential asks for labels, a facility computes them, a child learns from them: twice round."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ._desk import Desk

torch = pytest.importorskip("torch")
pytest.importorskip("chgnet")
ase, io = pytest.importorskip("ase"), pytest.importorskip("ase.io")

SPEC = """
name: alloys
family: potential
data: [{data}]
{parent}
options: {{group: structure}}
split: {{validation: 0.2, test: 0.2}}
training: {{steps: 4, batch: 4, learning_rate: 0.001, validate: 2}}
gate: {{baselines: false}}
"""


class Chemist(Desk):
    def train(self, data: str, parent: str = "") -> Any:
        (self.path / "spec.yaml").write_text(SPEC.format(data=data, parent=parent and f"parent: {parent}"))
        return self.do("model", "train", str(self.path / "spec.yaml"))[-1]

    def ask(self, model: str, out: str, *more: str, count: int = 7) -> list[Any]:
        return self.do(
            "model", "choose", model, str(self.path / "pool.extxyz"), "--out", str(self.path / out),
            "--count", str(count), *more,
        )  # fmt: skip

    def structures(self, file: str) -> list[Any]:
        return list(io.read(self.path / file, index=":", format="extxyz"))


def pool(path: Path) -> None:
    """Triangles of copper and nickel, and one with a metal of which EMT knows nothing."""
    rng, found = np.random.default_rng(0), []
    for n in range(16):
        places = 2.5 * np.array([[0.0, 0, 0], [1, 0, 0], [0.5, 0.87, 0]]) + 0.1 * rng.standard_normal((3, 3))
        found.append(ase.Atoms(rng.choice(["Cu", "Ni"], 3) if n else "Cu2Fe", places))
    io.write(path / "pool.extxyz", found, format="extxyz")


def test_a_potential_asks_for_labels_and_learns_from_them_twice(tmp_path: Path) -> None:
    desk = Chemist(tmp_path)
    pool(tmp_path)
    (asked,) = desk.ask("chgnet-0.3.0", "first")
    assert asked["campaign"] == "first" and asked["chosen"] == 7
    ended = desk.do("run", asked["file"], "--no-report")[-1]["standing"]
    first = desk.structures("first/chosen.extxyz")
    strange = [n for n, atoms in enumerate(first) if "Fe" in atoms.symbols]
    assert strange and (ended["succeeded"], ended["failed"]) == (6, 1)  # One that fails takes no other with it.

    assert desk.train("first")["version"] == "alloys:1"
    io.write(tmp_path / "failed.extxyz", [first[n] for n in strange], format="extxyz")
    (again,) = desk.ask("alloys:1", "second", "--without", str(tmp_path / "failed.extxyz"))
    second = desk.structures("second/chosen.extxyz")
    assert not any(np.allclose(a.positions, b.positions) for a in first for b in second)
    desk.do("run", again["file"], "--no-report")
    assert desk.train("second", parent="alloys:1")["version"] == "alloys:2"

    # Of the sixteen, two are left that nobody has asked for; what the parent learned from counts, too.
    refused = desk.done(
        "model", "choose", "alloys:2", str(tmp_path / "pool.extxyz"), "--out", str(tmp_path / "third"),
        "--count", "3", "--without", str(tmp_path / "failed.extxyz"),
    )  # fmt: skip
    assert refused.exit_code == 2 and "2 are neither labelled nor the same as another" in refused.stderr
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize(
    ("model", "words", "said"),
    [
        ("chgnet-0.3.0", ["--method", "emd"], "did you mean 'emt'"),
        ("chgnet-0.3.0", ["--count", "0"], "at least 1 structure"),
        ("chgnet-0.3.0", ["--count", "17"], "17 cannot be chosen"),
        ("chgnet-0.3.0", ["--without", "nothing.extxyz"], "nothing.extxyz cannot be read as extended XYZ"),
        ("alloys", [], "there is no model"),
    ],
)
def test_what_cannot_be_asked_is_said_and_leaves_nothing(
    tmp_path: Path, model: str, words: list[str], said: str
) -> None:
    pool(tmp_path)
    done = Desk(tmp_path).done(
        "model", "choose", model, str(tmp_path / "pool.extxyz"), "--out", str(tmp_path / "out"), *words
    )
    assert done.exit_code == 2 and said in done.stderr.replace("\n", " ")
    assert not (tmp_path / "out").exists()
