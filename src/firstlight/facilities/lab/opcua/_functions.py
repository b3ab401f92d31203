"""Runs of control functions: a value is set, and they end once it is there. A server keeps only its state of them."""

from collections.abc import Callable, Mapping
from typing import Any

from asyncua import ua

from firstlight.core import InDoubt, NotStarted, Run, Unavailable

from ._lads import Function, state_name
from ._link import Connection, Refused
from ._programs import CERTAIN, cause_of
from ._space import plain, variant


async def begin(
    connection: Connection, function: Function, target: object, wait: float, unless_stopped: Callable[[], None]
) -> None:
    """Set the target and start the function where it does not run. Raises as `Instrument.start` does, and as
    `unless_stopped` does before anything is sent."""
    machine = function.machine
    await connection.monitor([*machine.states, function.target.node, function.current.node])
    try:
        value = variant(index(function, target), function.target.builtin)
    except ValueError as error:
        raise NotStarted(f"{function.name}: {error}", "invalid-input") from error
    state = state_name((await connection.read([machine.state]))[0])
    unless_stopped()
    if state in OFF:
        raise NotStarted(f"{function.name} is {state}: somebody has to clear it", "refused")
    try:
        await connection.write(function.target.node, value, wait)
    except Refused as error:
        raise _refusal(function, error) from error
    if state in RUNNING or "Start" not in machine.methods:
        return
    # The target is set by now: whatever stands in the way from here on, something has been done.
    try:
        unless_stopped()
        await connection.call(machine.node, machine.methods["Start"], (), wait)
    except (Refused, NotStarted, Unavailable) as error:
        if not isinstance(error, Refused) or not await _runs(connection, function):
            raise InDoubt(f"{function.name} has a new target, and is not known to run: {error}") from error


async def _runs(connection: Connection, function: Function) -> bool:
    try:
        return state_name((await connection.read([function.machine.state]))[0]) in RUNNING
    except Unavailable:
        return False


def _refusal(function: Function, error: Refused) -> Exception:
    if error.code not in CERTAIN:
        return InDoubt(f"{function.name}: {error}")
    return NotStarted(f"{function.name} did not start: {error}", cause_of(error.code))


def index(function: Function, target: object) -> object:
    """A choice by its number, as the server has it; anything else as it is."""
    choices = function.target.choices
    return choices.index(target) if isinstance(target, str) and target in choices else target


def standing(
    function: Function, target: object, now: Mapping[ua.NodeId, Any], same: bool, cancelled: bool, first: float | None
) -> Run:
    """How far it has come. `same` says that the server has not been started anew since; `first` is where it began."""
    state = state_name(now.get(function.machine.state))
    wanted, current = now.get(function.target.node), now.get(function.current.node)
    if state in OFF:
        return Run("cancelled" if cancelled else "failed", message=f"{function.name} is {state}",
                   cause="cancelled" if cancelled else "instrument-fault")  # fmt: skip
    if not _near(wanted, index(function, target), 0.0):
        return Run("unknown", message=f"{function.name} has another target now, {plain(wanted)}", cause="lost")
    if state in ("Stopped", "Stopping", "Off"):
        if cancelled or same:
            return Run("cancelled", message=f"{function.name} is {state}", cause="cancelled")
        return Run("unknown", message=f"{function.name} is {state} after a restart", cause="lost")
    if _near(current, wanted, function.tolerance):
        return Run("succeeded", progress=1.0, results={"Reached": plain(current)})
    return Run("running", progress=_part(first, current, wanted), message=state)


def _near(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, int | float) and isinstance(b, int | float):
        return abs(a - b) <= max(tolerance, 1e-6 * abs(b))
    return bool(plain(a) == plain(b))


def _part(first: float | None, current: Any, wanted: Any) -> float | None:
    if first is None or not isinstance(current, int | float) or not isinstance(wanted, int | float) or first == wanted:
        return None
    return min(1.0, max(0.0, 1 - abs(wanted - current) / abs(wanted - first)))


RUNNING = ("Running", "On", "Starting", "Execute")
OFF = ("Aborting", "Aborted", "Clearing")
"""States that nothing starts from."""
