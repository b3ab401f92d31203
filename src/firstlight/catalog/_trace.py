"""A campaign's journal as a graph of provenance, in one pass."""

from collections.abc import Iterable

import msgspec

from firstlight import core
from firstlight.core import Failure, Measured

from ._graph import Activity, Agent, AgentKind, Entity, EntityKind, Provenance
from ._records import Record, cited


def trace(entries: Iterable[core.Entry], record: Record) -> Provenance:
    """Where a campaign's dataset comes from, out of the campaign's journal, read once.

    Of each row: the strategy, model or person that chose the point and why; the actions with their facility,
    instrument, settings, times and how they ended; who approved or attested them; who corrected the row; and the run,
    with the versions of its software. Later facts than the dataset's publication do not count, and trials that are not
    in it are left out. Of a journal that published nothing yet, all rows so far are traced.

    Raises ValueError where the journal is of another campaign, or published other datasets and never this one.
    """
    return _Tracer(record).trace(entries)


class _Open:
    """A trial that is not in the dataset yet: what is known of it so far."""

    def __init__(self, proposed: core.TrialProposed, at: float) -> None:
        self.proposed, self.at, self.ended, self.failed = proposed, at, 0.0, ""
        self.actions = {a.id: a for a in proposed.actions}
        self.sent: dict[str, float] = {}
        self.permits: dict[str, dict[str, object]] = {}
        self.informed: dict[str, list[str]] = {}
        self.activities: list[Activity] = []
        self.entities: list[Entity] = []
        self.seen: list[str] = []
        self.amended: list[core.Entry] = []


