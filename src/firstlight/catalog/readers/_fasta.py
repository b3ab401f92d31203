"""Sequences in FASTA, through Biopython."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from . import _columns
from ._contents import Contents, Unreadable, library, trouble
from ._names import Label

_LETTERS = re.compile(r"[A-Za-z*.\-]*")
_DNA, _RNA = frozenset("ACGTNRYSWKMBDHV-."), frozenset("ACGUNRYSWKMBDHV-.")
_HELD = 4_000_000
"""Letters held at a time, of several sequences or of one that is longer."""
_LABELS = (Label("id"), Label("description"), Label("length"), Label("alphabet"), Label("gc"), Label("sequence"))


class _Sequence(NamedTuple):
    id: str
    description: str
    length: int
    alphabet: str
    gc: float | None
    sequence: str


def read(path: Path, media_type: str) -> Contents:
    """One row a sequence: its id, its description, its length in letters, its alphabet (dna, rna or protein, as far
    as its letters tell), the share of G and C among A, C, G, T and U, and its letters."""
    notes = list[str]()
    ids = Counter[str]()
    for one in _sequences(path):
        ids[one.id] += 1
    if not ids:
        raise Unreadable(path, "it has no sequence", "a sequence begins with a line such as '>name'")
    if again := [id for id, count in ids.items() if count > 1]:
        notes.append(f"{len(again)} ids occur more than once, {again[0]!r} among them")
    made = _columns.table(_LABELS, lambda: _chunks(path), notes, kinds={"gc": "float64"})
    return Contents(
        media_type=media_type, variables=made.variables, rows=made.rows, batches=made.batches, notes=tuple(notes)
    )


def _chunks(path: Path) -> Iterator[_columns.Chunk]:
    some, held = list[_Sequence](), 0
    for one in _sequences(path):
        some.append(one)
        held += one.length + 100
        if held > _HELD:
            yield list(zip(*some, strict=True))
            some, held = [], 0
    if some:
        yield list(zip(*some, strict=True))


def _sequences(path: Path) -> Iterator[_Sequence]:
    parser = library("Bio.SeqIO.FastaIO", path)
    with path.open("rb") as start:
        if not start.read(1).startswith(b">"):
            raise Unreadable(path, "line 1 does not begin with '>'", "check that it is FASTA, without comments")
    with path.open(encoding="utf-8") as file, trouble(path, "it is not FASTA", "check that it is a text file"):
        for number, (title, letters) in enumerate(parser.SimpleFastaParser(file), start=1):
            yield _sequence(path, number, title, letters)


def _sequence(path: Path, number: int, title: str, letters: str) -> _Sequence:
    id, _, description = title.partition(" ")
    which = f"sequence {number} ({id[:40]!r})"
    if not letters:
        raise Unreadable(path, f"{which} has no letters", "check that the file is complete")
    if not _LETTERS.fullmatch(letters):
        wrong = next(letter for letter in letters if not _LETTERS.fullmatch(letter))
        raise Unreadable(path, f"{which} has {wrong!r} among its letters", "check that the file is FASTA and complete")
    counts = Counter(letters.upper())
    known = counts.keys()
    alphabet = "dna" if known <= _DNA else "rna" if known <= _RNA else "protein"
    bases = sum(counts[base] for base in "ACGTU")
    gc = (counts["G"] + counts["C"]) / bases if bases and alphabet != "protein" else None
    return _Sequence(id, description.strip(), len(letters), alphabet, gc, letters)
