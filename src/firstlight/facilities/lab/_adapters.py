"""Instruments by the names of their protocols: one entry point an adapter."""

from importlib.metadata import entry_points
from inspect import signature
from pathlib import Path

from ...core import Instrument
from ._layout import BadLaboratory
from ._layout import Instrument as Said

GROUP = "firstlight.instruments"


def protocols() -> list[str]:
    """The protocols for which an adapter is installed."""
    return sorted(point.name for point in entry_points(group=GROUP))


def make_instrument(name: str, said: Said, directory: Path) -> Instrument:
    """The adapter of an instrument, not yet connected; `directory` is for one that keeps files.

    Raises BadLaboratory, saying what is wrong with its entry.
    """
    found = [point for point in entry_points(group=GROUP) if point.name == said.protocol]
    if not found:
        there = ", ".join(protocols()) or "none"
        raise BadLaboratory(
            f"instrument {name} speaks {said.protocol!r}, for which there is no adapter; there are: {there}"
        )
    try:
        adapter = found[0].load()
    except ImportError as error:
        raise BadLaboratory(
            f"instrument {name}: {error}; pip install 'firstlight[lab]' brings what it needs"
        ) from error
    taken = signature(adapter).parameters
    known = [p for p in taken if p not in ("name", "address", "directory")]
    if strange := [option for option in said.options if option not in known]:
        raise BadLaboratory(f"instrument {name} has no option {strange[0]!r}; {said.protocol} has: {', '.join(known)}")
    try:
        more = {"directory": directory} if "directory" in taken else {}
        made: Instrument = adapter(name, said.address, **said.options, **more)
    except (TypeError, ValueError) as error:
        raise BadLaboratory(f"instrument {name}: {error}") from error
    return made
