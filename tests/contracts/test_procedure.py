"""The one contract, kept by every procedure."""

from msgspec.structs import replace

from firstlight import core
from firstlight.procedures import Chain, Replicates, Source
from firstlight.testing.procedure import ProcedureContract, a_step, spec_of


class TestChain(ProcedureContract):
    steps = (a_step("weigh"), a_step("make", cost=1.0), a_step("look", facility="microscope"))

    def make(self) -> core.Procedure:
        return Chain()


class TestReplicates(ProcedureContract):
    def make(self) -> core.Procedure:
        return Replicates(replicates=3)


class TestSource(ProcedureContract):
    steps = (a_step("model", facility="cluster", cost=0.5), a_step("instrument"))
    point = {"x": 0.5, "by": "instrument"}
    other = {"x": 0.25, "by": "model"}

    def spec(self) -> core.CampaignSpec:
        spec, costs = spec_of(self.steps), {"model": 1.0, "instrument": 20.0}
        by = core.Categorical(name="by", values=tuple(costs))
        sources = tuple(core.Source(value=v, cost=c) for v, c in costs.items())
        fidelity = core.Fidelity(parameter="by", target="instrument", sources=sources)
        return replace(spec, parameters=(*spec.parameters, by), fidelity=fidelity)

    def make(self) -> core.Procedure:
        return Source()
