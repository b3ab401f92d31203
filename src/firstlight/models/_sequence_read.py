"""Sequences from FASTA files, and which of them are so alike that they must not be torn apart."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from ._family import Examples, Item

SUFFIXES = (".fasta", ".fa", ".faa", ".fna")
ALIKE = 0.3
"""Sequences that share so much of their k-mers (Jaccard) are of one cluster."""
HASHES = 32
WORD = 5


def read_fasta(text: str, where: str) -> Iterator[str]:
    """The sequences of a FASTA text, in capitals, without gaps. Raises ValueError where it is none."""
    parts: list[str] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if line.startswith(">"):
            if parts:
                yield "".join(parts)
            parts = []
        elif line and not line.startswith(";"):
            letters = line.upper().rstrip("*").replace("-", "")
            if parts is None or not (letters.isascii() and letters.isalpha()):
                raise ValueError(f"{where}, line {number}: it is no FASTA")
            parts.append(letters)
    if parts:
        yield "".join(parts)


def read_sequences(items: Sequence[Item], files: Sequence[Path]) -> Examples:
    """All sequences of the FASTA files, each once, in alphabetical order; groups are clusters of similar ones."""
    found: set[str] = set()
    for item, path in zip(items, files, strict=True):
        if item.path.lower().endswith(SUFFIXES) or "fasta" in item.media_type:
            where = f"{item.dataset}, {item.path}"
            try:
                found.update(read_fasta(path.read_text(encoding="ascii"), where))
            except UnicodeDecodeError as error:
                raise ValueError(f"{where}: it is no FASTA") from error
    if not found:
        raise ValueError(f"there is no FASTA with sequences among {', '.join(i.path for i in items) or 'no files'}")
    ordered = sorted(found)
    return Examples(ordered, clusters(ordered), ordered)


def clusters(sequences: Sequence[str]) -> list[str]:
    """The cluster of every sequence, by single linkage: those that share a hash of the smallest (MinHash, Broder 1997)
    are compared, and joined where their k-mers are alike."""
    words = [{s[i : i + WORD] for i in range(max(len(s) - WORD + 1, 1))} for s in sequences]
    parent = list(range(len(sequences)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    shared: dict[int, list[int]] = {}
    for i, own in enumerate(words):
        for value in sorted(map(_hash, own))[:HASHES]:
            shared.setdefault(value, []).append(i)
    for members in shared.values():
        for i, j in itertools.pairwise(members):
            if root(i) != root(j) and len(words[i] & words[j]) >= ALIKE * len(words[i] | words[j]):
                parent[max(root(i), root(j))] = min(root(i), root(j))
    return [f"cluster-{hashlib.sha256(sequences[root(i)].encode()).hexdigest()[:16]}" for i in range(len(sequences))]


def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
