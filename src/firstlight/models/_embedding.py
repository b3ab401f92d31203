"""Names as vectors: what is spelled alike lies near, and no list of names has to be kept."""

import hashlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from firstlight.core import Categorical, Continuous, Integer, Ordered, Parameter

Array = npt.NDArray[np.float64]

NAME, UNIT, ROLE, WORD = 24, 8, 6, 32
"""Widths of the vectors of a name, a unit, a role, and a value that is a word."""
STATIC = NAME + UNIT + ROLE
OBSERVABLE = NAME + UNIT


@lru_cache(maxsize=8192)
def spelled(text: str, width: int) -> Array:
    """A vector (width,) of length one, from the pieces of one to three letters of a text; 0 of an empty one."""
    found = np.zeros(width)
    letters = f"<{text.lower()}>" if text else ""
    for size in (1, 2, 3):
        for at in range(len(letters) - size + 1):
            found += _hashed(letters[at : at + size], width)
    length = float(np.sqrt(found @ found))
    return found / length if length > 0 else found


@lru_cache(maxsize=65536)
def _hashed(piece: str, width: int) -> Array:
    """One place of a vector, with a sign, both by the digest of a piece of text."""
    digest = int.from_bytes(hashlib.blake2b(piece.encode(), digest_size=8).digest(), "little")
    found = np.zeros(width)
    found[(digest >> 1) % width] = 1.0 if digest & 1 else -1.0
    return found


@lru_cache(maxsize=8192)
def scattered(text: str, width: int) -> Array:
    """A vector (width,) of length one that is the text's alone: however much two are alike, theirs are not."""
    digest = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
    found = np.random.default_rng(digest).standard_normal(width)
    return np.asarray(found / np.sqrt(found @ found))


def of_parameter(p: Parameter) -> Array:
    """The vector (STATIC,) of a parameter: its name, its unit, and what kind of values it has."""
    role = np.zeros(ROLE)
    role[[Continuous, Integer, Ordered, Categorical].index(type(p))] = 1.0
    role[4] = float(getattr(p, "scale", "linear") == "log")
    role[5] = 1.0
    return np.concatenate([spelled(p.name, NAME), spelled(getattr(p, "unit", ""), UNIT), role])


def of_observable(name: str, unit: str) -> Array:
    """The vector (OBSERVABLE,) of an observable: its name and its unit."""
    return np.concatenate([spelled(name, NAME), spelled(unit, UNIT)])
