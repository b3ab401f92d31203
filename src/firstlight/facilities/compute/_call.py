"""Load a function, call it with a point, and say what came of it."""

import asyncio
import contextlib
import importlib
import inspect
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...core import Action, Failed, Failure, Outcome
from ._command import CONTINUED
from ._interpret import interpret

Function = Callable[..., Any]
_loaded: dict[tuple[str, int], Function] = {}
_directories: list[str] = []


class NotLoaded(Exception):
    """The function cannot be had; the message says what was looked for, and where."""


def call(function: Function, action: Action) -> Outcome | None:
    """Call it as `function(point, **settings)`; inputs are settings too, as paths. What it raises is an outcome.

    The traceback goes to stderr. `sys.exit(75)` is None: it wants to be continued, as a command does that exits so.
    """
    files = {name: str(Path.cwd() / name) for name in action.inputs}
    settings = {name: value for name, value in action.settings.items() if name != "directory"} | files
    try:
        value = function(dict(action.point), **settings)
        if inspect.iscoroutine(value):
            value = asyncio.run(value)
        return interpret(value)
    except Failed as failed:
        return interpret(failed)
    except MemoryError as error:
        _print_trace(error)
        return Failure(cause="out-of-memory", message=str(error) or "MemoryError")
    except BaseException as error:  # noqa: BLE001 (it is someone else's code: whatever it raises is an outcome)
        if isinstance(error, SystemExit) and error.code == CONTINUED:
            return None
        _print_trace(error)
        return Failure(cause="crashed", message=describe(error))


def load(operation: str, directory: str) -> Function:
    """The function that "package.module:function" or "pickle:<path>" names. Raises NotLoaded."""
    if directory and directory not in _directories:
        # Two directories may have modules of one name, and one worker may see both.
        forget()
        _directories.append(directory)
    if directory and sys.path[:1] != [directory]:
        sys.path.insert(0, directory)
    path = operation.removeprefix("pickle:")
    if path != operation:
        return _unpickle(Path(directory, path))
    if (operation, 0) not in _loaded:
        _loaded[operation, 0] = _import(operation, directory)
    return _loaded[operation, 0]


def forget() -> None:
    """Drop what was loaded from the directories of actions, so that it is loaded as it is now."""
    _loaded.clear()
    for directory in _directories:
        with contextlib.suppress(ValueError):
            sys.path.remove(directory)
        for name, module in list(sys.modules.items()):
            if (getattr(module, "__file__", None) or "").startswith(f"{directory}/"):
                del sys.modules[name]
    _directories.clear()
    importlib.invalidate_caches()


def describe(error: BaseException) -> str:
    """ "TypeName: message"."""
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def _import(operation: str, directory: str) -> Function:
    module_name, _, attribute = operation.partition(":")
    where = f"in {directory} and on the Python path" if directory else "on the Python path (no directory was given)"
    if not module_name or not attribute:
        raise NotLoaded(f"operation {operation!r} is none of 'package.module:function', 'pickle:<path>' and 'command'")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise NotLoaded(f"there is no module {module_name!r} {where}") from None
        raise NotLoaded(f"module {module_name!r} needs {error.name!r}, which is not installed") from error
    except BaseException as error:
        _print_trace(error)
        raise NotLoaded(f"module {module_name!r} cannot be imported: {describe(error)}") from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise NotLoaded(f"module {module_name!r} ({getattr(found, '__file__', '?')}) has no {attribute!r}")
        found = getattr(found, name)
    if not callable(found):
        raise NotLoaded(f"{operation!r} is a {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]


def _unpickle(path: Path) -> Function:
    try:
        version = os.stat(path).st_mtime_ns
        if (str(path), version) not in _loaded:
            _loaded[str(path), version] = pickle.loads(path.read_bytes())
        found = _loaded[str(path), version]
    except FileNotFoundError:
        raise NotLoaded(f"there is no pickled function {path}") from None
    except BaseException as error:
        _print_trace(error)
        raise NotLoaded(f"the function in {path} cannot be unpickled: {describe(error)}") from error
    if not callable(found):
        raise NotLoaded(f"{path} holds a {type(found).__name__}, not a function")
    return found


def _print_trace(error: BaseException) -> None:
    """To the action's log, without this module's own frames at the top."""
    inner = error.__traceback__
    while inner and inner.tb_frame.f_code.co_filename == __file__ and inner.tb_next:
        inner = inner.tb_next
    traceback.print_exception(type(error), error, inner)
