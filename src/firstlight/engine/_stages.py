"""One stage for each kind of step. A stage yields facts; it decides nothing."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Executor
from typing import TypeVar, assert_never

from msgspec.structs import replace

from .. import core
from ..core import Action, Campaign, Facility, Fact, Failure, Measured, Observation, Outcome, Ports, Step
from ._failover import Failover
from ._recorder import Recorder, load_models, read_earlier
from ._slots import FairSlots, Slots

log = logging.getLogger(__name__)

FIRST_RETRY, LONGEST_RETRY = 0.25, 30.0
T = TypeVar("T")
NO_DEED_FOLLOWS = (
    core.TrialProposed, core.ActionPermitted, core.ActionAccepted, core.ActionSucceeded, core.ActionFailed,
    core.TrialIngested,
)  # fmt: skip
"""Facts after which a stage does nothing that could outlive them: it need not wait until they are durable."""


class Stages:
    """Performs the steps of one campaign through its ports."""

    def __init__(self, recorder: Recorder, ports: Ports, slots: Slots, thinking: Executor) -> None:
        self.recorder, self.ports, self.slots, self.thinking = recorder, ports, slots, thinking
        self._holding: dict[str, str] = {}
        self._foretold = set[tuple[str, str]]()
        self._failover = Failover(recorder, ports, slots)
        self._loaded = recorder.campaign.models
        """The versions that the ledger's views have been given."""

    @property
    def campaign(self) -> Campaign:
        return self.recorder.campaign

    async def take(self, step: Step) -> None:
        """Perform a step and record its facts, each durable before the deed that it announces."""
        await self.keep(self.perform(step))

    async def keep(self, facts: AsyncIterator[Fact]) -> None:
        """Record the facts of a stage as it goes on."""
        async for fact in facts:
            self.recorder.fold(fact)
            if not isinstance(fact, NO_DEED_FOLLOWS):
                await self.recorder.on_disk()

    async def perform(self, step: Step) -> AsyncIterator[Fact]:
        """The facts of one step, each to be recorded before the next is asked for."""
        if not core.still_due(self.campaign, step):
            return
        match step:
            case core.Design(count=count):
                async for fact in self._informed():
                    yield fact
                known = self._known
                proposals, asked = await self._ask(count)
                if self._known[1] != known[1]:
                    return  # A person has said something meanwhile: the points are chosen anew.
                async for fact in self._proposed(proposals, asked):
                    yield fact
                # It may know more once another trial has ended or a person has said something; if no trial is
                # pending, it never will.
                while not proposals and self.campaign.unsettled and self._known == known:
                    await self.recorder.next_change()
                if not proposals and self._known == known and not self.campaign.ending:
                    name = self.campaign.spec.strategy.name
                    yield core.DesignExhausted(reason=f"strategy {name} has no further point")
            case core.Grant(request=request):
                yield self._granted(request)
            case core.Place(action=action):
                placement = await self._placed(action)
                if core.still_due(self.campaign, step):
                    yield _placed_at(action, placement)
            case core.Check(action=action):
                verdict = await self.ports.policy.judge(action, self.campaign)
                if core.still_due(self.campaign, step):
                    yield _judged(action.id, verdict)
            case core.Execute(permit=permit):
                action = permit.action
                held = await self._failover.unless_away(action, self._hold(action))
                if not core.still_due(self.campaign, step):
                    self._let_go(action.id)
                    if action.trial not in self.campaign.open and action.facility:
                        # It was told of the trial while that was withdrawn.
                        await self._tell(action.facility, action.trial, ())
                    return
                if held is not None:
                    self._let_go(action.id)
                    yield _placed_at(action, held)
                    return
                yield core.ActionDispatched(action=action.id)
                yield await self._accepted(action, self._submit(permit))
            case core.Reattach(permit=permit):
                yield await self._accepted(permit.action, self._reattach(permit))
            case core.Measure(action=action, job=job):
                try:
                    outcome = await self._failover.unless_away(action, self._outcome(action, job))
                except core.InDoubt as doubt:
                    yield core.ActionLost(action=action.id, reason=str(doubt), samples=doubt.samples)
                    return
                finally:
                    self._let_go(action.id)
                if isinstance(outcome, core.Placement):
                    yield _placed_at(action, outcome)
                    return
                yield _ended(action.id, standardise(outcome, self.campaign.spec, self.ports.units))
                if isinstance(outcome, Failure) and outcome.cause == "interlock" and not self.campaign.paused:
                    # What an interlock has stopped, a person looks at before anything else moves.
                    yield core.CampaignPaused(reason=outcome.message)
            case core.Cancel(action=action, job=job):
                yield core.CancelRequested(action=action.id)
                await self._patiently(lambda: self._facility(action).cancel(job), action)
            case core.Recall(action=action, facility=name):
                if name in self.ports.facilities:
                    left = replace(action, facility=name)
                    await self._patiently(lambda: self._recall(left), left)
                if core.still_due(self.campaign, step):
                    yield core.CancelRequested(action=action.id, facility=name)
            case core.Abandon(action=id, reason=reason):
                yield core.ActionFailed(action=id, failure=Failure(cause="cancelled", message=reason))
            case core.Withdraw(trial=trial, reason=reason):
                await self._tell_ended(trial)
                yield core.TrialWithdrawn(trial=trial, reason=reason)
            case core.Ingest(trial=trial):
                # Looked at before the wait: what is folded during it may not be durable after it.
                row = self.recorder.ledger.row(trial)
                await self.recorder.on_disk()
                await self._tell_ended(trial)
                digest = await self.ports.catalog.ingest(self.campaign, row)
                if trial in self.campaign.open:
                    yield core.TrialIngested(trial=trial, digest=digest)
                else:
                    yield core.TrialRevised(trial=trial, digest=digest, revision=row.revision)
            case core.Learn(trials=trials, training=training):
                async for fact in self._learn(trials, training):
                    yield fact
            case core.Publish():
                _, _, published = await self._published()
                if published is not None:
                    yield published
            case core.WatchClock(until=until):
                await asyncio.sleep(max(0.0, until - self.ports.clock()))
                if core.still_due(self.campaign, step):
                    yield core.TimeSpent(seconds=self.campaign.elapsed)
            case core.Close(reason=reason):
                yield core.CampaignClosed(reason=reason)
            case _:
                assert_never(step)

    async def design(self, count: int) -> AsyncIterator[Fact]:
        """Trials for at most `count` points; none where the strategy has none to offer for now."""
        async for fact in self._informed():
            yield fact
        proposals, asked = await self._ask(count)
        async for fact in self._proposed(proposals, asked):
            yield fact

    async def _published(self) -> tuple[str, tuple[str, ...], Fact | None]:
        """The dataset of the rows so far, those of its trials that no model has learned from, and the fact that says
        that it was published, unless it is behind already."""
        await self.recorder.on_disk()
        before = self.campaign
        dataset, digest, rows = await self.ports.catalog.publish(before)
        # What a person put right meanwhile is not in it: it is published again.
        current = self.campaign.unpublished == before.unpublished and not self.campaign.amended
        published = core.DatasetPublished(dataset=dataset, digest=digest, rows=rows) if current else None
        return dataset, before.fresh, published

    async def _learn(self, trials: tuple[str, ...], training: str) -> AsyncIterator[Fact]:
        """A training is opened, which touches nothing yet; that it has begun is recorded, and then it is performed."""
        learner, spec = self.ports.learner, self.campaign.spec
        if learner is None:
            raise LookupError(f"campaign {spec.id} names a model, and there is no learner")
        if not training:
            dataset, trials, published = await self._published()
            if published is not None:
                yield published
            try:
                training = await learner.prepare(spec, dataset)
            except core.Unusable as error:
                yield core.ModelUpdated(model=self.campaign.model, trials=trials, reason=str(error))
                return
            yield core.TrainingBegun(training=training, trials=trials)
        learned = await self._trained(learner, training)
        yield core.ModelUpdated(model=learned.version, trials=trials, training=training, reason=learned.reason)

    async def _trained(self, learner: core.Learner, training: str) -> core.Learned:
        """What comes of a training, which is told to end once the campaign is cancelled."""
        work, told = asyncio.ensure_future(learner.train(training)), False
        try:
            while not work.done():
                if self.campaign.cancel and not told:
                    await learner.stop(training)
                    told = True
                await asyncio.wait((work, self.recorder.next_change()), return_when=asyncio.FIRST_COMPLETED)
            return work.result()
        finally:
            work.cancel()
            await asyncio.wait((work,))

    async def _informed(self) -> AsyncIterator[Fact]:
        """Before a design, which earlier campaigns and which models the strategy is to know of, if any."""
        strategy, models = self.ports.strategy, self.ports.models
        if self.campaign.models is None and isinstance(strategy, core.UsesModels) and (names := strategy.models()):
            if models is None:
                raise LookupError(f"strategy {self.campaign.spec.strategy.name} asks models, and there are none here")
            yield core.ModelsChosen(versions={name: await models.choose(name) for name in names})
        while models is not None and self._loaded != self.campaign.models:
            chosen = self.campaign.models
            self.recorder.ledger.models = await load_models(self.campaign, models)
            self._loaded = chosen
        if self.campaign.earlier is None and (wish := wanted(self.ports.strategy)) is not None:
            archive, spec = self.ports.archive, self.campaign.spec
            if archive is None:
                raise LookupError(
                    f"strategy {spec.strategy.name} learns from earlier campaigns, and there is no archive"
                )
            yield core.EarlierChosen(campaigns=tuple(await archive.find(spec, wish)))
            self.recorder.ledger.earlier = await read_earlier(self.campaign, archive)

    @property
    def _known(self) -> tuple[int, int]:
        """How much there is to know: it differs once a trial has ended or a person has said something."""
        return self.recorder.ledger.ended, self.recorder.ledger.words

    async def _ask(self, count: int) -> tuple[Sequence[core.Proposal], core.Asked]:
        """What the strategy offers now, and what it was asked."""
        campaign, results = self.campaign, self.recorder.ledger.view()
        spec = campaign.spec
        # Every design has a seed of its own that a replay finds again.
        seed = spec.seed * 1_000_003 + campaign.numbered
        loop = asyncio.get_running_loop()
        proposals = await loop.run_in_executor(self.thinking, self.ports.strategy.propose, spec, results, count, seed)
        for proposal in proposals:
            if wrong := core.violations(spec, proposal.point):
                raise ValueError(f"strategy {spec.strategy.name} proposed an impossible point: {'; '.join(wrong)}")
        for first in range(0, len(proposals), spec.batch) if spec.shared else ():
            plate = [[p.point[name] for name in spec.shared] for p in proposals[first : first + spec.batch]]
            if any(settings != plate[0] for settings in plate):
                names = ", ".join(spec.shared)
                raise ValueError(f"strategy {spec.strategy.name} proposed a batch whose points do not share {names}")
        return proposals, core.Asked(known=campaign.seq, count=count, seed=seed, place=0)

    async def _proposed(self, proposals: Sequence[core.Proposal], asked: core.Asked) -> AsyncIterator[Fact]:
        """Trials for these points, as far as there is room and people still allow them."""
        for place, proposal in enumerate(proposals[: self.campaign.designable]):
            spec = self.campaign.spec
            if self.campaign.ending or self.campaign.trials_left == 0:
                return
            if core.violations(spec, proposal.point):
                continue
            trial = core.next_trial(self.campaign)
            yield core.TrialProposed(
                trial=trial,
                point=proposal.point,
                actions=core.priced(spec, proposal.point, self.ports.procedure.actions(spec, trial, proposal.point)),
                source=spec.strategy.name,
                predicted=proposal.predicted,
                reason=proposal.reason,
                decision=proposal.decision,
                asked=replace(asked, place=place),
            )

    def _granted(self, request: core.Requested) -> Fact:
        """The trial of a point that a person requested."""
        trial, spec = core.next_trial(self.campaign), self.campaign.spec
        return core.TrialProposed(
            trial=trial,
            point=request.point,
            actions=core.priced(spec, request.point, self.ports.procedure.actions(spec, trial, request.point)),
            source=request.by,
            reason=request.note or f"requested by {request.by}",
        )

    async def _placed(self, action: Action) -> core.Placement:
        """The facility that the coordinator chooses, once there is one that can take it."""
        coordinator = self.ports.coordinator
        if coordinator is None:
            raise LookupError(f"action {action.id} names no facility, and there is no coordinator to choose one")
        return await self._patiently(lambda: coordinator.place(action, self._failover.load), action)

    async def _accepted(self, action: Action, work: Coroutine[None, None, str | None]) -> Fact:
        """What became of asking a facility to perform an action: its job, None where nobody knows of it."""
        job = await self._failover.unless_away(action, work)
        if isinstance(job, str):
            return core.ActionAccepted(action=action.id, job=job)
        self._let_go(action.id)
        return core.ActionLost(action=action.id) if job is None else _placed_at(action, job)

    async def _submit(self, permit: core.Permit) -> str:
        return await self._patiently(lambda: self._facility(permit.action).submit(permit), permit.action)

    async def _reattach(self, permit: core.Permit) -> str | None:
        action = permit.action
        await self._hold_already(action)
        job = await self._patiently(lambda: self._facility(action).find(action.id), action)
        return await self._submit(permit) if job is None and action.repeatable else job

    async def _outcome(self, action: Action, job: str) -> Outcome:
        await self._hold_already(action)
        return await self._patiently(lambda: self._facility(action).outcome(job), action)

    async def _recall(self, action: Action) -> None:
        facility = self._facility(action)
        job = await facility.find(action.id)
        if job is not None:
            await facility.cancel(job)

    def _facility(self, action: Action) -> Facility:
        if action.facility not in self.ports.facilities:
            known = ", ".join(sorted(self.ports.facilities)) or "none"
            raise LookupError(f"action {action.id} needs facility {action.facility!r}; there are: {known}")
        return self.ports.facilities[action.facility]

    async def _patiently(self, ask: Callable[[], Awaitable[T]], action: Action) -> T:
        """Ask again, less and less often, until the facility can be reached: unknown is not failure."""
        delay = FIRST_RETRY
        while True:
            try:
                self._failover.asks(action)
                answer = await ask()
            except core.Unavailable as error:
                self._failover.failed(action, str(error))
                if action.facility:
                    log.warning(
                        "%s: %s cannot be reached (%s); again in %g s", action.id, action.facility, error, delay
                    )
                else:
                    log.warning("%s waits for a facility: %s; again in %g s", action.id, error, delay)
                await asyncio.sleep(delay)
                delay = min(2 * delay, LONGEST_RETRY)
            else:
                self._failover.answered(action)
                return answer

    async def _hold(self, action: Action) -> None:
        if action.id not in self._holding:
            pool = await self._pool(action)
            await pool.acquire(self.campaign.spec.id)
            self._holding[action.id] = action.facility
        await self._foretell(action)

    async def _hold_already(self, action: Action) -> None:
        if action.id not in self._holding:
            pool = await self._pool(action)
            pool.take(self.campaign.spec.id)
            self._holding[action.id] = action.facility
        await self._foretell(action)

    async def _foretell(self, action: Action) -> None:
        """Tell a facility that plans ahead, once, what of this trial is to be performed there."""
        if (action.trial, action.facility) in self._foretold:
            return
        self._foretold.add((action.trial, action.facility))
        facility, trial = self._facility(action), self.campaign.open.get(action.trial)
        if isinstance(facility, core.Foresees) and trial is not None:
            here = [a.action for a in trial.actions.values() if a.action.facility == action.facility]
            await facility.expect(trial.id, here)

    async def _tell_ended(self, trial: str) -> None:
        """Tell facilities that plan ahead that nothing of this trial will come any more."""
        state = self.campaign.open.get(trial)
        actions = state.actions.values() if state else ()
        performed = [a.action.id for a in actions if a.status == "succeeded"]
        # Whoever ran the campaign before may have told them; those that were left for others too.
        left = {name for a in actions for name in a.left} | {name for of, name in self._foretold if of == trial}
        for name in {a.action.facility for a in actions} | left:
            await self._tell(name, trial, performed)

    async def _tell(self, name: str, trial: str, performed: Sequence[str]) -> None:
        self._foretold.discard((trial, name))
        if name in self.ports.facilities:
            facility: object = self.ports.facilities[name]
            if isinstance(facility, core.Foresees):
                await facility.ended(trial, performed)

    def _let_go(self, action: str) -> None:
        facility = self._holding.pop(action, None)
        if facility is not None:
            self.slots.pools[facility].release(self.campaign.spec.id)

    def let_go_all(self) -> None:
        """Give every slot back: this runner performs nothing any more."""
        for action in list(self._holding):
            self._let_go(action)

    async def _pool(self, action: Action) -> FairSlots:
        async def slots() -> int:
            return self._facility(action).slots

        # A facility that was chosen is made now, which may fail as any request to it may.
        return self.slots.pool(action.facility, await self._patiently(slots, action))


