"""What a server of the twin laboratory serves, whatever its protocol."""

from collections.abc import Callable, Mapping
from typing import Protocol

from firstlight.core import Cause, InstrumentDescription, Scalar


class Fault(Exception):
    """Something that happens to a device in the middle of an operation: a needle clogs, a drive stalls."""

    def __init__(self, message: str, cause: Cause = "instrument-fault") -> None:
        super().__init__(message)
        self.cause: Cause = cause


class Device(Protocol):
    """One device. It checks what real ones check, and no more: range checks are not its business."""

    def describe(self) -> InstrumentDescription:
        """Its operations, with effects, arguments, results and usual durations, and its signals."""
        ...

    async def perform(
        self, operation: str, arguments: Mapping[str, object], progress: Callable[[float], None]
    ) -> dict[str, object]:
        """Perform an operation to its end and return its results; `progress` takes 0 to 1. Raises Fault.

        Cancelled, it comes to rest where it is.
        """
        ...

    async def read(self, signal: str) -> Scalar:
        """A signal as it is now."""
        ...

    async def stop(self) -> None:
        """Come to a safe stop, whatever runs."""
        ...
