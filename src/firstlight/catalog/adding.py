"""Files of people as a dataset: read, standardised, described and judged before anything is kept."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from arro3.io import write_parquet
from msgspec.structs import replace

from firstlight.core import Value

from ._records import Card, File, Record, Role, Variable
from .quality import Quality, examine
from .readers import Contents, Unreadable, media_type_of, read

Told = Callable[[str, int, int], None]
"""Told which file is read, and how many of how many are done."""
_PARQUET = "application/vnd.apache.parquet"
_SPLITS = {"train": "train", "training": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}
_MOST_FILES = 100_000


class Malformed(ValueError):
    """Some files cannot be read: why, by path. Nothing of any of them was kept."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        lines = list(self.problems.values())
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        super().__init__(f"{lines[0]}{more}")


class Draft(Value, frozen=True):
    """A dataset that has not been kept yet: its record as far as the files tell, and where each of its files is.

    `tables` are its Parquet files by their paths in it. `notes` say for people what was changed, guessed or left out.
    """

    record: Record
    files: dict[str, Path] = {}
    tables: dict[str, Path] = {}
    notes: tuple[str, ...] = ()


def draft(
    place: Path, scratch: Path, name: str = "", as_is: bool = False, told: Told | None = None,
    origin: Record | None = None,
) -> Draft:  # fmt: skip
    """What a file, or all files below a directory, would be as a dataset; `origin` is what somebody else's catalog says
    of them.

    Every table that can be read is written as Parquet, with units and types, into `scratch`, beside its file as it was.
    `as_is` keeps files unread that cannot be. Hidden files are left out, and so is what links lead to. Raises Malformed
    naming every file that cannot be read, OSError, and ValueError where there is nothing.
    """
    notes, problems = list[str](), dict[str, str]()
    files, tables, contents = dict[str, Path](), dict[str, Path](), dict[str, Contents]()
    found = dict(_files(place, notes))
    if not found:
        raise ValueError(f"{place}: there is no file in it")
    for number, (path, file) in enumerate(found.items()):
        if told is not None:
            told(path, number, len(found))
        try:
            contents[path] = read(file)
            _table_of(path, file, contents[path], scratch, len(found), files, tables)
        except Unreadable as error:
            problems[path] = str(error)
            if as_is:
                notes.append(f"kept unread: {error}")
                contents[path] = Contents(media_type=media_type_of(file) if file.is_file() else "")
        files.update(_bytes_of(path, file))
        if path in contents:
            notes += (f"{path}: {note}" for note in contents[path].notes)
    if problems and not as_is:
        raise Malformed(problems)
    record = _record(name or _name(origin.name or origin.id if origin else place.name), files, tables, contents, notes)
    return Draft(_with_origin(record, origin) if origin else record, files, tables, tuple(notes))


def kept(origin: Record, place: Path, name: str = "") -> Draft:
    """What somebody else's catalog has brought into a directory, described there already, as a dataset."""
    files = {file.path: place / file.path for file in origin.files}
    tables = {path: file for path, file in files.items() if path.endswith(".parquet")}
    return Draft(replace(origin, name=name or _name(origin.name or origin.id)), files, tables)


def _with_origin(record: Record, origin: Record) -> Record:
    """What the files say, and what the catalog says that they come from; of the card, what it says goes before."""
    said = {f: value for f in Card.__struct_fields__ if (value := getattr(origin.card, f))}
    theirs = {v.name: v for v in origin.variables}
    variables = tuple(
        replace(v, role=theirs[v.name].role, description=v.description or theirs[v.name].description)
        if v.name in theirs else v for v in record.variables
    )  # fmt: skip
    return replace(
        record, card=replace(record.card, **said), variables=variables or origin.variables,
        elements=tuple(sorted({*record.elements, *origin.elements})), provider=origin.provider, address=origin.address,
        retrieved=origin.retrieved, created=origin.created or record.created, synthetic=origin.synthetic,
        people=origin.people, instruments=record.instruments or origin.instruments, tags=origin.tags,
    )  # fmt: skip


def judge(drafted: Draft) -> Quality | None:
    """How good the tables of a draft are: ranges, doubles, outliers, leakage; None where it has none."""
    if not drafted.tables:
        return None
    splits = {
        _SPLITS[stem]: table for path, table in drafted.tables.items() if (stem := _stem(path).lower()) in _SPLITS
    }
    return examine(list(drafted.tables.values()), drafted.record.variables, splits if len(splits) > 1 else {})


def with_roles(drafted: Draft, roles: Mapping[str, Role]) -> Draft:
    """The same draft, with what its variables are. Raises ValueError for one that is not there."""
    there = {variable.name: variable for variable in drafted.record.variables}
    if unknown := [name for name in roles if name not in there]:
        raise ValueError(f"there is no variable {', '.join(unknown)}; there are: {', '.join(there) or 'none'}")
    variables = tuple(replace(v, role=roles.get(v.name, v.role)) for v in there.values())
    return replace(drafted, record=replace(drafted.record, variables=variables))


