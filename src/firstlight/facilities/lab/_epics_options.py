"""How a laboratory file says what an EPICS instrument can do: EPICS itself describes PVs, never operations."""

from typing import Literal

import msgspec

from ...core import ArgumentType, Effect, Scalar


class ArgumentOption(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An argument and the PV it is put to. What is not said here the IOC says: type, unit, limits, choices.

    `low` and `high` may be names of PVs, such as "heater:sp.DRVL". `json` marks a text PV that takes JSON.
    """

    pv: str
    type: ArgumentType | None = None
    unit: str | None = None
    low: float | str | None = None
    high: float | str | None = None
    choices: list[Scalar] = []
    default: Scalar | None = None
    description: str = ""
    json: bool = False
    schema: dict[str, object] = {}


class ResultOption(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A result and the PV it is read from, once the operation is done; a waveform is an array."""

    pv: str
    type: ArgumentType | None = None
    unit: str | None = None
    description: str = ""
    json: bool = False
    schema: dict[str, object] = {}


class SignalOption(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signal and its PV; what it usually keeps within is from `low` to `high`."""

    pv: str
    type: ArgumentType | None = None
    unit: str | None = None
    low: float | None = None
    high: float | None = None
    description: str = ""


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One put, in the order of the list: a value to a PV, or an argument to its PV."""

    pv: str = ""
    value: Scalar | None = None
    argument: str = ""


class Done(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A PV that has this value while nothing runs, another while something does: DMOV, a busy record, ":DONE"."""

    pv: str
    value: Scalar = 1


class Readback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A PV that must come within a tolerance of an argument (or of `value`) and stay there for `hold` seconds.

    The tolerance may be the name of a PV, such as a motor's retry deadband; it is never less than the last digit of
    the PV's precision.
    """

    pv: str
    within: float | str = 0.0
    argument: str = ""
    value: float | None = None
    hold: float = 0.0


class Status(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A PV that says how it ended, read once it is done. Neither failed nor cancelled: it succeeded."""

    pv: str
    succeeded: Scalar = "succeeded"
    failed: list[Scalar] = []
    cancelled: list[Scalar] = []


class RunId(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the IOC keeps whose run it is: our run id is put to `put`, and the IOC shows in `began` what it began.

    Without `began`, a run can be recognised after a crash only while it is under way.
    """

    put: str
    began: str = ""


class OperationOption(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An operation. `motor` is short for all of a motor record: arguments, limits, done, readback, stop, violation.

    `put` orders the puts (all arguments in their order where it is not given), then `trigger` is put `trigger_value`.
    It has ended when `done` and `readback` both say so; with neither, when the last put is answered as processed.
    `require` are PVs that must have a value before and during it; `stop` is what to put to end it. `alarm` are PVs
    whose severity MAJOR or INVALID at the end means failure, `violation` PVs that turn 1 when a limit is hit.
    `timeout` is in seconds.
    """

    effect: Effect = "consuming"
    seconds: float | None = None
    description: str = ""
    motor: str = ""
    arguments: dict[str, ArgumentOption] = {}
    put: list[Step] = []
    trigger: str = ""
    trigger_value: Scalar = 1
    done: Done | None = None
    readback: Readback | None = None
    status: Status | None = None
    results: dict[str, ResultOption | str] = {}
    progress: str = ""
    message: str = ""
    cause: str = ""
    require: dict[str, Scalar] = {}
    stop: dict[str, Scalar] = {}
    alarm: list[str] = []
    violation: list[str] = []
    run: RunId | None = None
    timeout: float = 3600.0

    @property
    def steps(self) -> list[Step]:
        """All puts in order, without the run id and the trigger."""
        return self.put or [Step(argument=name) for name in self.arguments]

    @property
    def result_options(self) -> dict[str, ResultOption]:
        return {name: ResultOption(pv=r) if isinstance(r, str) else r for name, r in self.results.items()}

    def watched(self) -> list[str]:
        """The PVs that tell how a run of it goes."""
        pvs = [self.progress, self.message, *self.require, *self.alarm, *self.violation]
        pvs += [self.done.pv] if self.done else []
        pvs += [self.readback.pv] if self.readback else []
        pvs += [self.readback.within] if self.readback and isinstance(self.readback.within, str) else []
        pvs += [self.run.began] if self.run else []
        return [pv for pv in dict.fromkeys(pvs) if pv]

    def named(self) -> list[str]:
        """All PVs of which the IOC is asked what they are."""
        pvs = [a.pv for a in self.arguments.values()] + [r.pv for r in self.result_options.values()]
        pvs += [step.pv for step in self.steps if step.pv] + [self.trigger, *self.require, *self.stop]
        pvs += [self.status.pv] if self.status else []
        pvs += [self.run.put] if self.run else []
        return [pv for pv in dict.fromkeys([*pvs, *self.watched()]) if pv]


def operation_option(name: str, given: object) -> OperationOption:
    """An operation as a laboratory file gives it. Raises ValueError that says which field is wrong."""
    try:
        option = msgspec.convert(given, OperationOption)
    except msgspec.ValidationError as error:
        raise ValueError(f"operation {name}: {error}") from error
    if option.motor:
        option = _motor(option)
    unknown = {s.argument for s in option.steps if s.argument} - set(option.arguments)
    if option.readback and option.readback.argument:
        unknown |= {option.readback.argument} - set(option.arguments)
    if unknown:
        raise ValueError(f"operation {name} has no argument {', '.join(sorted(unknown))}")
    if not option.steps and not option.trigger and not option.results:
        raise ValueError(f"operation {name} puts nothing and reads nothing")
    return option


def signal_option(name: str, given: object) -> SignalOption:
    """A signal as a laboratory file gives it: a PV's name or a table. Raises ValueError."""
    try:
        return SignalOption(pv=given) if isinstance(given, str) else msgspec.convert(given, SignalOption)
    except msgspec.ValidationError as error:
        raise ValueError(f"signal {name}: {error}") from error


def _motor(option: OperationOption) -> OperationOption:
    m = option.motor
    argument = next(iter(option.arguments), "Position")
    given = option.arguments.get(argument) or ArgumentOption(pv=m)
    low, high = (f"{m}.LLM" if given.low is None else given.low), (f"{m}.HLM" if given.high is None else given.high)
    return msgspec.structs.replace(
        option,
        arguments={**option.arguments, argument: msgspec.structs.replace(given, pv=m, low=low, high=high)},
        done=option.done or Done(pv=f"{m}.DMOV"),
        readback=option.readback or Readback(pv=f"{m}.RBV", argument=argument, within=f"{m}.RDBD"),
        results=option.results or {argument: f"{m}.RBV"},
        stop=option.stop or {f"{m}.STOP": 1},
        alarm=option.alarm or [m],
        violation=option.violation or [f"{m}.LVIO"],
    )


Protocol = Literal["ca", "pva"]
