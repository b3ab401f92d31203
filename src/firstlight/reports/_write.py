"""Writing a report."""

from collections.abc import Sequence
from importlib import import_module, resources
from pathlib import Path
from typing import Protocol, cast

from firstlight import core

from ._analysis import Analysis, analyse
from ._page import page
from ._subject import Subject


class MissingExtra(ImportError):
    """The libraries that draw are not installed."""

    def __init__(self, library: str) -> None:
        super().__init__(f"a report needs {library}, which is not installed: pip install 'firstlight[report]'")


class Report(core.Value, frozen=True):
    """Where a report was written: the whole of it, and its main figure."""

    html: Path
    png: Path


def write_report(subject: Subject, baselines: Sequence[core.Results], directory: Path) -> Report:
    """Write report.html and report.png into `directory`, which is made where it does not exist.

    `baselines` are random campaigns on the same problem. Raises MissingExtra where plotly or matplotlib is
    not installed, before anything is written.
    """
    plotly, image = _plotly(), _image()
    analysis = analyse(subject, baselines)
    written = Report(html=directory / "report.html", png=directory / "report.png")
    directory.mkdir(parents=True, exist_ok=True)
    written.html.write_text(page(subject, analysis, plotly), encoding="utf-8")
    image.draw(subject, analysis, written.png)
    return written


class _Drawing(Protocol):
    def draw(self, subject: Subject, analysis: Analysis, path: Path) -> None: ...


def _plotly() -> str:
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
