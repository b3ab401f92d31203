"""Parquet files as relations of DuckDB, in a database of bounded memory."""

import importlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from firstlight.core import Unavailable

_MEMORY = "1GB"
_NUMERIC = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
            "UHUGEINT", "FLOAT", "DOUBLE")  # fmt: skip


class Data(NamedTuple):
    """Files as a relation, whose column "row" numbers its rows, and what its columns are."""

    relation: str
    rows: int
    types: dict[str, str]
    row: str

    def numeric(self) -> list[str]:
        """Columns of numbers."""
        return [name for name, type in self.types.items() if type in _NUMERIC or type.startswith("DECIMAL")]

    def plain(self) -> list[str]:
        """Columns whose values are no lists or other nested ones."""
        nested = ("STRUCT", "MAP", "UNION", "BLOB", "VARIANT")
        return [n for n, type in self.types.items() if not type.endswith("]") and not type.startswith(nested)]

    def there(self, name: str) -> str:
        """A value, or NULL where there is none."""
        x = named(name)
        return f"CASE WHEN isnan({x}) THEN NULL ELSE {x} END" if self.types[name] in ("FLOAT", "DOUBLE") else x


@contextmanager
def connected() -> Iterator[tuple[Any, Path]]:
    """A database in memory, and a directory for what does not fit into it and for links to the files.

    Raises ValueError where the library is missing, and for whatever the database refuses.
    """
    try:
        duckdb = importlib.import_module("duckdb")
    except ImportError as error:
        raise Unavailable("examining data takes the library duckdb: install firstlight[data]") from error
    with tempfile.TemporaryDirectory(prefix="firstlight-quality-") as place:
        settings = {
            "memory_limit": _MEMORY, "temp_directory": f"{place}/spill", "threads": min(4, os.cpu_count() or 1),
            "autoinstall_known_extensions": False, "autoload_known_extensions": False,
            "preserve_insertion_order": False,
        }  # fmt: skip
        with duckdb.connect(":memory:", config=settings) as db:
            try:
                # Which it would print after two seconds, into whatever somebody else prints.
                db.execute("SET enable_progress_bar = false")
                yield db, Path(place)
            except duckdb.Error as error:
                raise ValueError(f"the data cannot be examined: {' '.join(str(error).split())[:300]}") from error


def relation(db: Any, place: Path, name: str, paths: Sequence[Path]) -> Data:
    """The files as a view. They are reached by links, as a name such as "a[1].parquet" is a pattern to the database.

    Raises ValueError where one of them cannot be read, or has other columns than the first.
    """
    links, before, offsets = list[str](), 0, list[str]()
    columns = list[str]()
    for n, path in enumerate(paths):
        link = place / f"{name}-{n:05}.parquet"
        try:
            link.symlink_to(path.resolve(strict=True))
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from error
        try:
            asked = "SELECT coalesce(sum(num_rows), 0) FROM parquet_file_metadata(?)"
            count = int(db.execute(asked, [str(link)]).fetchone()[0])
            found = [r[0] for r in db.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(link)]).fetchall()]
        except Exception as error:
            raise ValueError(f"{path} is not a Parquet file that can be read: {error}") from error
        columns = columns or found
        if set(found) != set(columns):
            has, first = ", ".join(found[:20]), ", ".join(columns[:20])
            raise ValueError(f"{path} has the columns {has}, and {paths[0]} has {first}: examine them apart")
        links.append(str(link))
        offsets.append(f"WHEN {quoted(str(link))} THEN {before}")
        before += count
    read = f"read_parquet([{', '.join(map(quoted, links))}], union_by_name=true"
    types = {r[0]: r[1] for r in db.execute(f"DESCRIBE SELECT * FROM {read})").fetchall()}
    row = next(n for n in ("row", "row_", "row__", "its row in the files") if n not in types)
    db.execute(
        f"CREATE VIEW {name} AS SELECT * EXCLUDE (filename, file_row_number), file_row_number + CASE filename "
        f"{' '.join(offsets)} END AS {named(row)} FROM {read}, filename=true, file_row_number=true)"
    )
    return Data(name, before, types, row)


def finite(name: str) -> str:
    """A number as a double, or NULL where there is none that is finite."""
    x = f"{named(name)}::DOUBLE"
    return f"CASE WHEN isfinite({x}) THEN {x} END"


def named(name: str) -> str:
    """A column's name, quoted."""
    return '"' + name.replace('"', '""') + '"'


def quoted(text: str) -> str:
    """A text, quoted."""
    return "'" + text.replace("'", "''") + "'"