def wanted(strategy: core.Strategy) -> Sequence[str] | None:
    """The earlier campaigns that a strategy wants to learn from; () for all that overlap, None for none at all."""
    return strategy.earlier() if isinstance(strategy, core.LearnsFromEarlier) else None


def _judged(action: str, verdict: core.Verdict) -> Fact:
    match verdict:
        case core.Allowed(policies=policies):
            return core.ActionPermitted(action=action, policies=policies)
        case core.Refused(reasons=reasons):
            return core.ActionRefused(action=action, reasons=reasons)
        case core.Escalated(to=to, question=question):
            return core.ActionEscalated(action=action, to=to, question=question)


def _placed_at(action: Action, placement: core.Placement) -> Fact:
    return core.ActionPlaced(
        action=action.id, facility=placement.facility, reason=placement.reason, others=placement.others
    )


def _ended(action: str, outcome: Outcome) -> Fact:
    if isinstance(outcome, Measured):
        return core.ActionSucceeded(action=action, measured=outcome)
    return core.ActionFailed(action=action, failure=outcome)


def standardise(outcome: Outcome, spec: core.CampaignSpec, units: core.Units) -> Outcome:
    """Observations in the units the specification declares; a failure ("invalid-output") where that cannot be."""
    if isinstance(outcome, Failure):
        return outcome
    declared = {o.observable: o.unit for o in spec.goal.objectives} | {o.name: o.unit for o in spec.observables}
    sole = spec.goal.objectives[0].observable if len(spec.goal.objectives) == 1 else ""
    try:
        seen = tuple(_declared(o, declared, sole, units) for o in outcome.observations)
    except ValueError as error:
        return Failure(
            cause="invalid-output", message=str(error), assets=outcome.assets, as_run=outcome.as_run,
            cost=outcome.cost, started=outcome.started, ended=outcome.ended, used=outcome.used,
        )  # fmt: skip
    return replace(outcome, observations=seen)


def _declared(observation: Observation, declared: dict[str, str], sole: str, units: core.Units) -> Observation:
    name = observation.observable or sole
    if not name:
        raise ValueError(f"a bare number came back: with several objectives it must be named ({', '.join(declared)})")
    unit = declared.get(name, observation.unit)
    if observation.unit in ("", unit):
        return replace(observation, observable=name, unit=unit)
    value = units.convert(observation.value, observation.unit, unit)
    # A difference converts without the offset that separates, say, degC from K.
    spread = abs(units.convert(observation.value + observation.sigma, observation.unit, unit) - value)
    return replace(observation, observable=name, value=value, unit=unit, sigma=spread)
