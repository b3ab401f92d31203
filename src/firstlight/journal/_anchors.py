"""Anchors: lines beside the database that say how far each campaign's chain had come, and with what digest.

They outlive a database that was cut short, and are small enough to be sent to somebody else.
"""

import os
from pathlib import Path

import msgspec

from ._chain import Head


class _Anchor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    campaign: str
    seq: int
    digest: str


def write_anchor(path: Path, campaign: str, head: Head) -> None:
    """Append one anchor, durably."""
    line = msgspec.json.encode(_Anchor(campaign, head.seq, head.digest.hex())) + b"\n"
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":
            # A power cut tore the last line: what follows must not be lost with it.
            line = b"\n" + line
        os.write(file, line)
        os.fsync(file)
    finally:
        os.close(file)


def read_anchors(path: Path) -> tuple[dict[str, list[Head]], list[str]]:
    """The anchors by campaign, and what is wrong with lines that are none."""
    anchors: dict[str, list[Head]] = {}
    problems = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            anchor = msgspec.json.decode(line, type=_Anchor)
            head = Head(anchor.seq, bytes.fromhex(anchor.digest))
        except (msgspec.DecodeError, ValueError):
            problems.append(f"{path}, line {number} is no anchor: torn by a power cut, or altered")
            continue
        anchors.setdefault(anchor.campaign, []).append(head)
    return anchors, problems