class _Tracer:
    """Folds entries into a graph. Of a trial it keeps what the graph says of it, and of the facts nothing."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._campaign, self._opened, self._ended, self._status = "", 0.0, 0.0, ""
        self._settings: dict[str, object] = {}
        self._by, self._run, self._runner, self._versions = "", "", "", dict[str, str]()
        self._agents: dict[str, Agent] = {}
        self._entities: dict[str, Entity] = {}
        self._activities: list[Activity] = []
        self._runners: dict[str, str] = {}
        self._asking: set[str] = set()
        self._open: dict[str, _Open] = {}
        self._rows: dict[str, str] = {}
        self._made: dict[str, Entity] = {}
        self._earlier: dict[str, str] = {}

    def trace(self, entries: Iterable[core.Entry]) -> Provenance:
        others, published = list[str](), False
        for entry in entries:
            fact = entry.fact
            if isinstance(fact, core.CampaignClosed):
                self._ended, self._status = entry.at, fact.reason
            if published:
                continue
            if isinstance(fact, core.DatasetPublished):
                published = fact.dataset == self._record.id
                others.append(fact.dataset)
                self._ended = max(self._ended, entry.at)
            else:
                self._take(entry)
        if others and not published:
            raise ValueError(
                f"the journal of {self._campaign} published {', '.join(others)}, and never {self._record.id}"
            )
        return self._graph()

    def _graph(self) -> Provenance:
        record = self._record
        earlier = [self._entity(f"dataset/{id}", id, "dataset") for id in record.used if id != record.id]
        rows = tuple(self._rows.values())
        dataset = self._entity(
            f"dataset/{record.id}", record.card.title or record.name, "dataset", record.digest, (*rows, *earlier)
        )
        runs = [a.id for a in self._activities if a.id.startswith("run/")]
        plan = [id for id in (f"plan/{self._campaign}",) if id in self._entities]
        whole = Activity(
            id=f"campaign/{self._campaign}", name=self._campaign, kind="campaign", started=self._opened,
            ended=self._ended, status=self._status, settings=self._settings, agents=(self._by,) if self._by else (),
            used=(*plan, *self._earlier.values()), generated=(dataset,), informed_by=tuple(runs),
        )  # fmt: skip
        return Provenance(
            agents=tuple(self._agents.values()), activities=(whole, *self._activities),
            entities=tuple(self._entities.values()),
        )  # fmt: skip

    def _take(self, entry: core.Entry) -> None:
        match entry.fact:
            case core.CampaignOpened(spec=spec):
                self._begin(spec, entry)
            case core.RunStarted():
                self._start(entry.fact, entry.at)
            case core.EarlierChosen(campaigns=campaigns):
                for one in campaigns:
                    id = f"campaign-data/{one.campaign}/{one.entries}"
                    name = f"{one.campaign} up to entry {one.entries}"
                    self._earlier[one.campaign] = self._entity(id, name, "dataset")
            case core.PointRequested():
                self._asking.add(entry.by)
            case core.TrialProposed(trial=trial):
                self._open[trial] = _Open(entry.fact, entry.at)
            case core.TrialWithdrawn(trial=trial):
                self._open.pop(trial, None)
            case core.TrialAdded():
                self._add(entry.fact, entry)
            case core.TrialIngested(trial=trial, digest=digest):
                self._ingest(trial, digest)
            case (
                core.TrialCorrected(trial=trial) | core.OutcomeRejected(trial=trial) | core.OutcomeRestored(trial=trial)
            ):
                if trial in self._open:  # It has ended, and is not in the dataset yet.
                    self._open[trial].amended.append(entry)
                else:
                    self._amend(entry.fact, entry)
            case core.TrialRevised(trial=trial, digest=digest) if trial in self._rows:
                self._digest(self._rows[trial], digest)
            case core.ModelUpdated(model=model, trials=trials, reason=reason) if not reason:
                self._learn(model, trials, entry.at)
            case _:
                self._of_action(entry)

    # ------------------------------------------------------------------ agents

    def _agent(self, kind: AgentKind, name: str, version: str = "", acted_for: str = "") -> str:
        id = f"{kind}/{name}@{version}" if version else f"{kind}/{name}"
        if id not in self._agents:
            self._agents[id] = Agent(id=id, kind=kind, name=name, version=version, acted_for=acted_for)
        return id

    def _who(self, by: str) -> str:
        """A runner is a program that somebody started; whoever else records a fact is a person."""
        if by in self._runners:
            return self._runners[by]
        person, pid, _ = by.rpartition(" pid ")
        return (
            self._agent("software", by, acted_for=self._agent("person", person)) if pid else self._agent("person", by)
        )

    def _begin(self, spec: core.CampaignSpec, entry: core.Entry) -> None:
        if self._record.campaign and spec.id != self._record.campaign:
            raise ValueError(f"{self._record.id} is of campaign {self._record.campaign}, and the journal of {spec.id}")
        self._campaign, self._opened, self._by = spec.id, entry.at, self._who(entry.by)
        said = {"title": spec.title, "strategy": spec.strategy.name, "agreement": spec.agreement, "model": spec.model}
        self._settings = {"seed": spec.seed, **{name: value for name, value in said.items() if value}}
        self._entity(f"plan/{spec.id}", f"specification of {spec.id}", "plan")

    def _start(self, fact: core.RunStarted, at: float) -> None:
        number = int(self._run.rpartition("/")[2] or 0) + 1
        self._run, self._versions = f"run/{number}", fact.versions
        person, pid, _ = fact.runner.rpartition(" pid ")
        whose = self._agent("person", person) if pid else self._by
        runner = self._runner = self._runners[fact.runner] = self._agent("software", fact.runner, acted_for=whose)
        software = [self._agent("software", name, version) for name, version in fact.versions.items()]
        self._activities.append(
            Activity(id=self._run, name=f"run {number} of {self._campaign}", kind="campaign", started=at,
                     settings={"parallel": fact.parallel}, agents=(runner, *software))
        )  # fmt: skip

    @property
    def _of_run(self) -> tuple[str, ...]:
        return (self._run,) if self._run else ()

    # ------------------------------------------------------------------ entities

    def _entity(
        self, id: str, name: str, kind: EntityKind, digest: str = "", derived_from: tuple[str, ...] = ()
    ) -> str:
        if id not in self._entities:
            self._entities[id] = Entity(id=id, name=name, kind=kind, digest=digest, derived_from=derived_from)
        return id

    def _digest(self, id: str, digest: str) -> None:
        self._entities[id] = msgspec.structs.replace(self._entities[id], digest=digest)

    def _made_by(self, trial: _Open, action: str, outcome: Measured | Failure) -> tuple[list[str], list[str]]:
        """Entities that an outcome brings: those that are new, and the samples it found there."""
        new, samples, found = list[Entity](), list[str](), list[str]()
        if isinstance(outcome, Measured) and outcome.observations:
            names = ", ".join(dict.fromkeys(o.observable for o in outcome.observations))
            new.append(Entity(id=f"observation/{action}", name=names, kind="observation"))
            trial.seen.append(new[-1].id)
        for number, asset in enumerate(outcome.assets, start=1):
            id = f"asset/{action}/{number}"
            new.append(Entity(id=id, name=asset.uri.rpartition("/")[2], kind="asset", digest=asset.digest))
            self._made.setdefault(asset.digest, new[-1])
            trial.seen.append(id)
        for sample in outcome.samples:
            id = f"sample/{sample.id}"
            if id in self._entities:
                found.append(id)
                continue
            # Another trial may use it, whether this one comes to be in the dataset or not.
            of = dict.fromkeys(f"sample/{use.material}" for use in sample.uses)
            self._entity(id, sample.kind or sample.id, "sample", "", tuple(o for o in of if o in self._entities))
            samples.append(id)
        trial.entities += new
        return [*(e.id for e in new), *samples], found

    # ------------------------------------------------------------------ actions

    def _of_action(self, entry: core.Entry) -> None:
        fact = entry.fact
        id = getattr(fact, "action", None)
        trial = self._open.get(id.rpartition(".")[0]) if isinstance(id, str) else None
        if trial is None or id not in trial.actions:
            return
        match fact:
            case core.ActionPlaced(facility=facility, reason=reason):
                trial.actions[id] = msgspec.structs.replace(trial.actions[id], facility=facility)
                trial.sent.pop(id, None)
                trial.permits.setdefault(id, {})["placed"] = reason
            case core.ActionPermitted(policies=policies, agreement=agreement):
                said = trial.permits.setdefault(id, {})
                said["policies"] = list(policies)
                if agreement:
                    said["agreement"] = agreement
            case core.ActionEscalated(to=to, question=question):
                trial.permits.setdefault(id, {}).update({"asked": to, "question": question})
            case core.ActionApproved(note=note):
                self._decide(trial, id, "approved", note, entry)
                trial.sent.pop(id, None)
            case core.ActionDispatched():
                trial.sent[id] = entry.at
            case core.ActionLost(reason=reason):
                trial.permits.setdefault(id, {})["lost"] = reason
            case core.ActionRefused(reasons=reasons):
                reason = "; ".join(reasons)
                if entry.by not in self._runners:
                    self._decide(trial, id, "refused", reason, entry)
                cause: core.Cause = "lost" if id in trial.sent else "refused"
                self._end(trial, id, Failure(cause=cause, message=reason), entry)
            case core.ActionSucceeded(measured=outcome) | core.ActionAttested(measured=outcome):
                self._end(trial, id, outcome, entry)
            case core.ActionFailed(failure=failure):
                self._end(trial, id, failure, entry)
            case _:
                pass

    def _decide(self, trial: _Open, action: str, status: str, note: str, entry: core.Entry) -> None:
        """A person allows or forbids an action."""
        id = f"approval/{entry.seq}"
        asked = {k: v for k, v in trial.permits.get(action, {}).items() if k in ("asked", "question")}
        trial.informed.setdefault(action, []).append(id)
        trial.activities.append(
            Activity(id=id, name=f"{status}: {action}", kind="approval", started=entry.at, ended=entry.at,
                     status=status, settings=asked | ({"note": note} if note else {}), agents=(self._who(entry.by),))
        )  # fmt: skip

    def _end(self, trial: _Open, id: str, outcome: Measured | Failure, entry: core.Entry) -> None:
        action, sent = trial.actions.pop(id), trial.sent.pop(id, 0.0)
        attested = isinstance(entry.fact, core.ActionAttested)
        new, found = self._made_by(trial, id, outcome)
        status = "attested" if attested else "succeeded"
        if isinstance(outcome, Failure):
            status = f"failed: {outcome.cause}" + (f": {outcome.message}" if outcome.message else "")
            trial.failed = trial.failed or status
        trial.ended = entry.at
        settings: dict[str, object] = {"operation": action.operation, "point": action.point | outcome.as_run}
        settings |= {"settings": action.settings} if action.settings else {}
        settings |= trial.permits.pop(id, {})
        trial.activities.append(
            Activity(id=f"action/{id}", name=action.name, kind="action", started=outcome.started or sent,
                     ended=outcome.ended or (0.0 if attested else entry.at), status=status, settings=settings,
                     agents=self._performers(action), used=(*self._inputs(action), *found),
                     generated=() if attested else tuple(new),
                     informed_by=(f"decision/{action.trial}", *self._of_run, *trial.informed.pop(id, [])))
        )  # fmt: skip
        if isinstance(entry.fact, core.ActionAttested):
            self._attest(trial, entry.fact, entry, new)

    def _attest(self, trial: _Open, fact: core.ActionAttested, entry: core.Entry, new: Iterable[str]) -> None:
        """What came of a lost action is the word of whoever looked."""
        trial.activities.append(
            Activity(id=f"attestation/{entry.seq}", name=f"attested: {fact.action}", kind="approval", started=entry.at,
                     ended=entry.at, status="attested", settings={"note": fact.note} if fact.note else {},
                     agents=(self._who(entry.by),), generated=tuple(new), informed_by=(f"action/{fact.action}",))
        )  # fmt: skip

    def _performers(self, action: core.Action) -> tuple[str, ...]:
        agents = [self._agent("facility", action.facility)] if action.facility else []
        if name := instrument_of(action.operation):
            # Two laboratories may both have a "handler".
            id = f"instrument/{action.facility}/{name}" if action.facility else f"instrument/{name}"
            self._agents.setdefault(id, Agent(id=id, kind="instrument", name=name, acted_for="".join(agents)))
            agents.append(id)
        return (*agents, self._runner) if self._runner else tuple(agents)

    def _inputs(self, action: core.Action) -> list[str]:
        found = list[str]()
        for asset in action.inputs.values():
            made = self._made.get(asset.digest)
            if made is not None:  # By an action whose trial may not be in the dataset, now or ever.
                self._entities.setdefault(made.id, made)
            name = asset.uri.rpartition("/")[2]
            found.append(made.id if made else self._entity(f"asset/{asset.digest}", name, "asset", asset.digest))
        return found

    # ------------------------------------------------------------------ trials

    def _ingest(self, id: str, digest: str) -> None:
        trial = self._open.pop(id, None)
        if trial is None:
            if id in self._rows:
                self._digest(self._rows[id], digest)
            return
        self._entities |= {e.id: e for e in trial.entities}
        row = self._rows[id] = self._entity(f"row/{id}", f"row of {id}", "observation", "", tuple(trial.seen))
        decision = self._chosen(id, trial)
        self._activities += trial.activities
        self._activities.append(
            Activity(id=f"trial/{id}", name=id, kind="trial", started=trial.at, ended=trial.ended,
                     status=trial.failed or "succeeded", used=tuple(trial.seen), generated=(row,),
                     informed_by=(decision, *self._of_run))
        )  # fmt: skip

        for entry in trial.amended:
            if isinstance(entry.fact, core.Amendment):
                self._amend(entry.fact, entry)
        self._digest(self._rows[id], digest)

    def _chosen(self, id: str, trial: _Open) -> str:
        """How its point was chosen: by whom, of what, and why."""
        fact, decision = trial.proposed, trial.proposed.decision
        asked = fact.source in self._asking and fact.asked is None
        said: dict[str, object] = {"point": fact.point, "reason": fact.reason}
        used = [f"plan/{self._campaign}"] if f"plan/{self._campaign}" in self._entities else []
        if decision is not None:
            said |= {"criterion": decision.criterion, "score": decision.score, "trials": decision.trials}
            used += [self._earlier[i.campaign] for i in decision.informed_by if i.campaign in self._earlier]
            if decision.model:
                used.append(self._entity(f"model-version/{decision.model}", decision.model, "model"))
        if fact.asked is not None:
            said |= {"known": fact.asked.known, "seed": fact.asked.seed}
        agents = [self._agent("person", fact.source) if asked else self._strategy_agent(fact.source)]
        if decision is not None and decision.model:
            agents.append(self._agent("model", decision.model))
        self._activities.append(
            Activity(id=f"decision/{id}", name=f"choice of {id}", kind="decision", started=trial.at, ended=trial.at,
                     settings={k: v for k, v in said.items() if v not in (None, "")}, agents=tuple(agents),
                     used=tuple(used), informed_by=self._of_run)
        )  # fmt: skip
        return f"decision/{id}"

    def _strategy_agent(self, source: str) -> str:
        version = self._versions.get(source) or self._versions.get("firstlight", "")
        return self._agent("software", f"strategy {source or 'unnamed'}", version)

    def _add(self, fact: core.TrialAdded, entry: core.Entry) -> None:
        trial = _Open(core.TrialProposed(trial=fact.trial, point=fact.point, actions=()), entry.at)
        new, found = self._made_by(trial, fact.trial, fact.outcome)
        self._entities |= {e.id: e for e in trial.entities}
        known = cited(fact.source)
        origin = [self._entity(f"dataset/{known[0]}", known[0], "dataset")] if known else []
        row = self._rows[fact.trial] = self._entity(
            f"row/{fact.trial}", f"row of {fact.trial}", "observation", "", (*trial.seen, *origin)
        )
        status = f"failed: {fact.outcome.cause}" if isinstance(fact.outcome, Failure) else "succeeded"
        self._activities.append(
            Activity(id=f"import/{fact.trial}", name=f"{fact.trial}, performed elsewhere", kind="import",
                     started=entry.at, ended=entry.at, status=status, agents=(self._who(entry.by),),
                     settings={"point": fact.point | fact.outcome.as_run, "source": fact.source},
                     used=(*found, *origin), generated=(*new, row))
        )  # fmt: skip

    def _amend(self, fact: core.Amendment, entry: core.Entry) -> None:
        trial, old = fact.trial, self._rows[fact.trial]
        new = self._entity(f"row/{trial}/{entry.seq}", f"row of {trial}, put right", "observation", "", (old,))
        self._rows[trial] = new
        said: dict[str, object]
        if isinstance(fact, core.TrialCorrected):
            status, said = "corrected", {"note": fact.note, "as run": fact.as_run}
            said["observations"] = {o.observable: o.value for o in fact.observations}
        else:
            status = "rejected" if isinstance(fact, core.OutcomeRejected) else "restored"
            said = {"reason": fact.reason}
        self._activities.append(
            Activity(id=f"correction/{entry.seq}", name=f"{status}: {trial}", kind="correction", started=entry.at,
                     ended=entry.at, status=status, settings={k: v for k, v in said.items() if v},
                     agents=(self._who(entry.by),), used=(old,), generated=(new,))
        )  # fmt: skip

    def _learn(self, model: str, trials: Iterable[str], at: float) -> None:
        rows = tuple(self._rows[t] for t in trials if t in self._rows)
        id = self._entity(f"model-version/{model}", model, "model", "", rows)
        self._activities.append(
            Activity(id=f"learning/{model}", name=f"training of {model}", kind="action", ended=at, status="succeeded",
                     agents=(self._runner,) if self._runner else (), used=rows,
                     generated=(id,), informed_by=self._of_run)
        )  # fmt: skip


def instrument_of(operation: str) -> str:
    """The instrument that an operation names ("handler" of "handler.Dispense"), "" for a computation, as in a Span."""
    name, point, rest = operation.partition(".")
    return name if point and rest and not set(operation) & set(":/ ") else ""
