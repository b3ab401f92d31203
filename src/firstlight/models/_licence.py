"""The licence of a model: whatever the data and the parent ask for is asked for by the model too.

Whether a model is an adaptation of the data that it learned from is not settled anywhere. Here it is taken to be one,
which is the careful side: no condition is lost on the way. It is no legal advice.
"""

import re
from collections.abc import Iterable, Sequence

ATTRIBUTION = "give credit and keep the notices"
CHANGES = "say what was changed"
ENDORSEMENT = "claim no endorsement"
PATENTS = "keep the terms about patents"
NO_COMMERCE = "no commercial use"
NO_DERIVATIVES = "share nothing that was changed"
NETWORK = "give the source to whoever uses it over a network"

OTHER = "other"
"""How a licence begins that is none of the known ones: all that must be kept follows, "other: CC-BY-SA-4.0; ACME"."""
NOT_STATED = "not stated"
"""What stands there for something of which nobody has said the licence."""

_CREDIT = frozenset({ATTRIBUTION})
_BY = frozenset({ATTRIBUTION, CHANGES, ENDORSEMENT})


_ALIKE = "share alike, under "


def _alike(*names: str) -> frozenset[str]:
    return frozenset(f"{_ALIKE}{name}" for name in names)


def _creative_commons() -> dict[str, frozenset[str]]:
    """The CC licences by version. What may be shared under a later version has that version's conditions."""
    found = dict[str, frozenset[str]]()
    versions = ("2.0", "2.5", "3.0", "4.0")
    for n, version in enumerate(versions):
        found[f"CC-BY-{version}"] = _BY
        found[f"CC-BY-NC-{version}"] = _BY | {NO_COMMERCE}
        found[f"CC-BY-ND-{version}"] = _BY | {NO_DERIVATIVES}
        found[f"CC-BY-NC-ND-{version}"] = _BY | {NO_COMMERCE, NO_DERIVATIVES}
        for kind, own in (("CC-BY-SA", _BY), ("CC-BY-NC-SA", _BY | {NO_COMMERCE})):
            found[f"{kind}-{version}"] = own | _alike(*(f"{kind}-{v} or later" for v in versions[: n + 1]))
    return found


def _gnu() -> dict[str, frozenset[str]]:
    """The GNU licences: "or later" is kept by the later ones, "only" by none but itself."""
    found = dict[str, frozenset[str]]()
    families = {"GPL": ("2.0", "3.0"), "LGPL": ("2.1", "3.0"), "AGPL": ("3.0",)}
    for kind, versions in families.items():
        for n, version in enumerate(versions):
            base = _BY | ({PATENTS} if version == "3.0" else set()) | ({NETWORK} if kind == "AGPL" else set())
            later = _alike(*(f"{kind}-{v} or later" for v in versions[: n + 1]))
            found[f"{kind}-{version}-or-later"] = base | later
            found[f"{kind}-{version}-only"] = base | later | _alike(f"{kind}-{version} only")
    return found


CONDITIONS: dict[str, frozenset[str]] = {
    "CC0-1.0": frozenset(), "PDDL-1.0": frozenset(), "Unlicense": frozenset(), "0BSD": frozenset(),
    "MIT": _CREDIT, "ISC": _CREDIT, "BSD-2-Clause": _CREDIT, "ODC-By-1.0": _CREDIT, "CDLA-Permissive-2.0": _CREDIT,
    "BSD-3-Clause": _CREDIT | {ENDORSEMENT}, "BSD-3-Clause-LBNL": _CREDIT | {ENDORSEMENT},
    "Apache-2.0": _BY | {PATENTS},
    "ODbL-1.0": _CREDIT | _alike("ODbL-1.0"), "MPL-2.0": _BY | {PATENTS} | _alike("MPL-2.0"),
    **_creative_commons(), **_gnu(),
}  # fmt: skip
"""What each of the licences that are known here (SPDX) asks of whoever shares something that was made from it."""

_BY_LOWER = {name.lower(): name for name in CONDITIONS} | {
    f"{kind}-{version}".lower(): f"{kind}-{version}-only"
    for kind, version in (("GPL", "2.0"), ("GPL", "3.0"), ("LGPL", "2.1"), ("LGPL", "3.0"), ("AGPL", "3.0"))
}
_ADDRESSES = (
    re.compile(r"https?://(?:www\.)?spdx\.org/licenses/([\w.+-]+?)(?:\.html|\.json)?/?"),
    re.compile(r"https?://(?:www\.)?opensource\.org/licenses?/([\w.+-]+?)/?"),
    re.compile(r"https?://(?:www\.)?creativecommons\.org/licenses/([a-z-]+/\d\.\d)(?:/.*)?"),
    re.compile(r"https?://(?:www\.)?creativecommons\.org/publicdomain/(zero/1\.0)(?:/.*)?"),
)


