"""What people write of a model that is trained together: a site of its own side, and the coordinator of the whole."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from firstlight.core import Value

from ._family import Item
from ._federated_log import ChainedLog
from ._federated_step import Steps
from ._federated_wire import Terms
from ._release import inherited_of, parts_of
from ._report import Compute, Curve, Parameters, Report, write_report
from ._spec import Gate, Split, TrainSpec, check_words, read_words
from ._split import split
from ._weights import read_header
from .families import family

__all__ = ["Place", "Privacy", "RunSpec", "SiteSpec", "Steps", "Terms", "judge", "read_run", "read_site"]

Read = Callable[[Path], Any]
"""A document from a file, as values. Raises ValueError."""


class Privacy(Value, frozen=True):
    """What a site answers for at the least: groups (campaigns) in a sum, and noise that hides one of them."""

    least_groups: int = 5
    least_noise: float = 0.0

    def __post_init__(self) -> None:
        if self.least_groups < 1 or not 0 <= self.least_noise < float("inf"):
            raise ValueError("privacy: least_groups must be at least 1, and least_noise a number of at least 0")


class SiteSpec(Value, frozen=True):
    """A site's side: who it is, which of its data it lends to which runs, on whose word, and where it is asked.

    `data` are ids or names of datasets, or queries in one line. `runs` are the terms that the site has agreed to, which
    are all of one family. `approval`, where it is not empty, is a question that a person of the site must answer before
    anything leaves it, once a run. `token` is the file with what the coordinator must show, `owner` that with what who
    withdraws must; `log` is the folder for the site's log ("": in the data directory).
    """

    name: str
    data: tuple[str, ...]
    runs: tuple[Terms, ...]
    approval: str = ""
    address: str = "127.0.0.1:8471"
    token: str = ""
    owner: str = ""
    log: str = ""
    privacy: Privacy = Privacy()
    split: Split = Split()

    def __post_init__(self) -> None:
        if not self.name or set(self.name) & set(":@/ \t\n") or self.name.startswith("."):
            raise ValueError(f"name: a site cannot be called {self.name!r}: use letters, digits, - and _")
        if not self.data or not self.runs:
            raise ValueError("data and runs: name at least one dataset or query, and the terms of one run")
        if len({terms.run for terms in self.runs}) < len(self.runs):
            raise ValueError("runs: two have one name")
        if len(families := sorted({terms.family for terms in self.runs})) > 1:
            raise ValueError(f"runs: they are of the families {' and '.join(families)}: give each a file of its own")
        if not self.port.isdecimal():
            raise ValueError(f"address: {self.address!r} must be HOST:PORT")

    @property
    def host(self) -> str:
        """Where it listens."""
        return self.address.rpartition(":")[0].strip("[]") or "127.0.0.1"

    @property
    def port(self) -> str:
        """At which port; 0: one that is free."""
        return self.address.rpartition(":")[2]


class Place(Value, frozen=True):
    """Where a site is asked, and the file with the token that it wants to see."""

    url: str
    token: str = ""


class RunSpec(Value, frozen=True):
    """The coordinator's side of a run: its terms, what it begins with, and the sites.

    `start` is a version in the registry. With `data`, what comes of it is judged on these, which are the coordinator's
    own, and becomes the next version of `name` (that of the run where it is empty), as in a TrainSpec. A site that does
    not answer within `seconds` is left out of that round; with fewer than `least_sites` there is no step. Every
    `validate` rounds the sites are asked how good it is.
    """

    terms: Terms
    start: str
    sites: dict[str, Place]
    steps: Steps = Steps()
    least_sites: int = 2
    seconds: float = 600.0
    validate: int = 0
    data: tuple[str, ...] = ()
    name: str = ""
    title: str = ""
    description: str = ""
    split: Split = Split()
    gate: Gate = Gate()
    licence: str = ""

    def asked(self, parent: str) -> TrainSpec:
        """What is asked of the version, for the registry. Raises ValueError."""
        return TrainSpec(
            name=self.name, family=self.terms.family, data=self.data, title=self.title, description=self.description,
            options=self.terms.options, parent=parent, split=self.split, gate=self.gate, licence=self.licence,
        )  # fmt: skip


def read_site(file: Path, read: Read) -> SiteSpec:
    """A site's file; runs may be the names of files beside it. Raises ValueError saying what is wrong, and where."""
    document = _document(file, read)
    runs = document.get("runs")
    if isinstance(runs, list):
        document["runs"] = [_terms(file, run, read) for run in runs]
    return read_words(document, SiteSpec, str(file))