def missing(card: Card) -> list[str]:
    """What a data card does not say yet, of what whoever uses the data has to know."""
    wanted = ("title", "description", "creators", "licence", "sensitivity", "export_control", "training")
    return [field for field in wanted if not getattr(card, field)]


# ------------------------------------------------------------------


def _files(place: Path, notes: list[str]) -> Iterator[tuple[str, Path]]:
    """What is to be read, by its path in the dataset; a Zarr store, which is a directory, is one thing."""
    if not place.is_dir():
        yield place.name, place
        return
    if _is_zarr(place):
        yield place.name, place
        return
    count = 0
    for directory, below, names in os.walk(place):
        here = Path(directory)
        below.sort()
        for name in [n for n in below if (here / n).is_symlink()]:
            notes.append(f"{(here / name).relative_to(place)}: a link, and left out")
        stores = [n for n in below if not n.startswith(".") and not (here / n).is_symlink() and _is_zarr(here / n)]
        below[:] = [n for n in below if n not in stores and not n.startswith(".") and not (here / n).is_symlink()]
        for name in sorted([*names, *stores]):
            path = here / name
            if name.startswith("."):
                continue
            if path.is_symlink() or not (path.is_file() or name in stores):
                notes.append(f"{path.relative_to(place)}: a link or no file, and left out")
                continue
            count += 1
            if count > _MOST_FILES:
                raise ValueError(f"{place} has more than {_MOST_FILES:,} files: pack them, or add parts of it")
            yield path.relative_to(place).as_posix(), path


def _is_zarr(directory: Path) -> bool:
    return any((directory / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def _bytes_of(path: str, file: Path) -> Iterator[tuple[str, Path]]:
    """Its files: one, or all those of a store that is a directory."""
    if not file.is_dir():
        yield path, file
        return
    for inner in sorted(file.rglob("*")):
        if inner.is_file() and not inner.is_symlink():
            yield f"{path}/{inner.relative_to(file).as_posix()}", inner


def _table_of(
    path: str, file: Path, contents: Contents, scratch: Path, count: int, files: dict[str, Path],
    tables: dict[str, Path],
) -> None:  # fmt: skip
    """Write the table of a file, where it has one, as Parquet: all of it is read here, and found to be sound."""
    if contents.batches is None:
        return
    if contents.media_type == _PARQUET:
        tables[path] = file
        return
    inside = f"{PurePosixPath(path).with_suffix('')}.parquet" if count == 1 else f"tables/{path}.parquet"
    out = scratch / f"{hashlib.sha256(path.encode()).hexdigest()[:16]}.parquet"
    try:
        write_parquet(contents.batches(), out, compression="zstd(3)", created_by="firstlight")
    except BaseException as error:
        out.unlink(missing_ok=True)
        # The library that writes panics where the disk refuses, and that is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        said = re.search(r'message: "([^"]*)"', str(error))
        raise OSError(f"the table of {path} cannot be written: {said[1] if said else error}") from error
    tables[inside] = files[inside] = out


def _record(
    name: str, files: Mapping[str, Path], tables: Mapping[str, Path], contents: Mapping[str, Contents], notes: list[str]
) -> Record:
    types = {path: c.media_type for path, c in contents.items()} | dict.fromkeys(tables, _PARQUET)
    variables = dict[str, Variable]()
    for path, c in contents.items():
        for variable in c.variables:
            known = variables.get(variable.name)
            if known is not None and (known.unit, known.kind) != (variable.unit, variable.kind):
                notes.append(f"{path}: {variable.name} is in {variable.unit or 'no unit'} ({variable.kind}), and in "
                             f"{known.unit or 'no unit'} ({known.kind}) elsewhere")  # fmt: skip
            variables[variable.name] = variable if known is None else _both(known, variable)
    said: dict[str, Any] = {}
    for c in contents.values():
        said = {**c.metadata, **said}
    card = Card(title=str(said.get("title") or ""), description=str(said.get("description") or ""))
    instruments = {str(c.metadata["instrument"]) for c in contents.values() if c.metadata.get("instrument")}
    created = max((file.stat().st_mtime for file in files.values()), default=0.0)
    return Record(
        id="", name=name, digest="", created=created, rows=sum(c.rows for c in contents.values()),
        card=card, variables=tuple(variables.values()),
        elements=tuple(sorted({e for c in contents.values() for e in c.elements})),
        files=tuple(File(path, "", 0, types.get(path, "")) for path in files),
        instruments=tuple(sorted(instruments)),
    )  # fmt: skip


def _both(one: Variable, other: Variable) -> Variable:
    """One variable of two files: the ends of both."""
    lows = [v.low for v in (one, other) if v.low is not None]
    highs = [v.high for v in (one, other) if v.high is not None]
    return replace(one, low=min(lows, default=None), high=max(highs, default=None), missing=one.missing + other.missing)


def _name(called: str) -> str:
    """A name for what is called so elsewhere: a file, or a record of somebody else's."""
    plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in _stem(called)).strip("-.")
    return plain or "data"


def _stem(path: str) -> str:
    name = PurePosixPath(path).name
    return name.partition(".")[0] or name
