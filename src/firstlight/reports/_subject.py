"""What a report is about: a campaign, its results, and what its journal says of how it was run."""

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from firstlight import core

UNLEARNED = ("random", "sobol", "space-filling")
"""What the source or the first word of the reason of a trial says where it was chosen without learning."""


class Run(core.Value, frozen=True):
    """One stretch in which a runner drove the campaign; `ended` is 0 where it left no word."""

    runner: str
    started: float
    ended: float = 0.0
    reason: str = ""


class Word(core.Value, frozen=True):
    """What a person changed in the campaign under way."""

    at: float
    by: str
    fact: core.Fact


STEERED = (
    core.PointRequested, core.RegionForbidden, core.RegionAllowed, core.TrialCorrected, core.OutcomeRejected,
    core.OutcomeRestored, core.BudgetChanged,
)  # fmt: skip
"""The facts by which people steer."""


class Subject(core.Value, frozen=True):
    """Everything a report is made from.

    `told` are the trials performed elsewhere: they are shown, and never counted as the campaign's own.
    `people` counts what people had to do: approve, refuse, pause, resume, stop, steer; `words` are those by which they
    steered. `moved` counts how often an action went to another facility because its own had gone away. `outlooks` are
    what the strategy said was still to be gained, with the number of the trial it said it of, performed or not.
    `pool_values` may give the objective's value at every row of the specification's pool (nan where a trial of it
    fails), from which random search is known exactly.
    """

    campaign: core.Campaign
    results: core.Results
    versions: Mapping[str, str] = {}
    opened: float = 0.0
    entries: int = 0
    strategy: str = ""
    runs: Sequence[Run] = ()
    told: frozenset[str] = frozenset()
    people: int = 0
    moved: int = 0
    outlooks: Sequence[tuple[int, core.Outlook]] = ()
    words: Sequence[Word] = ()
    pool_values: Sequence[float] = ()

    @property
    def spec(self) -> core.CampaignSpec:
        return self.campaign.spec

    @property
    def own(self) -> list[core.Row]:
        """The trials the campaign performed itself, in the order they ended.

        One whose outcome is marked as bad was performed all the same: it is there as one that showed nothing.
        """
        own = [row for row in self.results.ended if row.trial not in self.told]
        return [replace(row, observations=()) if row.rejected else row for row in own]

    @property
    def unlearned(self) -> list[core.Row]:
        """Its own trials that were chosen without learning: a small sample of random search."""
        return [row for row in self.own if _unlearned(row)]


def gather(entries: Iterable[core.Entry]) -> Subject:
    """The subject that a whole journal tells of. Raises core.InconsistentError where it is no history."""
    rest = iter(entries)
    first = next(rest, None)
    if first is None:
        raise core.InconsistentError("an empty history is no campaign")
    campaign, ledger = core.open_campaign(first), core.Ledger([first])
    versions: dict[str, str] = {}
    runs: list[Run] = []
    told: set[str] = set()
    outlooks: list[tuple[int, core.Outlook]] = []
    words: list[Word] = []
    people = moved = 0
    for entry in rest:
        moved += _moves(campaign, entry.fact)
        people += _by_a_person(campaign, entry.fact)
        campaign = core.reduce(campaign, entry)
        ledger.add(entry)
        match entry.fact:
            case core.RunStarted(runner=runner, versions=found):
                versions |= found
                runs.append(Run(runner=runner, started=entry.at))
            case core.RunEnded(reason=reason) if runs:
                runs[-1] = Run(runner=runs[-1].runner, started=runs[-1].started, ended=entry.at, reason=reason)
            case core.TrialProposed(decision=core.Decision(outlook=core.Outlook() as outlook)):
                outlooks.append((campaign.numbered, outlook))
            case core.TrialAdded(trial=trial):
                told.add(trial)
            case core.Event() if isinstance(entry.fact, STEERED):
                words.append(Word(at=entry.at, by=entry.by, fact=entry.fact))
            case _:
                pass
    return Subject(
        campaign=campaign, results=ledger.view(), versions=versions, opened=first.at, entries=campaign.seq,
        strategy=campaign.spec.strategy.name, runs=tuple(runs), told=frozenset(told), people=people, moved=moved,
        outlooks=tuple(outlooks), words=tuple(words),
    )  # fmt: skip


def _moves(campaign: core.Campaign, fact: core.Fact) -> bool:
    state = campaign.action(fact.action) if isinstance(fact, core.ActionPlaced) else None
    return state is not None and state.placement is not None


def _by_a_person(campaign: core.Campaign, fact: core.Fact) -> bool:
    match fact:
        case core.ActionApproved() | core.CampaignPaused() | core.CampaignResumed() | core.CampaignStopped():
            return True
        case core.ActionRefused(action=action):
            state = campaign.action(action)
            return state is not None and state.status in ("escalated", "lost")
        case _:
            return isinstance(fact, STEERED)


def _unlearned(row: core.Row) -> bool:
    return row.source in UNLEARNED or row.reason.lower().startswith(UNLEARNED)
