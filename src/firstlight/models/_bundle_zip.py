"""The one form that a bundle has: a zip file of stored entries, which any tool opens, and of which no byte is free.

There are no dates, owners, comments, compression or gaps: names, lengths and contents determine every byte. So nothing
here interprets a directory that a stranger wrote: whoever reads knows what must come next, and compares. (PKWARE
APPNOTE 6.3.)
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from ._registry_facts import Damaged

_LOCAL, _CENTRAL = struct.Struct("<4s5H3L2H"), struct.Struct("<4s6H3L5H2L")
_END, _END_64, _LOCATOR = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
_MOST_32, _MOST_16 = 0xFFFFFFFF, 0xFFFF
_UTF_8, _STORED, _TIME, _DATE = 0x800, 0, 0, 0x21
"""The date is the first that the format has: 1980-01-01."""
_UNIX, _MODE = 3 << 8, 0o100644 << 16
_CHUNK = 1 << 20


def local(name: str, crc: int, size: int) -> bytes:
    """What stands before an entry of so many bytes."""
    raw = name.encode()
    large = size >= _MOST_32
    extra = struct.pack("<2H2Q", 1, 16, size, size) if large else b""
    short = _MOST_32 if large else size
    head = _LOCAL.pack(
        b"PK\3\4", 45 if large else 20, _UTF_8, _STORED, _TIME, _DATE, crc, short, short, len(raw), len(extra)
    )  # fmt: skip
    return head + raw + extra


def central(name: str, crc: int, size: int, offset: int) -> bytes:
    """What the directory at the end says of an entry that begins there."""
    raw = name.encode()
    beyond = ([size, size] if size >= _MOST_32 else []) + ([offset] if offset >= _MOST_32 else [])
    extra = struct.pack(f"<2H{len(beyond)}Q", 1, 8 * len(beyond), *beyond) if beyond else b""
    short, version = min(size, _MOST_32), 45 if beyond else 20
    head = _CENTRAL.pack(
        b"PK\1\2", _UNIX | version, version, _UTF_8, _STORED, _TIME, _DATE, crc, short, short, len(raw), len(extra), 0,
        0, 0, _MODE, min(offset, _MOST_32),
    )  # fmt: skip
    return head + raw + extra


def end(count: int, size: int, offset: int) -> bytes:
    """What stands after a directory of so many entries and bytes that begins there."""
    found = b""
    if count >= _MOST_16 or size >= _MOST_32 or offset >= _MOST_32:
        found = _END_64.pack(b"PK\6\6", 44, _UNIX | 45, 45, 0, 0, count, count, size, offset)
        found += _LOCATOR.pack(b"PK\6\7", 0, offset + size, 1)
    short = min(count, _MOST_16)
    return found + _END.pack(b"PK\5\6", 0, 0, short, short, min(size, _MOST_32), min(offset, _MOST_32), 0)


class Directory:
    """The directory of a bundle as its entries pass by."""

    def __init__(self) -> None:
        self.offset, self._entries = 0, list[bytes]()

    def took(self, name: str, crc: int, size: int) -> None:
        """One more entry, that begins where the last one ended."""
        self._entries.append(central(name, crc, size, self.offset))
        self.offset += len(local(name, crc, size)) + size

    def rest(self) -> bytes:
        """All that stands after the last entry."""
        all_ = b"".join(self._entries)
        return all_ + end(len(self._entries), len(all_), self.offset)


class Writer:
    """Writes the entries of a bundle one after the other."""

    def __init__(self, to: BinaryIO) -> None:
        self._to, self._directory = to, Directory()

    def document(self, name: str, content: bytes) -> None:
        """An entry that is in memory."""
        crc = zlib.crc32(content)
        self._to.write(local(name, crc, len(content)) + content)
        self._directory.took(name, crc, len(content))

    def copy(self, name: str, source: BinaryIO, size: int, digest: str) -> None:
        """An entry from a file. Raises Damaged where it is not what size and digest promise."""
        crc, first = _read(chunks(source, size))
        source.seek(0)
        self._to.write(local(name, crc, size))
        _, written = _read(chunks(source, size), self._to)
        if not first == written == digest or source.read(1):
            raise Damaged(f"{name} is {written}, and not {digest}: it was changed or damaged")
        self._directory.took(name, crc, size)

    def close(self) -> None:
        """The directory, after the last entry."""
        self._to.write(self._directory.rest())


class Reader:
    """Reads a bundle from its first byte to its last, entry by entry, as its user says what must come."""

    def __init__(self, source: BinaryIO) -> None:
        self._source, self._directory = source, Directory()

    def document(self, name: str, most: int) -> bytes:
        """The next entry, which must have this name, and at most so many bytes. Raises Damaged."""
        head = self._source.read(_LOCAL.size)
        if len(head) < _LOCAL.size or head[:4] != b"PK\3\4":
            raise Damaged(f"{name} is not where it must be: this is no bundle, or it was cut off")
        size = _LOCAL.unpack(head)[8]
        if size > most:
            raise Damaged(f"{name} would have {size:,} bytes, and may have {most:,}")
        head += self._source.read(len(name.encode()))
        content = self._source.read(size)
        crc = zlib.crc32(content)
        if len(content) != size or head != local(name, crc, size):
            raise Damaged(f"{name} is not what must stand here, or was changed or damaged")
        self._directory.took(name, crc, size)
        return content

    def copy(self, name: str, to: BinaryIO, size: int, digest: str) -> None:
        """The next entry, which must have this name, length and digest, into a file. Raises Damaged."""
        head = self._source.read(len(local(name, 0, size)))
        crc, found = _read(chunks(self._source, size), to)
        if head != local(name, crc, size) or found != digest:
            raise Damaged(f"{name} is not what its signed manifest promises: it was changed or damaged")
        self._directory.took(name, crc, size)

    def finish(self) -> None:
        """Nothing may follow but the directory that belongs to what was read. Raises Damaged."""
        rest = self._directory.rest()
        if self._source.read(len(rest) + 1) != rest:
            raise Damaged("what follows the last entry was changed or damaged")


def chunks(source: BinaryIO, size: int) -> Iterator[bytes]:
    """So many bytes, or fewer where there are no more."""
    while size > 0 and (chunk := source.read(min(size, _CHUNK))):
        size -= len(chunk)
        yield chunk


def _read(content: Iterator[bytes], to: BinaryIO | None = None) -> tuple[int, str]:
    """The checksum and digest of what passes, which is written on where somebody wants it."""
    crc, digest = 0, hashlib.sha256()
    for chunk in content:
        crc = zlib.crc32(chunk, crc)
        digest.update(chunk)
        if to is not None:
            to.write(chunk)
    return crc, f"sha256:{digest.hexdigest()}"
