"""Tables of datasets, read whole."""

from pathlib import Path
from typing import Any

from arro3.core import Schema
from arro3.io import read_parquet


def read_columns(path: Path, where: str) -> tuple[dict[str, list[Any]], Schema]:
    """The values of every column by its name, and the schema with all metadata. Raises ValueError, which says where."""
    try:
        reader = read_parquet(path)
        schema = reader.schema
        columns: dict[str, list[Any]] = {name: [] for name in schema.names}
        for batch in reader:
            for i, name in enumerate(schema.names):
                columns[name] += batch.column(i).to_pylist()
    except BaseException as error:
        # The library panics where a file is damaged, and that is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"{where}: it cannot be read as a table ({error})") from error
    return columns, schema
