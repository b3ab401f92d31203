"""Runs of programs on a functional unit: beginning one, finding it again, and what has become of it."""

import contextlib
import datetime
import json
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from asyncua import ua

from firstlight.core import Action, Cause, InDoubt, NotStarted, Run, RunState, Unavailable

from ._lads import Program, Unit, state_name
from ._link import OF_THE_LINE, Connection, Refused, standard
from ._space import Tree, browse, children, local, plain

OUTCOMES: dict[str, RunState] = {
    "completed": "succeeded", "complete": "succeeded", "succeeded": "succeeded", "success": "succeeded",
    "failed": "failed", "error": "failed", "faulted": "failed", "aborted": "failed",
    "cancelled": "cancelled", "canceled": "cancelled", "stopped": "cancelled",
}  # fmt: skip
"""What a result may say in its property Outcome. LADS 1.0 has none of its own."""

CAUSES: tuple[Cause, ...] = ("did-not-converge", "invalid-input", "invalid-output", "instrument-fault", "interlock",
                             "timed-out", "out-of-memory", "crashed", "refused")  # fmt: skip
PAUSED = ("Holding", "Held", "Suspending", "Suspended")
MOVING = ("Running", "Stopping", "Aborting")
SHOWN_WITHIN = 2.0
"""Seconds within which a server shows a run that it has begun, and completes the result of one that has ended."""


@dataclass(frozen=True)
class Result:
    """An element of a result set."""

    run: str
    action: str
    started: datetime.datetime | None
    stopped: datetime.datetime | None
    said: Mapping[str, str]
    values: Mapping[str, object]


@dataclass
class Track:
    """What has been seen of a run, over all connections."""

    run: str
    action: str
    cancelled: bool = False
    gap: bool = False
    """Whether something may have happened unseen."""
    states: set[str] = field(default_factory=set)
    still: float | None = None
    """Since when (monotonic, seconds) its unit has not been seen moving for it; None while it has."""

    def look(self, state: str, active: object) -> None:
        """Take note of what the unit does now, and for which run, where it says so."""
        if active in (self.run, None):
            self.states.add(state)
        if state in MOVING and active in (self.run, None):
            self.still = None
        elif self.still is None:
            self.still = time.monotonic()

    @property
    def patience(self) -> float | None:
        """Seconds for which its result may still come, as servers tell first that they stand and then what came of it;
        None while it moves."""
        return None if self.still is None else self.still + SHOWN_WITHIN - time.monotonic()


def key_values(said: Mapping[str, object], encoding: ua.NodeId) -> ua.Variant:
    """Keys and values as a list of KeyValueType: two strings each, whatever the value."""
    items = [
        ua.ExtensionObject(TypeId=encoding, Body=ua.ByteString(_string(k) + _string(_worded(v))))
        for k, v in said.items()
    ]
    return ua.Variant(items, ua.VariantType.ExtensionObject, is_array=True)


def from_key_values(said: Any) -> dict[str, str]:
    """Keys and values from a list of KeyValueType."""
    found = dict[str, str]()
    for item in said if isinstance(said, list) else ():
        if hasattr(item, "Key") and hasattr(item, "Value"):
            found[str(item.Key)] = str(item.Value)
        elif isinstance(item, ua.ExtensionObject) and item.Body:
            texts, rest = list[str](), bytes(item.Body)
            while len(texts) < 2 and len(rest) >= 4:
                (length,) = struct.unpack_from("<i", rest)
                texts.append(rest[4 : 4 + max(0, length)].decode(errors="replace"))
                rest = rest[4 + max(0, length) :]
            if len(texts) == 2:
                found[texts[0]] = texts[1]
    return found


def _string(text: str) -> bytes:
    return struct.pack("<i", len(text.encode())) + text.encode()


