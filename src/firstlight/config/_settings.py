"""Where Firstlight keeps things, and what its facilities are: `firstlight.toml` and the environment."""

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from firstlight.core import CALLER

from ._problems import meant

FILE = "firstlight.toml"
KEYS = ("journal", "facilities", "catalog", "sources")
_CATALOG = ("store", "index", "endpoint", "region", "access_key_id", "secret_access_key", "skip_signature")


class BadSettings(ValueError):
    """Settings that cannot be used; the text says which, where and what to do. It never has a value in it."""


class Settings(Struct, frozen=True, kw_only=True):
    """Of one data directory. `facilities` has a table of options a name, `kind` among them where it differs.

    `journal` is "sqlite", "memory", or a PostgreSQL URL. `catalog` says where data are kept, if not in the directory:
    `index` (a PostgreSQL URL), `store` ("s3://bucket/prefix") and options of that store. `sources` has a table of
    options a name, like `facilities`, for other people's data. All of them may hold secrets: none is shown by `repr`.
    """

    data_dir: Path
    journal: str = "sqlite"
    facilities: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    catalog: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def journal_part(self) -> tuple[str, dict[str, Any]]:
        """The name of the journal's part, and its options."""
        if self.journal == "sqlite":
            return "sqlite", {"path": self.data_dir / "journal.sqlite"}
        return ("memory", {}) if self.journal == "memory" else ("postgres", {"dsn": self.journal})

    def __repr__(self) -> str:
        names = ", ".join(self.facilities)
        return f"Settings(data_dir={str(self.data_dir)!r}, journal={self.journal_part()[0]}, facilities=[{names}])"

    def __rich_repr__(self) -> Any:
        yield "data_dir", str(self.data_dir)
        yield "journal", self.journal_part()[0]
        yield "facilities", list(self.facilities)


def load_settings(data_dir: Path | None, environ: Mapping[str, str]) -> Settings:
    """The settings of a data directory: as told, else $FIRSTLIGHT_HOME, else ~/.local/share/firstlight.

    $FIRSTLIGHT_JOURNAL goes before `journal` in `<data_dir>/firstlight.toml`. Raises BadSettings.
    """
    home = environ.get("FIRSTLIGHT_HOME")
    root = (data_dir or (Path(home) if home else Path.home() / ".local/share/firstlight")).expanduser().absolute()
    file = root / FILE
    table = _table(file)
    for key in table.keys() - set(KEYS):
        raise BadSettings(f"{file}: there is no setting {key!r}. {meant(key, KEYS)}")
    facilities, sources = _parts(file, table, "facilities"), _parts(file, table, "sources")
    for name, options in facilities.items():
        if not isinstance(options.get("measures", False), bool):
            raise BadSettings(f"{file}: facilities.{name}.measures is true or false, without quotes.")
    catalog = table.get("catalog", {})
    if not isinstance(catalog, dict):
        raise BadSettings(f"{file}: catalog is a table. Write [catalog], and its options below.")
    for key, value in catalog.items():
        if key not in _CATALOG:
            raise BadSettings(f"{file}: there is no option {key!r} of the catalog. {meant(key, _CATALOG)}")
        if not isinstance(value, str):
            raise BadSettings(f"{file}: catalog.{key} is not text. Write it in quotes.")
    if (index := catalog.get("index", "")) and not index.startswith(_POSTGRES):
        raise BadSettings(f"{file}: catalog.index is none that is known. Leave it out, or use postgresql://HOST/DB.")
    if told := environ.get("FIRSTLIGHT_JOURNAL"):
        journal, origin = told, "$FIRSTLIGHT_JOURNAL"
    else:
        journal, origin = table.get("journal", "sqlite"), f"{file}: journal"
    if not isinstance(journal, str) or not (journal in ("sqlite", "memory") or journal.startswith(_POSTGRES)):
        raise BadSettings(f"{origin} is none that is known. Use sqlite, memory, or postgresql://HOST/DATABASE.")
    return Settings(data_dir=root, journal=journal, facilities=facilities, catalog=catalog, sources=sources)


def check_facility_name(name: str) -> None:
    """Raises BadSettings where nothing can be called so."""
    _check_name(name, "a facility", ("any", CALLER))


def _check_name(name: str, what: str, taken: Sequence[str]) -> None:
    if not _NAME.fullmatch(name) or name in taken:
        raise BadSettings(
            f"{name!r} cannot name {what}. Use lower-case letters, digits and hyphens; not {' or '.join(taken)}."
        )


def add_facility(settings: Settings, name: str, options: Mapping[str, Any]) -> Path:
    """Add a facility's table at the end of the settings file, whose other lines stay as they are; the file.

    Raises BadSettings where the name is taken or no name, OSError where the file cannot be written.
    """
    check_facility_name(name)
    if name in settings.facilities:
        raise BadSettings(f"{settings.data_dir / FILE}: there is a facility {name} already. Change it there.")
    return _add(settings, f"facilities.{name}", options)


def add_source(settings: Settings, name: str, options: Mapping[str, Any]) -> Path:
    """Add the table of a source of other people's data, as `add_facility` does."""
    _check_name(name, "a source", ("here", "web"))
    if name in settings.sources:
        raise BadSettings(f"{settings.data_dir / FILE}: there is a source {name} already. Change it there.")
    return _add(settings, f"sources.{name}", options)


def _add(settings: Settings, table: str, options: Mapping[str, Any]) -> Path:
    file = settings.data_dir / FILE
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    gap = "" if not before else "\n" if before.endswith("\n") else "\n\n"
    lines = [f"[{table}]", *(f"{_key(key)} = {_toml(value)}" for key, value in options.items())]
    text = before + gap + "\n".join(lines) + "\n"
    tomllib.loads(text)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    private = file.with_name(f".{FILE}.{os.getpid()}")
    private.write_text(text, encoding="utf-8")
    if file.exists():
        private.chmod(file.stat().st_mode)
    private.replace(file)
    return file


_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _toml(value: Any) -> str:
    """A value as TOML writes it. Raises BadSettings for what TOML has no word for."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value).replace("\x7f", "\\u007f")
        case int() | float():
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(map(_toml, value))}]"
        case Mapping():
            return f"{{{', '.join(f'{_key(str(k))} = {_toml(v)}' for k, v in value.items())}}}"
        case _:
            kind = type(value).__name__
            raise BadSettings(f"an option of type {kind} cannot be written down. Use text, numbers, lists and tables.")


_POSTGRES = ("postgresql://", "postgres://")


def _parts(file: Path, table: Mapping[str, Any], key: str) -> dict[str, dict[str, Any]]:
    """Tables of options, each with a name."""
    found = table.get(key, {})
    if not isinstance(found, dict) or not all(isinstance(options, dict) for options in found.values()):
        raise BadSettings(f"{file}: {key} are tables. Write [{key}.NAME], and its options below.")
    for name, options in found.items():
        if not isinstance(options.get("kind", ""), str):
            raise BadSettings(f"{file}: {key}.{name}.kind is not text. Name its kind in quotes.")
    return found


def _table(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise BadSettings(f"{file}: it cannot be read: {error.strerror}. Check its permissions.") from error
    except UnicodeDecodeError as error:
        raise BadSettings(f"{file}: it is not text. Save it as UTF-8.") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadSettings(f"{file}: it is not TOML: {error}. Correct it there.") from error
