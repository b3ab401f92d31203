"""What all verbs share: --json, --data-dir and --debug before or after them, one way to run and one way to end."""

import asyncio
import functools
import inspect
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from . import _parts as parts
from ._output import Exit, Here, Interrupted, end_badly

_EVERYWHERE = "Everywhere"
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON.", rich_help_panel=_EVERYWHERE)]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Where campaigns live (default: $FIRSTLIGHT_HOME, else ~/.local/share/firstlight).",
        rich_help_panel=_EVERYWHERE,
        show_default=False,
    ),
]
Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an internal error.", rich_help_panel=_EVERYWHERE)
]
Answer = Exit | None
_SHARED = {"as_json": (Json, False), "data_dir": (DataDir, None), "debug": (Debug, False)}


def before_the_verb(ctx: typer.Context, as_json: bool, data_dir: Path | None, debug: bool) -> None:
    """Remember what was said before the verb."""
    ctx.obj = {"as_json": as_json, "data_dir": data_dir, "debug": debug}


def verb(app: typer.Typer, panel: str, name: str | None = None) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """Make a function `(here, ...) -> Exit | None`, plain or async, a verb, listed in this panel of the help."""

    def register(function: Callable[..., Any]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(ctx: typer.Context, **given: Any) -> None:
            before = ctx.find_root().obj
            shared = {key: given.pop(key) or before[key] for key in _SHARED}
            shared["debug"] = shared["debug"] or os.environ.get("FIRSTLIGHT_DEBUG") == "1"
            _perform(Here(**shared), functools.partial(function, **given))

        signature = inspect.signature(function)
        own = [p for n, p in signature.parameters.items() if n != "here"]
        keyword = inspect.Parameter.KEYWORD_ONLY
        context = inspect.Parameter("ctx", keyword, annotation=typer.Context)
        common = [inspect.Parameter(n, keyword, annotation=a, default=d) for n, (a, d) in _SHARED.items()]
        parameters = [context, *(p.replace(kind=keyword) for p in own), *common]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        app.command(name, rich_help_panel=panel)(command)
        return command

    return register


def _perform(here: Here, work: Callable[[Here], Answer | Coroutine[Any, Any, Answer]]) -> None:
    try:
        begun = work(here)
        answer = asyncio.run(begun) if isinstance(begun, Coroutine) else begun
        sys.stdout.flush()
    except (Interrupted, KeyboardInterrupt):
        raise SystemExit(int(Exit.INTERRUPTED)) from None
    except BrokenPipeError:
        # Whoever read us has seen enough (`| head`): nothing more can be said, nor is there need to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(int(Exit.DONE)) from None
    except Exception as error:  # noqa: BLE001 - the one place where every error ends
        end_badly(here, error)
    raise SystemExit(int(answer or Exit.DONE))


def settings(here: Here) -> "parts.config.Settings":
    """The settings of the data directory."""
    return parts.config.load_settings(here.data_dir, os.environ)


def open_app(here: Here) -> "parts.app.App":
    """The parts of the data directory, put together."""
    return parts.app.App.open(settings(here))
