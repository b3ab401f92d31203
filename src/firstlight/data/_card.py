"""A data card as people write it."""

from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

import msgspec

from firstlight.catalog.index import Card


def card_of(said: Mapping[str, Any], card: Card) -> Card:
    """A card with what is said put over it. Raises ValueError naming a field that is not there, or a value that is none
    of its words."""
    known = {field.name for field in msgspec.structs.fields(Card)}
    if unknown := [key for key in said if key not in known]:
        raise ValueError(f"a data card has no {', '.join(unknown)}; it has: {', '.join(sorted(known))}")
    whole = msgspec.to_builtins(card) | {k: [v] if k in _LISTS and isinstance(v, str) else v for k, v in said.items()}
    try:
        return msgspec.convert(whole, Card)
    except msgspec.ValidationError as error:
        raise ValueError(_plain(str(error))) from error


_LISTS = ("creators", "keywords", "uses")


def _plain(message: str) -> str:
    said, _, field = message.partition(" - at `$.")
    name = field.rstrip("`")
    words = choices(name)
    return f"{name}: use one of {', '.join(words)}" if words else f"{name}: {said}" if name else said


def choices(field: str) -> tuple[str, ...]:
    """The words that a field of a data card may have, () where it takes any text."""
    words = get_args(get_type_hints(Card).get(field))
    return tuple(word for word in words if isinstance(word, str) and word)
