"""Entries to bytes and back; old words to new ones."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ._facts import SCHEMA, Entry

Upcast = Callable[[dict[str, Any]], dict[str, Any]]
UPCASTS: Mapping[int, Upcast] = {}
"""`UPCASTS[n]` makes an entry of schema n, as plain JSON values, into one of schema n + 1."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Entry)


class _Header(msgspec.Struct):
    schema: int = 1


_header = msgspec.json.Decoder(_Header)


class UnreadableEntry(ValueError):
    """Bytes that are not an entry this version can read."""


def encode(entry: Entry) -> bytes:
    """An entry as JSON, the same bytes every time."""
    return _encoder.encode(entry)


def decode(line: bytes, upcasts: Mapping[int, Upcast] = UPCASTS, schema: int = SCHEMA) -> Entry:
    """An entry from JSON of this schema or an older one. Raises UnreadableEntry."""
    try:
        written = _header.decode(line).schema
        if written == schema:
            return _decoder.decode(line)
        if written > schema:
            raise UnreadableEntry(
                f"entry has schema {written}, this version reads up to {schema}: install a newer firstlight"
            )
        plain = msgspec.json.decode(line)
        for version in range(written, schema):
            plain = upcasts[version](plain) | {"schema": version + 1}
        return msgspec.convert(plain, Entry)
    except (msgspec.DecodeError, msgspec.ValidationError, KeyError) as error:
        raise UnreadableEntry(f"not a journal entry: {error}") from error
