"""Models of sequences: they learn what follows what, and never judge by what is nearly the same."""

import json
from pathlib import Path

import numpy as np
import pytest

from firstlight.models._family import Item
from firstlight.models._sequence_read import clusters, read_fasta
from firstlight.models._weights import write_weights
from firstlight.models.sequence import Sequence

torch = pytest.importorskip("torch")


def test_fasta_is_read_and_what_is_none_is_refused() -> None:
    assert list(read_fasta(">a x\nACg\nT-A\n\n>b\nGG*\n", "f")) == ["ACGTA", "GG"]
    with pytest.raises(ValueError, match="f, line 1: it is no FASTA"):
        list(read_fasta("ACGT", "f"))


def test_similar_sequences_are_of_one_cluster_and_others_are_not() -> None:
    draw = np.random.default_rng(0)
    one, other = ("".join(draw.choice(list("ACDEFGHIKL"), 60)) for _ in range(2))
    a, b, c = clusters([one, one[:30] + "W" + one[31:], other])
    assert a == b != c


def test_it_learns_what_a_chain_of_three_cannot_see(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    draw = np.random.default_rng(0)
    # The second half repeats the first: nothing shorter than a half of it shows that.
    halves = ["".join(draw.choice(list("ACGU"), 6)) for _ in range(400)]
    (tmp_path / "s.fasta").write_text("".join(f">{i}\n{h}{h}\n" for i, h in enumerate(halves)))
    family = Sequence(width=32, layers=2, heads=2, longest=16)
    item = Item(dataset="d", path="s.fasta", digest="", size=0)
    examples = family.read([item], [tmp_path / "s.fasta"])
    order = draw.permutation(len(examples)).tolist()
    train, held, test = (examples.only(order[a:b]) for a, b in ((0, 300), (300, 340), (340, None)))
    learner = family.begin(train, held, None, 0)
    before = learner.validate()
    optimiser = torch.optim.Adam(learner.module.parameters(), lr=5e-3)
    for step in range(250):
        optimiser.zero_grad()
        learner.loss(draw.integers(0, len(train), 64).tolist(), step).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert learner.validate() < before
    write_weights(tmp_path / "model.safetensors", {n: t.numpy() for n, t in learner.module.state_dict().items()})
    (tmp_path / "config.json").write_text(json.dumps({"config": learner.config()}))
    scores, others = family.evaluate(tmp_path, test), family.baselines(train, test)
    print(scores, others)
    assert scores["cross_entropy"] < 0.9 * min(o["cross_entropy"] for o in others.values())
    model = family.load(tmp_path)
    assert model.embed(["ACGUAC", "AC"]).shape == (2, 32)
    np.testing.assert_allclose(model.embed(["AC", "ACGUAC"])[0], model.embed(["AC"])[0], atol=1e-5)
    with pytest.raises(ValueError, match="Z is not in the alphabet ACGU"):
        model.score(["AZ"])
