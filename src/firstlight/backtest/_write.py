"""A comparison on disk: a table for people, one for programs, all of it as JSON, and figures."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import msgspec

from ._compare import Comparison
from ._pool import Pool
from ._run import Contender, Run
from ._table import markdown, spreadsheet


class MissingExtra(ImportError):
    """The library that draws is not installed."""

    def __init__(self) -> None:
        super().__init__("figures need matplotlib, which is not installed: pip install 'firstlight[report]'")


class _Drawing(Protocol):
    def draw(
        self, comparison: Comparison, pools: Sequence[Pool], contenders: Sequence[Contender], runs: Sequence[Run],
        directory: Path,
    ) -> list[Path]: ...  # fmt: skip


def drawing() -> _Drawing:
    """What draws the figures. Raises MissingExtra."""
    try:
        return cast("_Drawing", import_module("._figures", __package__))
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("matplotlib"):
            raise MissingExtra from error
        raise


def write(
    comparison: Comparison, pools: Sequence[Pool], contenders: Sequence[Contender], runs: Sequence[Run],
    directory: Path,
) -> list[Path]:  # fmt: skip
    """Write table.md, table.csv, comparison.json, curves.png, acceleration.png and cpu.png; their paths.

    Raises MissingExtra, before anything is written.
    """
    pencil = drawing()
    directory.mkdir(parents=True, exist_ok=True)
    texts = {
        "table.md": markdown(comparison, pools),
        "table.csv": spreadsheet(comparison),
        "comparison.json": msgspec.json.format(msgspec.json.encode(comparison), indent=1).decode() + "\n",
    }
    for name, text in texts.items():
        (directory / name).write_text(text, encoding="utf-8")
    return [directory / name for name in texts] + pencil.draw(comparison, pools, contenders, runs, directory)