def _worded(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


async def begin(
    connection: Connection, program: Program, action: Action, wait: float, unless_stopped: Callable[[], None]
) -> str:
    """Start a program under our action's id, and return the run's id. Raises as `Instrument.start` does, and as
    `unless_stopped` does right before it is sent."""
    unit, machine = program.unit, program.unit.machine
    await connection.monitor(unit.watched)
    given = {
        "ProgramTemplateId": ua.Variant(program.template, ua.VariantType.String),
        "SupervisoryJobId": ua.Variant(action.trial, ua.VariantType.String),
        "SupervisoryTaskId": ua.Variant(action.id, ua.VariantType.String),
        "Samples": ua.Variant([], ua.VariantType.ExtensionObject, is_array=True),
    }
    if "Properties" in unit.encodings:
        given["Properties"] = key_values(action.settings, unit.encodings["Properties"])
    elif action.settings:
        raise NotStarted(
            f"{unit.name} takes no properties for its programs: {', '.join(action.settings)}", "invalid-input"
        )
    missing = [name for name in unit.given if name not in given]
    if missing:
        raise NotStarted(f"StartProgram of {unit.name} wants what LADS does not have: {', '.join(missing)}")
    unless_stopped()
    try:
        said = await connection.call(
            machine.node, machine.methods["StartProgram"], [given[n] for n in unit.given], wait
        )
    except Refused as error:
        if error.code in OF_THE_LINE:
            raise InDoubt(f"{unit.name}: {error}") from error
        if error.code not in CERTAIN:
            return await _begun_all_the_same(connection, unit, action, error)
        raise NotStarted(f"{unit.name} did not start {program.template}: {error}", cause_of(error.code)) from error
    return str(said[0]) if said else ""


async def _begun_all_the_same(connection: Connection, unit: Unit, action: Action, error: Refused) -> str:
    """The run of a program that was refused from the middle of its start. Raises InDoubt where none is to be seen."""
    try:
        run = await find(connection, unit, action.id)
    except Unavailable as lost:
        raise InDoubt(f"{unit.name}: {error}; and then {lost}") from lost
    if run is None:
        raise InDoubt(f"{unit.name}: {error}; and it has no result of {action.id}, which may have begun") from error
    return run


async def find(connection: Connection, unit: Unit, action: str) -> str | None:
    """The run that has our action's id among the results of a unit. Raises Unavailable."""
    found = [r for r in await _children(connection, unit.results) if r.NodeClass is ua.NodeClass.Object]
    for reference in reversed(found):
        result = await _result(connection, reference.NodeId, reference.BrowseName.Name or "", values=False)
        if result.action == action:
            return result.run
    return None


async def outlasts(connection: Connection, unit: Unit) -> bool:
    """Whether a unit still has results from before its server was last started. Raises Unavailable."""
    began = (await connection.read([standard(ua.ObjectIds.Server_ServerStatus_StartTime)]))[0]
    for reference in (await _children(connection, unit.results))[:5]:
        if reference.NodeClass is ua.NodeClass.Object:
            result = await _result(connection, reference.NodeId, reference.BrowseName.Name or "", values=False)
            if result.started is not None and began is not None and result.started < began:
                return True
    return False


async def result_of(connection: Connection, unit: Unit, run: str) -> Result | None:
    """The result of a run, complete or not yet. Raises Unavailable."""
    if not run:
        return None
    named = await _named(connection, unit, run)
    if named is not None:
        return await _read(connection, *named, run)
    for reference in reversed(await _children(connection, unit.results)):
        if reference.NodeClass is ua.NodeClass.Object:
            result = await _result(connection, reference.NodeId, reference.BrowseName.Name or "", values=False)
            if result.run == run:
                return await _result(connection, reference.NodeId, run)
    return None


async def _children(connection: Connection, node: ua.NodeId) -> Sequence[ua.ReferenceDescription]:
    return (await children(connection, [node]))[0]


WANTED = ("DeviceProgramRunId", "SupervisoryTaskId", "Started", "Stopped", "Properties")


async def _named(
    connection: Connection, unit: Unit, run: str
) -> tuple[dict[str, ua.NodeId], dict[str, ua.NodeId]] | None:
    """What a result has, and its values that programs declare, by one question: mostly it is named as its run is, and
    a set may have thousands of them."""
    hierarchical, yes, no = standard(ua.ObjectIds.HierarchicalReferences), cast("Any", True), cast("Any", False)

    def path(*names: str) -> ua.BrowsePath:
        steps = [
            ua.RelativePathElement(hierarchical, no, yes, ua.QualifiedName(n, ua.UInt16(unit.namespace))) for n in names
        ]
        return ua.BrowsePath(unit.results, ua.RelativePath(steps))

    names, values = (*WANTED, "VariableSet"), tuple(unit.said)
    ask = connection.client.uaclient.session.translate_browsepaths_to_nodeids
    found = await connection.ask(
        ask([path(run), *(path(run, n) for n in names), *(path(run, "VariableSet", n) for n in values)])
    )
    nodes = [f.Targets[0].TargetId if f.StatusCode.is_good() and f.Targets else None for f in found]
    if not nodes[0]:
        return None
    there = [{n: local(t) for n, t in zip(names, nodes[1:], strict=False) if t is not None}]
    there += [{n: local(t) for n, t in zip(values, nodes[1 + len(names) :], strict=True) if t is not None}]
    return there[0], there[1]


async def _result(connection: Connection, node: ua.NodeId, name: str, values: bool = True) -> Result:
    tree = Tree(local(node), name, ua.NodeClass.Object)
    await browse(connection, tree, 1)
    wanted = (*WANTED, *(["VariableSet"] if values else []))
    return await _read(connection, {n: tree.under[n].node for n in wanted if n in tree.under}, {}, name)


async def _read(connection: Connection, at: Mapping[str, ua.NodeId], of: dict[str, ua.NodeId], name: str) -> Result:
    there = [n for n in WANTED if n in at]
    if "VariableSet" in at and not of:
        below = await _children(connection, at["VariableSet"])
        of = {str(r.BrowseName.Name): local(r.NodeId) for r in below if r.NodeClass is ua.NodeClass.Variable}
        of.pop("NodeVersion", None)
    read = await connection.read([*(at[n] for n in there), *of.values()])
    said = dict(zip(there, read, strict=False))
    return Result(
        str(said.get("DeviceProgramRunId") or name), str(said.get("SupervisoryTaskId") or ""),
        _time(said.get("Started")), _time(said.get("Stopped")), from_key_values(said.get("Properties")),
        {n: plain(v) for n, v in zip(of, read[len(there) :], strict=True)},
    )  # fmt: skip


def _time(value: Any) -> datetime.datetime | None:
    """A moment; servers leave one that has not come yet at the beginning of OPC UA's time."""
    return value if isinstance(value, datetime.datetime) and value.year > 1970 else None


async def runs_other(connection: Connection, unit: Unit, action: str) -> bool:
    """Whether what a unit does now, if anything, is surely not an action of ours. Raises Unavailable."""
    active = unit.active.get("DeviceProgramRunId")
    state, run = await connection.read([unit.machine.state, active or unit.machine.state])
    if state_name(state) not in MOVING:
        return True
    result = await result_of(connection, unit, str(run or "")) if active else None
    return result is not None and result.action not in ("", action)


async def standing(connection: Connection, unit: Unit, track: Track, now: Mapping[ua.NodeId, Any]) -> Run:
    """How far a run has come, from what the unit's variables say now. Raises Unavailable."""
    state, active = state_name(now.get(unit.machine.state)), _active(unit, now, "DeviceProgramRunId")
    track.look(state, active)
    ours = active == track.run and track.still is None
    if ours and not track.gap:
        return _moving(unit, now, state)
    result = await result_of(connection, unit, track.run)
    if result is not None and result.action and result.action != track.action:
        return Run("unknown", message=f"run {track.run} is another's now: ours is lost", cause="lost")
    if result is not None and result.stopped is not None:
        return ended(connection, unit, track, result)
    if ours and result is not None:
        track.gap = False
    if track.patience is None or track.patience > 0:
        return _moving(unit, now, state)
    if result is None:
        return Run("unknown", message=f"{unit.name} does not know the run {track.run}", cause="lost")
    return ended(connection, unit, track, result)


def _moving(unit: Unit, now: Mapping[ua.NodeId, Any], state: str) -> Run:
    sub = state_name(now.get(unit.machine.running)) if unit.machine.running else ""

    def number(name: str) -> float:
        value = _active(unit, now, name)
        return float(value) if isinstance(value, int | float) else 0.0

    whole = number("EstimatedRuntime")
    step = plain(_active(unit, now, "CurrentStepName")) or (state if state != "Running" else "")
    progress = min(1.0, number("CurrentRuntime") / whole) if whole else None
    return Run("paused" if sub in PAUSED else "running", progress=progress, message=str(step))


def _active(unit: Unit, now: Mapping[ua.NodeId, Any], name: str) -> Any:
    return now.get(unit.active[name]) if name in unit.active else None


def observed(connection: Connection, unit: Unit, since: datetime.datetime | None) -> set[str]:
    """The states in which a unit has been seen since a run began; none where it does not say when that was."""
    nodes = unit.machine.states if since is not None else ()
    return {state_name(v.Value.Value) for n in nodes for v in connection.history(n, since) if v.Value is not None}


def ended(connection: Connection, unit: Unit, track: Track, result: Result) -> Run:
    """What has become of a run whose unit stands, from its result."""
    seen = track.states | observed(connection, unit, result.started)
    told = OUTCOMES.get(result.said.get("Outcome", "").lower())
    message = result.said.get("Message", "")
    cause = result.said.get("Cause", "")
    if told is None:
        told, message = _deduced(seen, track, result)
    times = {"started": result.started, "ended": result.stopped}
    return Run(
        told, progress=1.0 if told == "succeeded" else None, message=message,
        results=_typed(unit, result.values) if told == "succeeded" else {},
        cause="cancelled" if told == "cancelled" else "lost" if told == "unknown"
        else next((c for c in CAUSES if c == cause), "instrument-fault"),
        **{k: t.replace(tzinfo=t.tzinfo or datetime.UTC).timestamp() if t else 0.0 for k, t in times.items()},
    )  # fmt: skip


def _typed(unit: Unit, values: Mapping[str, object]) -> dict[str, object]:
    """Values as the unit's programs say that their results are: choices come as numbers, objects as texts."""
    found = dict(values)
    for name, value in values.items():
        said = unit.said.get(name)
        if said is not None and said.choices and isinstance(value, int) and 0 <= value < len(said.choices):
            found[name] = said.choices[value]
        elif said is not None and said.type == "object" and isinstance(value, str):
            with contextlib.suppress(ValueError):
                found[name] = json.loads(value)
    return found


def _deduced(seen: set[str], track: Track, result: Result) -> tuple[RunState, str]:
    if seen & {"Aborting", "Aborted"}:
        return ("cancelled", "aborted as was asked") if track.cancelled else ("failed", "the unit aborted it")
    if track.cancelled or ("Stopping" in seen and not seen & {"Completing", "Complete"}):
        return "cancelled", "it was stopped"
    if result.stopped is None:
        return "unknown", f"its unit stands, and its result was not completed within {SHOWN_WITHIN:g} s"
    if track.gap and not seen & {"Completing", "Complete"}:
        return "unknown", "it ended while nobody looked, and its result tells no outcome"
    return "succeeded", ""


def cause_of(code: int) -> Cause:
    """Why an instrument refused, from its status code."""
    return "invalid-input" if code in OF_ARGUMENTS else "refused"


def _codes(*names: str) -> frozenset[int]:
    return frozenset(int(getattr(ua.StatusCodes, n)) for n in names)


OF_ARGUMENTS = _codes(
    "BadInvalidArgument", "BadArgumentsMissing", "BadTooManyArguments", "BadOutOfRange", "BadTypeMismatch"
)
"""Status codes that speak of what was given."""

CERTAIN = OF_ARGUMENTS | _codes(
    "BadMethodInvalid", "BadNotExecutable", "BadUserAccessDenied", "BadInvalidState", "BadNodeIdUnknown",
    "BadNodeIdInvalid", "BadNotSupported", "BadNotImplemented", "BadNotFound", "BadNotWritable", "BadNotReadable",
    "BadStateNotActive", "BadTooManyOperations", "BadNothingToDo", "BadServiceUnsupported", "BadResourceUnavailable",
    "BadLocked", "BadRequestNotAllowed", "BadWriteNotSupported", "BadTooManySessions", "BadIdentityTokenRejected",
)  # fmt: skip
"""Status codes of a server that has not even begun; another may come from the middle of what it did."""