def read_run(file: Path, read: Read) -> RunSpec:
    """A coordinator's file; its terms may be the name of a file beside it, as may a site be its address alone. Raises
    ValueError saying what is wrong, and where."""
    document = _document(file, read)
    if "terms" in document:
        document["terms"] = _terms(file, document["terms"], read)
    if isinstance(sites := document.get("sites"), dict):
        document["sites"] = {name: {"url": told} if isinstance(told, str) else told for name, told in sites.items()}
    made = read_words(document, RunSpec, str(file))
    made = made if made.name else msgspec.structs.replace(made, name=made.terms.run)
    if made.data:
        made.asked("")  # A name that no model can have is said now, and not when all is done.
    return made


def _document(file: Path, read: Read) -> dict[str, Any]:
    document = read(file)
    if not isinstance(document, Mapping):
        raise ValueError(f"{file} must have names and values")
    return dict(document)


def _terms(file: Path, told: object, read: Read) -> object:
    """Terms as they stand there, or in a file that all sides have."""
    if isinstance(told, str):
        place = file.parent / told
        told = read(place)
        check_words(told, Terms, str(place))
    else:
        check_words(told, Terms, f"{file}, the terms of a run")
    return told


# ------------------------------------------------------------------ what came of it


def judge(
    folder: Path, start: Path, run: RunSpec, parent: str, items: Sequence[Item], files: Sequence[Path]
) -> Report:  # fmt: skip
    """Judge the release of a run on the coordinator's own data, beside what it began with and what these data give by
    themselves, and write its report beside it. Data that the start has learned from judge nothing.

    Each site is a dataset of its own in the report, so that what one has contributed can be followed. Raises
    ValueError.
    """
    out, books = folder / "release", ChainedLog(folder / "ledger.log", reading=True).entries
    made = family(run.terms.family, run.terms.options)
    examples = made.read(items, files)
    parts = split(examples, run.split, parts_of(start))
    learn, test = examples.only(parts["train"]), examples.only(parts["test"])
    rounds = [entry for entry in books if entry["what"] == "round"]
    losses = [entry["loss"] for entry in rounds if entry["loss"] is not None] or [0.0]
    state = read_header(folder / "state.safetensors").tensors
    scores = made.evaluate(out, test)
    report = Report(
        name=run.name, family=run.terms.family, metric=made.metric, parent=parent, scores=scores,
        parent_scores=made.evaluate(start, test), baselines=made.baselines(learn, test),
        forgetting=made.forgetting(out, start),
        curve=Curve(
            steps=len(rounds), best_step=len(rounds), first=losses[0], best=min(losses), last=losses[-1]
        ),
        compute=Compute(
            device=f"that of {len(rounds[-1]['sites'])} sites, which did not say", device_hours=0.0,
            seconds=rounds[-1]["at"] - books[0]["at"],
        ),
        parameters=Parameters(
            changed=sum(math.prod(t.shape) for name, t in state.items() if name.startswith("weights/"))
        ),
        parts={p: len(chosen) for p, chosen in parts.items() if p == "test"},
        groups={"test": len({examples.groups[i] for i in parts["test"]})},
        seed=run.terms.seed, order=books[-1]["digest"], data=_of_sites(run.terms, rounds),
        inherited=inherited_of(start),
    )  # fmt: skip
    write_report(out, report)
    return report


def _of_sites(terms: Terms, rounds: Sequence[Mapping[str, Any]]) -> tuple[Item, ...]:
    """What each site has contributed, as files that nobody else has."""
    digests = dict[str, list[str]]()
    sizes = dict[str, int]()
    for entry in rounds:
        for site, gave in entry["sites"].items():
            digests.setdefault(site, []).append(gave["digest"])
            sizes[site] = sizes.get(site, 0) + gave["bytes"]
    return tuple(
        Item(
            dataset=f"together/{terms.run}/{site}", path="sums of gradients", size=sizes[site], group=site,
            digest=f"sha256:{hashlib.sha256(chr(10).join(told).encode()).hexdigest()}",
        )
        for site, told in sorted(digests.items())
    )  # fmt: skip
