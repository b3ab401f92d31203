"""Which structures a potential asks labels for, and the campaign in which facilities perform that."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from firstlight.catalog.library import Library
from firstlight.core import Failed
from firstlight.models.labels import OUTPUT, labeller_of, next_labels, read_structures, write_structures
from firstlight.models.potential import STARTS, Potential
from firstlight.models.registry import Registry, Version, read_report

CHOSEN, CAMPAIGN = "chosen.extxyz", "labels.yaml"


def ask_for_labels(
    library: Library, registry: Registry, model: str, pool: Sequence[Path], folder: Path, *, count: int,
    method: str = "emt", facility: str = "local", parallel: int = 1, without: Sequence[Path] = (),
) -> Path:  # fmt: skip
    """A campaign file in `folder`, which must not be there yet: it has those `count` structures of `pool` (files of
    extended XYZ) labelled that would teach a model most.

    `model` is a version of a potential, or the name of one that comes in a wheel. What it and those before it learned
    from is not chosen again, nor are the structures of the files `without`: those that were asked for and failed, say.
    Raises ValueError, LookupError, OSError; nothing is left then.
    """
    if count < 1:
        raise ValueError(f"count: at least 1 structure can be asked for, not {count}")
    if folder.exists():
        raise FileExistsError(str(folder))
    try:
        labeller_of(method)
    except Failed as unknown:
        raise ValueError(unknown.message) from unknown
    images = [atoms for path in pool for atoms in read_structures(path)]
    known = [atoms for path in without for atoms in read_structures(path)]
    release: Path | str = model
    if model not in STARTS:
        version = registry.resolve(model)
        if version.made.family != "potential":
            raise ValueError(f"{version.id} is of the family {version.made.family}: only potentials ask for labels")
        release = registry.load_checked(version)
        known += [atoms for path in _learned(library, registry, version) for atoms in read_structures(path)]
    chosen = [images[n] for n in next_labels(release, images, count, known)]
    folder.mkdir(parents=True)
    write_structures(folder / CHOSEN, chosen)
    (folder / CAMPAIGN).write_text(_campaign(folder.resolve().name, model, count, method, facility, parallel))
    return folder / CAMPAIGN


def _learned(library: Library, registry: Registry, version: Version) -> Iterator[Path]:
    """The files that a version and its ancestors learned from."""
    for item in read_report(registry.load_checked(version)).data:
        record = library.index.get(item.dataset).record
        for file in record.files:
            if file.digest == item.digest and file.path.lower().endswith(Potential.suffixes):
                yield library.file(file)
    if version.made.parent:
        yield from _learned(library, registry, registry.resolve(version.made.parent))


def _campaign(id: str, model: str, count: int, method: str, facility: str, parallel: int) -> str:
    """One trial a structure: one that fails takes no other with it, and many may be under way at once."""
    return f"""\
# {count} structures of which {model} knows least. Resources, time and so on are yours to add.
id: {id}
title: {json.dumps(f"Labels by {method} for what {model} knows least")}
parameters:
  structure: {{values: {list(range(1, count + 1))}}}
objectives:
  largest-force: {{direction: minimize, unit: eV/angstrom}}
observables:
  seconds: {{unit: s}}
budget: {count}
strategy: grid
parallel: {parallel}
evaluate:
  function: "firstlight.models.labels:label"
  facility: {json.dumps(facility)}
  settings: {{method: {json.dumps(method)}}}
  inputs: {{structures: {CHOSEN}}}
  outputs: [{OUTPUT}]
"""
