"""A run's readings as Bluesky event documents (the event model: start, descriptor, event, stop). Pure."""

import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

_RUNS = uuid.UUID("a7a3f2b0-64ff-4e2c-9f0e-1d1b6f0c7f15")
_EXIT = {"succeeded": "success", "failed": "fail"}


class Key(msgspec.Struct, frozen=True):
    """What a reading is: the PV it comes from, its type, unit, digits, control limits and choices."""

    source: str
    type: str = "number"
    unit: str = ""
    precision: int | None = None
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()


class Taken(msgspec.Struct, frozen=True):
    """Readings taken at one time in one stream ("primary", "readback_monitor"): by key, a value and its own time.

    Times are in seconds since 1970 UTC.
    """

    stream: str
    at: float
    values: dict[str, tuple[Any, float]]


class Record(msgspec.Struct, frozen=True):
    """All that is kept of a run for its documents; `state` is a RunState that has ended."""

    id: str
    instrument: str
    operation: str
    settings: Mapping[str, Any]
    state: str
    started: float
    ended: float
    message: str
    keys: Mapping[str, Key]
    taken: tuple[Taken, ...]


def documents(run: Record) -> list[tuple[str, dict[str, Any]]]:
    """In their order. The ids are made of the run's id and start, so that the same run gives the same documents."""
    uid = _uid(run, "start")
    made: list[tuple[str, dict[str, Any]]] = [("start", {
        "uid": uid, "time": run.started, "plan_name": run.operation, "instrument": run.instrument,
        "action": run.id, "arguments": {name.replace(".", "_"): value for name, value in run.settings.items()},
    })]  # fmt: skip
    counted: dict[str, int] = {}
    for number, taken in enumerate(run.taken):
        descriptor = _uid(run, f"descriptor {taken.stream}")
        if taken.stream not in counted:
            made.append(("descriptor", _descriptor(run, taken, uid, descriptor)))
        counted[taken.stream] = counted.get(taken.stream, 0) + 1
        made.append(("event", {
            "uid": _uid(run, f"event {number}"), "descriptor": descriptor, "seq_num": counted[taken.stream],
            "time": taken.at, "data": {key: value for key, (value, _) in taken.values.items()},
            "timestamps": {key: at for key, (_, at) in taken.values.items()},
        }))  # fmt: skip
    made.append(("stop", {
        "uid": _uid(run, "stop"), "run_start": uid, "time": run.ended, "exit_status": _EXIT.get(run.state, "abort"),
        "reason": run.message, "num_events": counted,
    }))  # fmt: skip
    return made


def _descriptor(run: Record, taken: Taken, start: str, uid: str) -> dict[str, Any]:
    return {
        "uid": uid, "run_start": start, "time": taken.at, "name": taken.stream, "configuration": {},
        "data_keys": {key: _data_key(run.keys[key], value) for key, (value, _) in taken.values.items()},
        "object_keys": {run.instrument: list(taken.values)},
        "hints": {run.instrument: {"fields": list(taken.values)}},
    }  # fmt: skip


def _data_key(key: Key, value: Any) -> dict[str, Any]:
    shape, inner = list[int](), value
    while isinstance(inner, list | tuple):
        shape.append(len(inner))
        inner = inner[0] if inner else None
    made: dict[str, Any] = {
        "source": key.source, "dtype": "array" if shape else key.type, "shape": shape, "units": key.unit,
        "precision": key.precision,
    }  # fmt: skip
    if key.low is not None or key.high is not None:
        made["limits"] = {"control": {"low": key.low, "high": key.high}}
    if key.choices:
        made["choices"] = list(key.choices)
    return made


def _uid(run: Record, what: str) -> str:
    return str(uuid.uuid5(_RUNS, f"{run.id} {run.started!r} {what}"))
