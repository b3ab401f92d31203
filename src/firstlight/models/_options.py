"""Options of families as values: unknown ones are refused, with the one that was probably meant."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import TypeVar

import msgspec

from firstlight.core import Value

Kind = TypeVar("Kind", bound=Value)


def nearest(name: str, known: Collection[str], most: int | None = None) -> str:
    """What to say of a name that is none of those known: the one that was probably meant, or (the first of) them."""
    near = get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(list(known)[:most])}"


def read_options(kind: type[Kind], options: Mapping[str, object], family: str) -> Kind:
    """Options of a family as `kind`. Raises ValueError saying which is unknown, or what is wrong."""
    known = kind.__struct_fields__
    for name in options:
        if name not in known:
            raise ValueError(f"{family}: there is no option {name!r}; {nearest(name, known)}")
    try:
        return msgspec.convert(dict(options), kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"{family}: {error}") from error
