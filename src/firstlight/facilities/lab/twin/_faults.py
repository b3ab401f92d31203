"""What can go wrong in the twin laboratory, armed by whoever wants to see it."""

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from ._device import Fault
from ._laboratory import DEAD, Laboratory

_EVERYWHERE = frozenset({"hang", "door", "crash", "drop", "cut", "freeze", "fail"})
FAULTS: Mapping[str, frozenset[str]] = {
    "handler": _EVERYWHERE | {"clog", "empty"},
    "heater": _EVERYWHERE | {"overheat", "drift"},
    "furnace": _EVERYWHERE | {"overheat", "drift"},
    # Its protocol finds servers by a search that no proxy of ours stands in: freeze it instead.
    "spectrometer": (_EVERYWHERE | {"drift"}) - {"drop", "cut"},
    "mover": _EVERYWHERE,
}
"""What can happen to each device:

hang: the operation does not end until the fault is cleared. clog: the needle is clogged until it is washed. empty: the
bottle that is dispensed from has 10 uL left. door: it is opened. drift: the thermometer shows `size` K too much, the
lamp loses the share `size`. overheat: full power until a safe stop. fail: the operation fails before it does anything.
crash: the server's process ends. freeze: it stands still for `seconds`. drop: its replies are swallowed for `seconds`.
cut: its connections are cut.
"""

_HOLD = 0.05
"""Wall seconds that replies wait while dropping is armed: else that to a start is gone before it strikes."""


@dataclasses.dataclass
class _Armed:
    device: str
    fault: str
    probability: float
    times: int
    size: float
    seconds: float
    after: float


class Faults:
    """Those armed, and how they strike. `listeners` are told of what befalls processes and connections."""

    def __init__(self, laboratory: Laboratory) -> None:
        self.laboratory = laboratory
        self.listeners: dict[str, Callable[..., None]] = {}
        self._armed: list[_Armed] = []
        self._hanging: dict[str, asyncio.Event] = {}

    def arm(
        self, device: str, fault: str, probability: float = 1.0, times: int = 1, size: float = 5.0,
        seconds: float = 2.0, after: float = 0.0, now: bool = False,
    ) -> None:  # fmt: skip
        """Let a fault befall a device at its next operations, `times` of them (0: for ever), or at once.

        `seconds` and `after` (from an operation's begin) are of the wall clock. Raises ValueError.
        """
        if fault not in FAULTS.get(device, ()):
            raise ValueError(f"{fault} cannot befall {device}; there are {sorted(FAULTS.get(device, FAULTS))}")
        made = _Armed(device, fault, probability, times, size, seconds, after)
        if now and fault not in ("hang", "fail", "empty"):
            self._befall(made)
        else:
            self._armed.append(made)
            if fault == "drop":
                self._tell("hold", device, _HOLD)

    def armed(self) -> list[dict[str, object]]:
        """Those that are still to come."""
        return [dataclasses.asdict(a) for a in self._armed]

    def clear(self, device: str | None = None, fault: str | None = None) -> None:
        """End faults, of all devices or one, all or one: what hangs goes on, doors close, runaways end."""
        self._armed = [a for a in self._armed if device not in (None, a.device) or fault not in (None, a.fault)]
        lab = self.laboratory
        if fault in (None, "drop") and "starter" in self.listeners:
            for name in FAULTS if device is None else (device,):
                if "drop" in FAULTS[name]:
                    self._tell("hold", name, 0.0)
        for name in FAULTS if device is None else (device,):
            if fault in (None, "hang") and name in self._hanging:
                self._hanging[name].set()
            if hot := lab.hot.get(name):
                hot.door = hot.door and fault not in (None, "door")
                hot.runaway = hot.runaway and fault not in (None, "overheat")
                hot.offset = 0.0 if fault in (None, "drift") else hot.offset
            elif fault in (None, "door"):
                lab.doors[name] = False
            if name == "handler" and fault in (None, "clog"):
                lab.clogged = False
            if name == "mover" and fault is None:
                lab.crashed = ""

    def forget(self, listener: Callable[..., None]) -> None:
        """Tell somebody nothing any more."""
        self.listeners = {name: told for name, told in self.listeners.items() if told != listener}

    async def strike(self, device: str, arguments: Mapping[str, Any]) -> None:
        """At the begin of an operation. Raises Fault; where it hangs, comes back when that is cleared."""
        random = self.laboratory.random["faults"]
        for armed in [a for a in self._armed if a.device == device]:
            if random.random() >= armed.probability:
                continue
            if armed.times == 1:
                self._armed.remove(armed)
            armed.times -= 1 if armed.times > 1 else 0
            if armed.fault == "fail":
                raise Fault(f"{device} reports a fault of its drive")
            if armed.fault == "hang":
                self._hanging[device] = asyncio.Event()
                try:
                    await self._hanging[device].wait()
                finally:
                    del self._hanging[device]
            elif armed.fault == "empty":
                reagent = str(arguments.get("Reagent", ""))
                if reagent in self.laboratory.bottles:
                    self.laboratory.remove(reagent, max(self.laboratory.bottles[reagent] - DEAD - 10.0, 0.0))
            elif armed.after > 0:
                asyncio.get_running_loop().call_later(armed.after, self._befall, armed)
            else:
                self._befall(armed)

    def _befall(self, armed: _Armed) -> None:
        lab, hot = self.laboratory, self.laboratory.hot.get(armed.device)
        match armed.fault:
            case "clog":
                lab.clogged = True
            case "door" if hot:
                hot.door = True
            case "door":
                lab.doors[armed.device] = True
            case "overheat" if hot:
                hot.runaway = True
            case "drift" if hot:
                hot.offset += armed.size
            case "drift":
                lab.lamp *= max(1.0 - armed.size, 0.0) if armed.size < 1.0 else 0.8
            case other:
                self._tell(other, armed.device, armed.seconds)

    def _tell(self, what: str, device: str, seconds: float) -> None:
        told = self.listeners.get("starter")
        if told is None:
            raise ValueError(f"nobody is there to {what} {device}")
        told(push=what, device=device, seconds=seconds)
