"""Writing a report."""

from collections.abc import Sequence
from importlib import import_module, resources
from pathlib import Path
from typing import Protocol, cast

from msgspec.structs import replace

from firstlight import core

from ._analysis import Analysis, analyse
from ._page import page
from ._subject import Subject
from ._why import Why, why


class MissingExtra(ImportError):
    """The libraries that draw are not installed."""

    def __init__(self, library: str) -> None:
        super().__init__(f"a report needs {library}, which is not installed: pip install 'firstlight[report]'")


class Report(core.Value, frozen=True):
    """Where a report was written: the whole of it, its main figure, and that of why (None: nothing is to be drawn)."""

    html: Path
    png: Path
    why: Path | None = None


def write_report(subject: Subject, baselines: Sequence[core.Results], directory: Path) -> Report:
    """Write report.html, report.png and why.png into `directory`, which is made where it does not exist.

    `baselines` are random campaigns on the same problem. Raises MissingExtra where plotly or matplotlib is
    not installed, before anything is written.
    """
    library, image = plotly(), _image()
    analysis = analyse(subject, baselines)
    reasons = why(subject, analysis)
    written = Report(html=directory / "report.html", png=directory / "report.png", why=directory / "why.png")
    directory.mkdir(parents=True, exist_ok=True)
    written.html.write_text(page(subject, analysis, reasons, library), encoding="utf-8")
    image.draw(subject, analysis, written.png)
    if image.draw_why(subject, reasons, directory / "why.png"):
        return written
    (directory / "why.png").unlink(missing_ok=True)
    return replace(written, why=None)


class _Drawing(Protocol):
    def draw(self, subject: Subject, analysis: Analysis, path: Path) -> None: ...
    def draw_why(self, subject: Subject, why: Why, path: Path) -> bool: ...


def plotly() -> str:
    """The source of the library that draws in a page. Raises MissingExtra."""
    # The page draws with the library's JavaScript alone; its Python part only brings it along.
    try:
        return (resources.files("plotly") / "package_data" / "plotly.min.js").read_text("utf-8")
    except ModuleNotFoundError as error:
        raise MissingExtra("plotly") from error


def _image() -> _Drawing:
    try:
        return cast("_Drawing", import_module("._image", __package__))
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("matplotlib"):
            raise MissingExtra("matplotlib") from error
        raise
