"""What is asked of a training run. Unknown words are refused, with the one that was probably meant."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from firstlight.core import Resources, Value

from ._family import Item
from ._options import nearest

Kind = TypeVar("Kind", bound=Value)


class Split(Value, frozen=True):
    """Which part of the groups is kept back for validation (to stop by) and for the test (to judge by)."""

    validation: float = 0.15
    test: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 < self.validation < 1 and 0 < self.test < 1 and self.validation + self.test < 1):
            raise ValueError(
                f"split: validation ({self.validation:g}) and test ({self.test:g}) are each more than 0, and together "
                "less than 1"
            )


class Training(Value, frozen=True):
    """How the loop trains: AdamW, a warm-up and a cosine down to nothing, an average of the weights as it goes.

    `batch` is over all processes together; each looks at `at_once` of its share at a time (None: at all of it), for the
    memory of its device: but for rounding it is the same. `average` is how much of the averaged weights stays at each
    step (0: the last weights are released). `validate` is after how many steps it is judged and saved; `patience` how
    often it may be judged without getting better (None: to the end). `precision` "auto" is bf16 where the device
    multiplies more quickly in it (GPUs, and CPUs with AMX) and the family bears it.
    """

    steps: int = 1_000
    batch: int = 32
    at_once: int | None = None
    learning_rate: float = 1e-3
    warmup: int = 0
    weight_decay: float = 0.0
    clip: float = 1.0
    average: float = 0.0
    validate: int = 50
    patience: int | None = None
    precision: Literal["auto", "float32", "bf16"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch", 1), ("validate", 1), ("warmup", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"training: {name} must be at least {least}, not {getattr(self, name)}")
        if not self.learning_rate > 0 or self.weight_decay < 0 or self.clip <= 0 or not 0 <= self.average < 1:
            raise ValueError(
                "training: learning_rate and clip must be more than 0, weight_decay at least 0, average from 0 "
                "to below 1"
            )
        for name in ("patience", "at_once"):
            if (least := getattr(self, name)) is not None and least < 1:
                raise ValueError(f"training: {name} must be at least 1, not {least}")


class Gate(Value, frozen=True):
    """What a version must reach to be promoted, fixed before it is trained.

    `at_most` and `at_least` are bounds on scores of the test. It must also beat its parent's metric (on the very same
    test) by the part `better` of it, and every baseline, unless `baselines` is false. `forgetting` are bounds on what
    may be lost of what the parent could do. `ask`, where it is not empty, is put to a person first. `shadow` is on how
    many trials that the version in production served it must first have done no worse; 0 asks for none.
    """

    at_most: dict[str, float] = {}
    at_least: dict[str, float] = {}
    better: float = 0.0
    baselines: bool = True
    forgetting: dict[str, float] = {}
    ask: str = ""
    shadow: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.better < 1:
            raise ValueError(f"gate: better is a part of the parent's score, from 0 to below 1, not {self.better:g}")
        if self.shadow < 0:
            raise ValueError(f"gate: shadow is a number of trials, not {self.shadow}")


class TrainSpec(Value, frozen=True):
    """A model to be made: what it is called, of which family, from which data, how, and what it must reach.

    `data` are ids or names of datasets, or queries in one line. `parent` is a model to begin with. `facility` trains
    it, with these `resources`; `approval`, where it is not empty, is a question that a person must answer first.
    """

    name: str
    family: str
    data: tuple[str, ...]
    title: str = ""
    description: str = ""
    options: dict[str, object] = {}
    parent: str = ""
    split: Split = Split()
    training: Training = Training()
    gate: Gate = Gate()
    facility: str = "local"
    resources: Resources = Resources()
    approval: str = ""
    licence: str = ""
    seconds: float | None = None

    def __post_init__(self) -> None:
        if not self.name or set(self.name) & set(":@/ \t\n") or self.name.startswith("."):
            raise ValueError(f"name: a model cannot be called {self.name!r}: use letters, digits, - and _")
        if not self.data:
            raise ValueError("data: name at least one dataset or query")


class Order(Value, frozen=True):
    """What a facility is told: everything, so that the same order gives the same model anywhere.

    The files are inputs of the action, `data_<n>` in the order of `items`, and
    `parent_config` and `parent_weights` where there is a parent (`parent` is its version).
    """

    name: str
    family: str
    options: dict[str, object]
    split: Split
    training: Training
    items: tuple[Item, ...]
    parent: str = ""


def read_spec(document: Mapping[str, Any], where: str = "the specification") -> TrainSpec:
    """A specification from a document. Raises ValueError saying what is wrong, where, and what was probably meant."""
    return read_words(document, TrainSpec, where)


def read_words(document: Mapping[str, Any], kind: type[Kind], where: str) -> Kind:
    """What people write, as a value of some kind. Raises ValueError as `read_spec` does."""
    check_words(document, kind, where)
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"{where}: {error}") from error


def check_words(document: object, kind: type, where: str) -> None:
    """Raises ValueError for a word that nobody knows, with the one that was probably meant."""
    if not isinstance(document, Mapping):
        raise ValueError(f"{where} must have names and values, not {type(document).__name__}")
    fields = {f.name: f.type for f in msgspec.structs.fields(kind)}
    for name, value in document.items():
        if name not in fields:
            raise ValueError(f"{where}: there is no {name!r}; {nearest(str(name), fields)}")
        inner = fields[name]
        if isinstance(inner, type) and issubclass(inner, Value):
            check_words(value, inner, f"{where}, {name}")


def checkpoint_folder() -> Path | None:
    """Where an action may leave what its next attempt goes on with; None outside one."""
    told = os.environ.get("FIRSTLIGHT_CHECKPOINT")
    return Path(told) if told else None
