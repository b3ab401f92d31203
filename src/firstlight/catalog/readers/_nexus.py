"""What makes HDF5 NeXus (manual.nexusformat.org): its default plot, its instrument, its sample."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._records import Role

if TYPE_CHECKING:
    from ._hdf5 import Found

_MOST_STEPS = 32
"""Soft links and defaults that are followed, one after the other."""
_LONGEST = 1000
"""Characters of a value that counts as metadata."""


class Plot(NamedTuple):
    """The default plot: where its signal and its axes lie."""

    signal: str
    axes: tuple[str, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """Axes first, as a table has them."""
        return (*self.axes, self.signal)

    def roles(self) -> dict[str, Role]:
        """Axes were set, and the signal was seen."""
        return {**dict.fromkeys(self.axes, "parameter"), self.signal: "observable"}


def plot(h5py: Any, file: Any) -> Plot | None:
    """The data that the file asks to be plotted: by its `default` attributes, else its first NXdata with a signal."""
    chosen = [group for group in (_default(h5py, file), *_of_class(h5py, file, "NXdata")) if group is not None]
    for group in chosen:
        signal = attribute(group, "signal") or _marked(h5py, group)
        where = _within(h5py, file, group, signal) if signal else None
        if where is not None:
            names = _names(group, "axes") or _names(file[where], "axes")
            axes = [_within(h5py, file, group, name) for name in names if name not in (".", "")]
            return Plot(where, tuple(dict.fromkeys(axis for axis in axes if axis is not None and axis != where)))
    return None


def metadata(h5py: Any, file: Any, single: Sequence["Found"]) -> dict[str, str | float | int]:
    """What the file says with attributes of its root, and with datasets of one value (by class where it is NeXus)."""
    said: dict[str, str | float | int] = {}
    for name in file.attrs:
        value = attribute(file, name)
        if value and name not in ("default", "NX_class"):
            said[name] = value
    for one in single:
        plain = _plain(h5py, one.dataset)
        if plain is not None and plain != "":
            parent, _, name = one.path.rpartition("/")
            kind = attribute(file[parent or "/"], "NX_class").removeprefix("NX")
            key = name if kind == "entry" else f"{kind}.{name}" if kind else one.path.strip("/").replace("/", ".")
            unit = attribute(one.dataset, "units")
            said.setdefault(f"{key} [{unit}]" if unit else key, plain)
    return said


def attribute(item: Any, name: str) -> str:
    """A text attribute, "" where there is none or it is something else."""
    try:
        value = item.attrs.get(name, "")
    except (OSError, TypeError, ValueError, RuntimeError, KeyError):
        return ""  # Of a type that the library cannot read.
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)[0] if value.size == 1 else ""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return text[:_LONGEST] if isinstance(text, str) else ""


def _plain(h5py: Any, dataset: Any) -> str | float | int | None:
    """The one value of a dataset, where that is a short text or a number."""
    if dataset.is_virtual or dataset.external:
        return None
    if h5py.check_string_dtype(dataset.dtype) is None and dataset.dtype.kind not in "iufb":
        return None
    value = np.asarray(dataset[()]).reshape(-1)[0]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")[:_LONGEST]
    plain = value.item() if isinstance(value, np.generic) else value
    return plain[:_LONGEST] if isinstance(plain, str) else plain if isinstance(plain, int | float) else None


def _default(h5py: Any, file: Any) -> Any:
    """Where the `default` attributes lead, one group after the other."""
    group = file
    for _ in range(_MOST_STEPS):
        name = attribute(group, "default")
        where = _within(h5py, file, group, name) if name else None
        if where is None:
            break
        group = file[where]
        if not isinstance(group, h5py.Group):
            return None
        if attribute(group, "NX_class") == "NXdata":
            return group
    return None


def _of_class(h5py: Any, file: Any, kind: str) -> Iterator[Any]:
    """Groups of a class, down to the fifth level, where NeXus has them."""
    waiting = [(file, 0)]
    while waiting:
        group, depth = waiting.pop(0)
        for name in group:
            if isinstance(group.get(name, getlink=True), h5py.HardLink) and isinstance(group[name], h5py.Group):
                if attribute(group[name], "NX_class") == kind:
                    yield group[name]
                if depth < 5:
                    waiting.append((group[name], depth + 1))


def _marked(h5py: Any, group: Any) -> str:
    """The dataset that is marked as the signal by itself, as NeXus did before 2014."""
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.HardLink):
            mark = group[name].attrs.get("signal")
            if mark is not None and str(mark).strip("b'") == "1":
                return str(name)
    return ""


def _names(item: Any, name: str) -> list[str]:
    """An attribute that is a list of names, or one text with colons or commas between them."""
    value = item.attrs.get(name, ())
    if isinstance(value, bytes | str):
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        return [part.strip() for part in text.strip("[]").replace(",", ":").split(":")]
    parts = np.asarray(value).reshape(-1).tolist()
    return [part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part) for part in parts]


def _within(h5py: Any, file: Any, group: Any, name: str) -> str | None:
    """Where a name leads within this file, through soft links as well; None where it leads nowhere or out of it."""
    waiting = [part for part in (name if name.startswith("/") else f"{group.name}/{name}").split("/") if part]
    item, at, steps = file, "", 0
    while waiting:
        part = waiting.pop(0)
        steps += 1
        if part in (".", "") and steps < _MOST_STEPS * 8:
            continue
        if not isinstance(item, h5py.Group) or part not in item or steps > _MOST_STEPS * 8:
            return None
        link = item.get(part, getlink=True)
        if isinstance(link, h5py.SoftLink):
            target = link.path if link.path.startswith("/") else f"{at}/{link.path}"
            waiting = [p for p in target.split("/") if p] + waiting
            item, at = file, ""
        elif isinstance(link, h5py.HardLink):
            item, at = item[part], f"{at}/{part}"
        else:
            return None
    return at or "/"
