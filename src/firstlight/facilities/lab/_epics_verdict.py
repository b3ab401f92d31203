"""What came of a run that has ended, from what its IOC says and what was noticed on its way. Pure."""

from collections.abc import Mapping
from typing import Any, get_args

import msgspec

from ...core import Cause, RunState
from ._epics_channels import Ioc, Sample
from ._epics_options import OperationOption


class Course(msgspec.Struct, frozen=True):
    """What was noticed on the way: whether it showed that it began, was cancelled, is judged by its state alone after
    a lost connection, was stopped for its time was over; which interlock opened, which limit was hit ("" for none)."""

    began: bool
    cancelled: bool
    judged: bool
    overdue: bool
    interlock: str
    violated: str


def within(ioc: Ioc, option: OperationOption, settings: Mapping[str, Any], value: Any) -> bool:
    """Whether a readback is where it was asked to be."""
    readback = option.readback
    if readback is None:
        return True
    target = settings[readback.argument] if readback.argument else readback.value
    if not isinstance(value, int | float) or not isinstance(target, int | float):
        return ioc.same(readback.pv, value, target)
    meta = ioc.metas.get(readback.pv)
    fine = 10.0 ** -(meta.precision if meta and meta.precision is not None else 6)
    wide = readback.within
    if isinstance(wide, str):
        sample = ioc.feeds.feed(wide).last
        wide = float(sample.value) if sample else 0.0
    return abs(value - target) <= max(wide, fine) + 1e-9


def verdict(
    ioc: Ioc, option: OperationOption, settings: Mapping[str, Any], course: Course, got: Mapping[str, Sample]
) -> tuple[RunState, str, Cause]:
    """Its state, why, and the cause of a failure, from the PVs `got` once it is done."""
    said = str(got[option.message].value) if option.message in got else ""
    if course.interlock:
        return "failed", f"interlock: {course.interlock}", "interlock"
    status = option.status
    if status and any(ioc.same(status.pv, got[status.pv].value, v) for v in status.failed):
        cause = str(got[option.cause].value) if option.cause in got else ""
        return "failed", said or f"{status.pv} is {got[status.pv].value}", _cause(cause)
    if status and any(ioc.same(status.pv, got[status.pv].value, v) for v in status.cancelled):
        if course.overdue:
            return "failed", f"not done after {option.timeout:g} s, and stopped", "timed-out"
        return "cancelled", said, "cancelled"
    readback = option.readback
    where = got[readback.pv].value if readback else None
    reached = readback is not None and within(ioc, option, settings, where)
    if why := _limit(option, course, got):
        return "failed", why, "refused"
    if option.done and not course.began and not reached:
        return "unknown", f"{option.done.pv} never showed that it began", "lost"
    if course.cancelled and not reached and not status:
        return "cancelled", said, "cancelled"
    if alarms := [pv for pv in option.alarm if got[pv].severity >= 2]:
        return "failed", f"{', '.join(alarms)} is in alarm", "instrument-fault"
    if course.overdue and not reached and not status:
        return "failed", f"not done after {option.timeout:g} s, and stopped", "timed-out"
    if readback and not reached:
        why = f"{readback.pv} ended at {where}"
        return ("unknown", why, "lost") if course.judged else ("failed", why, "instrument-fault")
    return "succeeded", said, "instrument-fault"


def _limit(option: OperationOption, course: Course, got: Mapping[str, Sample]) -> str:
    """A limit counts where it was hit on the way, or kept it from beginning: some records show it from the start."""
    shown = [pv for pv in option.violation if got[pv].value not in (0, False)]
    return course.violated or (f"{shown[0]} is 1: beyond a limit" if shown and not course.began else "")


def _cause(text: str) -> Cause:
    for cause in get_args(Cause):
        if cause == text:
            return cause  # type: ignore[no-any-return]
    return "instrument-fault"
