"""Which examples are learned from, which say when to stop, and which judge: never the same group in two of them."""

import hashlib
from collections.abc import Mapping
from typing import get_args

from ._family import Examples, Part
from ._spec import Split


def split(examples: Examples, how: Split, before: Mapping[str, Part] | None = None) -> Mapping[Part, list[int]]:
    """The numbers of the examples of every part, ascending.

    Groups that share an example are one group. `before` says, by `mark`, in which part a parent had a group: what it
    has learned from judges none of its children, and what judged it judges them. What the data themselves say of their
    parts is kept, too. Raises ValueError where there are too few groups, or the data's own parts tear a group apart.
    """
    group = _joined(examples)
    told = _told(examples, group)
    for own, name in zip(examples.groups, group, strict=True):
        if (was := (before or {}).get(mark(own))) is not None:
            # Of joined groups one may have been learned from: then all of them are.
            told[name] = was if told.get(name, was) == was else "train"
    sizes: dict[str, int] = {}
    for name in group:
        sizes[name] = sizes.get(name, 0) + 1
    part = dict(told)
    left = sorted(sizes.keys() - told.keys(), key=lambda name: hashlib.sha256(f"{how.seed}:{name}".encode()).digest())
    if left:
        have = {p: sum(sizes[g] for g, q in told.items() if q == p) for p in get_args(Part)}
        for name in left:
            # In the order of the hash: the test is filled first, then the validation, and the rest is learned from.
            filled: tuple[tuple[Part, float], ...] = (("test", how.test), ("validation", how.validation))
            for p, wanted in filled:
                if have[p] < wanted * len(examples):
                    part[name] = p
                    have[p] += sizes[name]
                    break
            else:
                part[name] = "train"
    found: dict[Part, list[int]] = {p: [] for p in get_args(Part)}
    for i, name in enumerate(group):
        found[part[name]].append(i)
    if empty := [p for p, chosen in found.items() if not chosen]:
        raise ValueError(
            f"{len(examples)} examples in {len(sizes)} groups that must not be torn apart leave nothing for "
            f"{' and '.join(empty)}: there must be at least three groups, and parts as small as the groups allow"
        )
    return found


def mark(group: str) -> str:
    """What a release says of a group instead of its name, which may be nobody else's business."""
    return hashlib.sha256(group.encode()).hexdigest()[:16]


def _joined(examples: Examples) -> list[str]:
    """The group of every example, those that share a key joined under the first name of theirs."""
    parent = {name: name for name in examples.groups}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    first: dict[str, str] = {}
    for key, name in zip(examples.keys, examples.groups, strict=True):
        a, b = root(first.setdefault(key, name)), root(name)
        parent[max(a, b)] = min(a, b)
    return [root(name) for name in examples.groups]


def _told(examples: Examples, group: list[str]) -> dict[str, Part]:
    told: dict[str, Part] = {}
    for name, part in zip(group, examples.parts or [None] * len(group), strict=True):
        if part is not None and told.setdefault(name, part) != part:
            raise ValueError(
                f"the data have {name} (or what is the same as something in it) in {told[name]} and in {part}"
            )
    return told
