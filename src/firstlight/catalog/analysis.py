"""Questions in SQL to the contents of many datasets at once: DuckDB over their Parquet files, read where they are.

Nothing but those files can be read, and nothing can be written: a question is one SELECT, DuckDB's access to other
files and to the network is closed, and its settings are locked, before the first one is asked. The import raises
`Unavailable` where DuckDB is not installed.
"""

import re
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from firstlight.core import Unavailable, Value

try:
    import duckdb
except ImportError as missing:
    raise Unavailable("analysis needs DuckDB: install firstlight[data]") from missing

__all__ = ["Analysis", "Answer"]

_NUMBERS = re.compile(r"U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL\(.*\)")
_READING = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
"""The parts of a statement, as DuckDB names them, that do nothing but read."""
_FUNCTIONS = {"generate_series", "json_each", "json_tree", "range", "repeat", "repeat_row", "unnest"}
"""Functions that may stand for a table. Others read files, run SQL of their own, or believe in addresses of memory."""
_ALLOWED = (
    "data are only read here. Ask with SELECT, WITH, FROM, VALUES, DESCRIBE, SUMMARIZE or SHOW "
    "(a PIVOT says its values with IN)"
)
_OBSERVATIONS = "dataset VARCHAR, trial VARCHAR, observable VARCHAR, value DOUBLE, unit VARCHAR"