def named(said: str) -> str:
    """The SPDX id of a licence as people write it ("cc-by 4.0", its address); what is not known stays as it is."""
    text = " ".join(said.split())
    for pattern in _ADDRESSES:
        if found := pattern.fullmatch(text):
            name = found[1].replace("/", "-")
            name = "CC0-1.0" if name == "zero-1.0" else f"CC-{name}" if "creativecommons" in text else name
            return _BY_LOWER.get(name.lower(), text)
    return _BY_LOWER.get(text.lower().replace(" ", "-"), text)


def parts(said: str) -> tuple[str, ...]:
    """The licences that hold together in one statement: those of "other: A; B", and of "A AND B" where both are known.

    () where nobody has said anything.
    """
    text = " ".join(said.split())
    if text.lower().startswith(f"{OTHER}:"):
        return tuple(dict.fromkeys(named(part) for part in text[len(OTHER) + 1 :].split(";") if part.strip()))
    both = [named(part) for part in text.strip("()").split(" AND ")]
    if len(both) > 1 and all(part in CONDITIONS for part in both):
        return tuple(dict.fromkeys(both))
    return (named(text),) if text else ()


def asked(said: str) -> list[str]:
    """What a licence asks for, as far as it is known, a phrase each, in order."""
    return sorted({phrase for part in parts(said) for phrase in _phrases(part, CONDITIONS.get(part, frozenset()))})


def _phrases(part: str, conditions: frozenset[str]) -> set[str]:
    """Conditions of a licence as people read them: of sharing alike only that it is meant."""
    own = {c for c in conditions if not c.startswith(_ALIKE)}
    return own | ({f"{_ALIKE}{part}"} if own != conditions else set())


def licence(own: str, of_data: Iterable[str] = (), of_parent: str = "") -> str:
    """The licence under which a model may be shared: `own` as its makers want it ("" where they say nothing), from
    those of its data and of its parent ("" where nobody has said).

    Where `own` is "", the one of theirs that asks for all that any of them asks for; where none does, or where one is
    not known here, "other: " and all of them, so that nothing is lost, also not by whoever goes on from this model. ""
    where nobody has said anything at all. Raises ValueError where `own` would drop a condition of the data's or
    parent's.
    """
    sources = [*of_data, *([of_parent] if of_parent else [])]
    theirs = list(dict.fromkeys(part for said in sources for part in (parts(said) or (NOT_STATED,))))
    unknown = [part for part in theirs if part not in CONDITIONS]
    mine = parts(own)
    if not mine:
        return _narrowest(theirs, unknown)
    if all(part in CONDITIONS for part in mine):
        _check(own, frozenset().union(*(CONDITIONS[part] for part in mine)), theirs)
        rest = [part for part in unknown if part not in mine and part != NOT_STATED]
    else:
        # Nobody here knows what the own words ask for, so that all that others ask for is named beside them.
        rest = [part for part in theirs if part not in mine and part != NOT_STATED and not _free(part)]
    return _listed([*mine, *rest])


def _narrowest(theirs: Sequence[str], unknown: Sequence[str]) -> str:
    if set(theirs) <= {NOT_STATED}:
        return ""
    if not unknown:
        wanted = frozenset().union(*(CONDITIONS[part] for part in theirs))
        if enough := [part for part in theirs if CONDITIONS[part] >= wanted]:
            return enough[0]
    return _listed([part for part in theirs if not _free(part)] or list(theirs))


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 and names[0] != NOT_STATED else f"{OTHER}: {'; '.join(names)}"


def _free(part: str) -> bool:
    return part in CONDITIONS and not CONDITIONS[part]


def _check(own: str, covered: frozenset[str], theirs: Sequence[str]) -> None:
    for part in theirs:
        if lost := CONDITIONS.get(part, frozenset()) - covered:
            raise ValueError(
                f"licence: {own} would drop what {part} asks of whoever shares what was made from it: "
                f"{'; '.join(sorted(_phrases(part, lost)))}. "
                "Name a licence that asks for that too, or none, to have it follow from the data"
            )
