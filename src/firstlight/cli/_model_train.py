"""`firstlight model train`: a specification becomes a version in the registry, its loss shown while it falls."""

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from . import _parts as parts
from . import _words as words
from ._board import Board
from ._drive import Display, JsonLines, Lines
from ._drive import run as drive
from ._output import Exit, Here, Problem, columns
from ._verb import open_app

if TYPE_CHECKING:
    from ..models.registry import Version

Spec = Annotated[Path, typer.Argument(metavar="SPEC", help="What to train, in YAML or JSON.", show_default=False)]


async def train(here: Here, spec: Spec) -> Exit | None:
    """Train a model from datasets, judge it, and register it. The same specification and data go on where they were."""
    asked = _read(spec)
    async with open_app(here) as app:
        try:
            id = await app.training(asked, parts.app.person())
        except (ValueError, LookupError) as error:
            raise Problem(Exit.BAD_INPUT, str(error), problems=tuple(str(error).splitlines())) from error
        campaign, _ = await app.state(id)
        if not campaign.closed:
            here.say(f"campaign {id}")
            await drive(here, app, id, 0, from_start=True, screen=lambda board: _screen(here, app, board))
        try:
            version = await app.register(id, parts.app.person())
        except ValueError as error:
            hint = f"`firstlight show {id}` and `firstlight logs` say more; change {spec} and train again."
            raise Problem(Exit.REFUSED, str(error), hint=hint) from error
        with app.models() as (_, registry):
            verdict = registry.verdict(version)
    here.tell(_document(version, verdict, id), _shown(version, verdict))
    here.say(advice(version))
    return Exit.DONE


def _read(file: Path) -> Any:
    try:
        return parts.models.read_spec(parts.config.read_document(file), str(file))
    except ValueError as error:
        raise Problem(Exit.BAD_INPUT, str(error)) from error


# ------------------------------------------------------------------ while it runs


def _screen(here: Here, app: "parts.app.App", board: Board) -> AbstractContextManager[Display]:
    if here.as_json:
        return nullcontext(_Told(here, app))
    return _Bar(here, app) if here.live else nullcontext(_Said(here, app))


class _Reader:
    """Reads on in what a run says of itself."""

    def __init__(self, app: "parts.app.App") -> None:
        self._app, self._read = app, 0

    def new(self, board: Board) -> list[dict[str, Any]]:
        for _, state in [(t, a) for t in board.campaign.open.values() for a in t.actions.values()]:
            lines = self._app.training_progress(state.action)
            fresh, self._read = lines[self._read :], len(lines)
            return [json.loads(line) for line in fresh]
        return []


class _Said(Lines):
    """A line each time it is judged."""

    def __init__(self, here: Here, app: "parts.app.App") -> None:
        super().__init__(here)
        self._reader, self._out = _Reader(app), here

    def look(self, board: Board, holder: str) -> None:
        """Say how far it has come."""
        for told in self._reader.new(board):
            loss = "" if told["loss"] is None else f"  loss {told['loss']:.4g}"
            self._out.say(
                f"step {told['step']}/{told['steps']}{loss}  validation {told['validation']:.4g}  "
                f"best {told['best']:.4g}  {told['rate']:.3g}/s  {words.duration(told['left'])} left"
            )


class _Told(JsonLines):
    """A document each time it is judged, beside those of the facts."""

    def __init__(self, here: Here, app: "parts.app.App") -> None:
        super().__init__(here)
        self._reader, self._out = _Reader(app), here

    def look(self, board: Board, holder: str) -> None:
        """Tell how far it has come."""
        for told in self._reader.new(board):
            self._out.write({"campaign": board.spec.id, "progress": told})


class _Bar(Lines, AbstractContextManager[Display]):
    """A bar on a terminal, with the losses beside it."""

    def __init__(self, here: Here, app: "parts.app.App") -> None:
        super().__init__(here)
        self._reader = _Reader(app)
        self._bar = Progress(
            TextColumn("step {task.completed}/{task.total}"), BarColumn(), TextColumn("{task.description}"),
            TimeRemainingColumn(), console=here.out, transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task("beginning", total=None)

    def look(self, board: Board, holder: str) -> None:
        """Move it."""
        for told in self._reader.new(board):
            said = f"validation {told['validation']:.4g}  best {told['best']:.4g}"
            self._bar.update(self._task, completed=told["step"], total=told["steps"], description=said)

    def __enter__(self) -> Display:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self._bar.stop()


# ------------------------------------------------------------------ at the end


def _shown(version: "Version", verdict: Any) -> Any:
    made = version.made
    table = columns("score", version.id, "parent", *made.baselines)
    for name, value in made.scores.items():
        others = [made.parent_scores.get(name), *(b.get(name) for b in made.baselines.values())]
        mark = f"{name} *" if name == made.metric else name
        table.add_row(mark, words.number(value), *("" if o is None else words.number(o) for o in others))
    return table


def advice(version: "Version") -> str:
    """What may be done with a new version, or why not."""
    if version.made.verdict.passed:
        return f"{version.id} reached what its gate asks: firstlight model promote {version.id}"
    return "\n".join([f"{version.id} may not be promoted:", *(f"  {r}" for r in version.made.verdict.reasons)])


def _document(version: "Version", verdict: Any, campaign: str) -> dict[str, Any]:
    made = version.made
    return {
        "version": version.id, "record": made.record, "campaign": campaign, "metric": made.metric,
        "scores": made.scores, "parent_scores": made.parent_scores, "baselines": made.baselines,
        "forgetting": made.forgetting, "passed": verdict.passed, "reasons": list(verdict.reasons),
    }  # fmt: skip
