"""The one contract, kept by every procedure."""

from firstlight import core
from firstlight.procedures import Chain, Replicates
from firstlight.testing.procedure import ProcedureContract, a_step


class TestChain(ProcedureContract):
    steps = (a_step("weigh"), a_step("make", cost=1.0), a_step("look", facility="microscope"))

    def make(self) -> core.Procedure:
        return Chain()


class TestReplicates(ProcedureContract):
    def make(self) -> core.Procedure:
        return Replicates(replicates=3)