class Answer(Value, frozen=True):
    """What came of a question: the names and DuckDB's types of the columns, and the rows. `more` says that there are
    more of them than were asked for."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    more: bool = False


class _Described(msgspec.Struct):
    """A column as our own Parquet files describe it, under their key "firstlight"."""

    name: str
    role: str = ""
    unit: str = ""


class _About(msgspec.Struct):
    columns: list[_Described] = []


_about = msgspec.json.Decoder(_About)


class Analysis:
    """Datasets as views, to be asked: one of each, `everything` in them, and their `observations`.

    `views` has by dataset the name of its view: its own name, with a number where that is taken, whatever the case of
    its letters. `everything` has the columns of all by name, after `dataset`; a column is text where the datasets do
    not agree on what it is. `observations` has a line for each value that a trial of our own datasets observed:
    dataset, trial, observable, value, unit. Names that differ in case only are one to SQL.

    A context manager; one question at a time, others wait. Raises ValueError for a dataset that is no Parquet.
    """

    def __init__(
        self, datasets: Mapping[str, Sequence[Path]], *, memory: int = 1 << 30, threads: int = 2,
        scratch: Path | None = None,
    ) -> None:  # fmt: skip
        """`memory` is in bytes; what needs more is put into a directory below `scratch` (the system's if None), which
        is removed with its content at the end."""
        self._lock = threading.Lock()
        files = {name: [_literal(file) for file in some] for name, some in datasets.items()}
        for name, some in files.items():
            if not some:
                raise ValueError(f"dataset {name!r} has no Parquet file")
        self.views = _names(files)
        self._files = [file for some in files.values() for file in some]
        with ExitStack() as stack:
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="firstlight-", dir=scratch))
            self._db = duckdb.connect(":memory:", config={
                "memory_limit": f"{memory >> 10}KiB", "threads": threads, "temp_directory": place,
                "autoinstall_known_extensions": False, "autoload_known_extensions": False,
                "preserve_insertion_order": False,
            })  # fmt: skip
            stack.callback(self._db.close)
            self._db.execute("SET TimeZone = 'UTC'")
            self._make_views(files)
            allowed = ", ".join(map(_text, self._files))
            self._db.execute(f"SET allowed_paths = [{allowed}]")
            self._db.execute("SET enable_external_access = false")
            self._db.execute("SET lock_configuration = true")
            self._stack = stack.pop_all()

    def __enter__(self) -> "Analysis":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files, and remove what was put aside."""
        self._stack.close()

    def query(
        self, sql: str, parameters: Sequence[object] | Mapping[str, object] = (), *, limit: int = 10_000,
        seconds: float = 60.0,
    ) -> Answer:  # fmt: skip
        """At most `limit` rows of what one SELECT (WITH, FROM, VALUES, DESCRIBE, SUMMARIZE, SHOW) finds. `parameters`
        are for `?` or `$1`, or by name for `$name`.

        Raises ValueError with what DuckDB says of the question, where it is another statement, or takes more than
        `seconds`; Unavailable where a file cannot be read any more.
        """
        sql.encode()  # A ValueError where it is no text.
        with self._lock, self._asked(seconds):
            asked = self._db.extract_statements(sql)
            if len(asked) != 1:
                raise ValueError(f"ask one question at a time: these are {len(asked)} statements")
            if asked[0].type != duckdb.StatementType.SELECT:
                raise ValueError(f"{asked[0].type.name} is not allowed: {_ALLOWED}")
            self._check(sql)
            found = self._db.execute(asked[0], dict(parameters) if isinstance(parameters, Mapping) else [*parameters])
            columns = found.description or []
            rows = found.fetchmany(limit + 1)
        names, types = tuple(str(c[0]) for c in columns), tuple(str(c[1]) for c in columns)
        return Answer(names, types, tuple(rows[:limit]), len(rows) > limit)

    def _check(self, sql: str) -> None:
        """A SELECT may have statements that write in its WITH, to the files that may be read, and some functions do
        more than compute: what is not known to be harmless is refused."""
        (tree,) = self._db.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone() or ("{}",)
        whole = msgspec.json.decode(tree)
        if whole.get("error", True):
            raise ValueError(f"{whole.get('error_message', 'this')} is not allowed: {_ALLOWED}")
        for part in _parts(whole):
            kind = str(part.get("type"))
            if kind == "TABLE_FUNCTION":
                name = str(part["function"].get("function_name"))
                if name.lower() not in _FUNCTIONS:
                    raise ValueError(f"{name}() is not allowed: ask the views, or {', '.join(sorted(_FUNCTIONS))}")
            elif ("cte_map" in part or kind.endswith("_NODE")) and kind not in _READING:
                raise ValueError(f"{kind.removesuffix('_NODE').removesuffix('_QUERY')} is not allowed: {_ALLOWED}")

    @contextmanager
    def _asked(self, seconds: float) -> Iterator[None]:
        late = threading.Event()

        def stop() -> None:
            late.set()
            self._db.interrupt()

        timer = threading.Timer(seconds, stop)
        timer.daemon = True
        timer.start()
        try:
            yield
        except duckdb.InterruptException as error:
            if not late.is_set():
                raise
            raise ValueError(f"this takes longer than {seconds:g} s: ask for less, or give it more time") from error
        except duckdb.Error as error:
            if gone := [file for file in self._files if not Path(file).exists()]:
                raise Unavailable(f"{gone[0]} is not there any more") from error
            if isinstance(error, duckdb.IOException):
                raise Unavailable(f"the data cannot be read: {error}") from error
            raise ValueError(str(error)) from error
        finally:
            timer.cancel()

    # ------------------------------------------------------------------ views

    def _make_views(self, files: Mapping[str, Sequence[str]]) -> None:
        tables = dict[str, list[tuple[str, str]]]()
        for name, some in files.items():
            view = _name(self.views[name])
            try:
                self._db.execute(f"CREATE VIEW {view} AS SELECT * FROM {_parquet(some)}")
                tables[name] = [(row[0], row[1]) for row in self._db.execute(f"DESCRIBE {view}").fetchall()]
            except duckdb.Error as error:
                raise ValueError(f"dataset {name!r} cannot be read as Parquet: {error}") from error
        self._db.execute(f"CREATE VIEW everything AS {_everything(tables, self.views)}")
        parts = [part for name, some in files.items() for part in self._observed(name, some)]
        whole = " UNION ALL ".join(parts) or f"SELECT {_nothing(_OBSERVATIONS)} WHERE false"
        self._db.execute(f"CREATE VIEW observations AS SELECT * FROM ({whole}) WHERE value IS NOT NULL")

    def _observed(self, dataset: str, files: Sequence[str]) -> Iterator[str]:
        """What the trials of a dataset have observed: files may differ in their units."""
        listed = ", ".join(map(_text, files))
        said = self._db.execute(
            f"SELECT file_name, value FROM parquet_kv_metadata([{listed}]) WHERE key = 'firstlight'::BLOB"
        ).fetchall()
        for file, content in said:
            try:
                described = _about.decode(content).columns
            except msgspec.MsgspecError:
                continue  # Somebody else's word of the same name.
            here = [row[0] for row in self._db.execute(f"DESCRIBE FROM {_parquet([file])}").fetchall()]
            roles = {column.name: column for column in described if column.name in here}
            seen = [column for column in roles.values() if column.role == "observable"]
            if seen:
                trial = "trial::VARCHAR" if "trial" in roles else "NULL::VARCHAR"
                named = [_plain(column.name) for column in seen]
                units = [
                    f"coalesce({_name(f'{name}.unit')}, {_text(column.unit)})"
                    if f"{name}.unit" in roles and roles[f"{name}.unit"].role == "unit" else _text(column.unit)
                    for name, column in zip(named, seen, strict=True)
                ]  # fmt: skip
                yield (
                    f"SELECT {_text(dataset)} AS dataset, {trial} AS trial, "
                    f"unnest([{', '.join(map(_text, named))}]) AS observable, "
                    f"unnest([{', '.join(f'TRY_CAST({_name(c.name)} AS DOUBLE)' for c in seen)}]) AS value, "
                    f"unnest([{', '.join(units)}]) AS unit FROM {_parquet([file])}"
                )


def _parts(tree: object) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _parts(part)


def _names(datasets: Mapping[str, object]) -> dict[str, str]:
    """A view's name for each dataset."""
    taken, made = {"everything", "observations"}, dict[str, str]()
    for dataset in datasets:
        plain = re.sub(r"[\x00-\x1f\x7f]+", " ", dataset).strip() or "dataset"
        made[dataset] = next(n for i in count(1) if (n := plain if i == 1 else f"{plain} {i}").casefold() not in taken)
        taken.add(made[dataset].casefold())
    return made


def _everything(tables: Mapping[str, Sequence[tuple[str, str]]], views: Mapping[str, str]) -> str:
    types = dict[str, set[str]]()
    for columns in tables.values():
        for name, kind in columns:
            types.setdefault(name.lower(), set()).add("a number" if _NUMBERS.fullmatch(kind) else kind)
    label = "dataset"
    own = next(n for i in count(1) if (n := "its dataset" if i == 1 else f"its dataset {i}") not in types)
    parts = list[str]()
    for dataset, columns in tables.items():
        chosen = [f"{_text(dataset)} AS {label}"]
        for name, _ in columns:
            value = _name(name) if len(types[name.lower()]) == 1 else f"{_name(name)}::VARCHAR"
            chosen.append(f"{value} AS {_name(own if name.lower() == label else name)}")
        parts.append(f"SELECT {', '.join(chosen)} FROM {_name(views[dataset])}")
    return " UNION ALL BY NAME ".join(parts) or "SELECT NULL::VARCHAR AS dataset WHERE false"


def _nothing(columns: str) -> str:
    """A row without values of these columns."""
    return ", ".join(f"NULL::{kind} AS {name}" for name, kind in (column.split() for column in columns.split(", ")))


def _plain(column: str) -> str:
    """An observable's own name, which a column of its table may have had already."""
    while column.endswith(" (observable)"):
        column = column.removesuffix(" (observable)")
    return column


def _literal(file: Path) -> str:
    """A file's path, as DuckDB takes it for that of one file."""
    path = str(Path(file).absolute())
    if re.search(r"[*?\[\]{}\x00]", path):
        raise ValueError(f"DuckDB would take {path!r} for a pattern of several files: move it to another place")
    return path


def _parquet(files: Sequence[str]) -> str:
    listed = ", ".join(map(_text, files))
    return f"read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
