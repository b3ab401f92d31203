"""What travels between a coordinator and a site: one safetensors body each way, with what is said beside the tensors.

The same words and tensors are the same bytes. A file holds numbers and nothing that could be run.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from firstlight.core import Value

from ._weights import packed, unpacked

Tensors = dict[str, npt.NDArray[Any]]
MEDIA_TYPE = "application/vnd.safetensors"
_KEY = "firstlight"
_T = TypeVar("_T", bound=Value)


class Terms(Value, frozen=True):
    """What is trained together, and how. It is fixed once a run has begun.

    `family` is its name, `options` are the family's. A site answers at most once in each of `rounds`, from all its
    examples, or from `batch` of them where that is not 0. With `clip` what one group (a campaign) adds to a gradient is
    at most so long, and with `noise` every site adds Gaussian noise of `noise` x `clip` before the sum leaves it.
    """

    run: str
    family: str
    rounds: int
    options: dict[str, object] = {}
    batch: int = 0
    seed: int = 0
    clip: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not self.run or len(self.run) > 64 or not all(c.isascii() and (c.isalnum() or c in "-_") for c in self.run):
            raise ValueError(f"run: {self.run!r} must be up to 64 letters, digits, - and _")
        if self.rounds < 1 or self.batch < 0 or self.seed < 0:
            raise ValueError("rounds must be at least 1, batch (0: all examples) and seed at least 0")
        if not (0 <= self.clip < float("inf") and 0 <= self.noise < float("inf")):
            raise ValueError("clip and noise must be at least 0 (none), and finite")
        if self.noise and not self.clip:
            raise ValueError("noise: nothing is hidden by noise unless clip bounds what a group adds")
        if self.clip and self.batch:
            raise ValueError("batch: with clip every group adds in every round: batch must be 0")


class Ask(Value, frozen=True):
    """What a coordinator asks of a site, and what the site's policy judges: to join (the tensors are those of the model
    to begin with, and `config` its config.json), for the sum of gradients at these weights, or how good they are on
    what the site keeps back for validation."""

    what: Literal["join", "gradient", "metrics"]
    terms: Terms
    round: int = 0
    config: str = ""


class Answer(Value, frozen=True):
    """What a site answers; the tensors are the sum of gradients, or what is trained (zeros) where it joins.

    `weights` is the digest of what was asked about. `loss` is the mean over its examples (None where noise hides it).
    With clip the sum is over `groups`, else over `examples`.
    """

    run: str
    round: int
    site: str
    weights: str = ""
    examples: int = 0
    groups: int = 0
    loss: float | None = None


def pack(told: Value, tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """One body."""
    return packed(tensors, {_KEY: msgspec.json.encode(told).decode()})


def unpack(body: bytes, kind: type[_T]) -> tuple[_T, Tensors]:
    """What is said in a body, and its tensors. Raises ValueError where it is none, or says what is not known."""
    try:
        tensors, said = unpacked(body, "the body")
        return msgspec.json.decode(said[_KEY], type=kind), tensors
    except (ValueError, KeyError, msgspec.DecodeError) as error:
        raise ValueError(f"the body is not what it must be: {error}") from error


def digest_of(tensors: Mapping[str, npt.NDArray[Any]]) -> str:
    """The digest (sha256) of names, shapes, kinds and numbers, whatever else is said beside them."""
    made = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        made.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        made.update(array.tobytes())
    return f"sha256:{made.hexdigest()}"


def norm_of(tensors: Mapping[str, npt.NDArray[Any]]) -> float:
    """The Euclidean length of all of them together."""
    return float(np.sqrt(sum(float((np.asarray(t, np.float64) ** 2).sum()) for t in tensors.values())))


def check_tensors(found: Mapping[str, npt.NDArray[Any]], wanted: Mapping[str, npt.NDArray[Any]], where: str) -> None:
    """Raises ValueError unless they have the names and shapes that are wanted, and finite numbers."""
    if found.keys() != wanted.keys():
        odd = sorted(found.keys() ^ wanted.keys())
        raise ValueError(f"{where}: other tensors than are trained ({', '.join(odd[:5])})")
    for name, array in found.items():
        if array.shape != wanted[name].shape or array.dtype.kind != "f":
            raise ValueError(f"{where}: {name} is {array.dtype} {array.shape}, not floats {wanted[name].shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{where}: {name} has numbers that are not finite")
