"""The instrument on paper keeps the contract that real ones are held to."""

from pathlib import Path

from firstlight.core import Instrument
from firstlight.testing.instrument import InstrumentContract, PaperHob, PaperInstrument


class TestPaperInstrument(InstrumentContract):
    def setup_method(self) -> None:
        self.hob = PaperHob()

    def make(self, root: Path) -> Instrument:
        return PaperInstrument(self.hob)

    def unreachable(self, root: Path) -> Instrument:
        return PaperInstrument(None)

    def performed(self, root: Path, operation: str) -> int:
        return self.hob.performed[operation]
