"""Why a point was tried: the decision as the journal has it, and the strategy asked again."""

import asyncio
from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from .. import core
from ..core import Archive, Journal, Models, Proposal, Row, Strategy
from ._recorder import recover


class Explanation(core.Value, frozen=True):
    """One trial: what was decided and why, and what came of it as far as it has ended.

    `row` has the point, what was predicted, the reason, the decision and the outcome. `by` recorded it, and `versions`
    are those of the software in the run that it belongs to. `withdrawn` says why it was never performed.
    """

    spec: core.CampaignSpec
    row: Row
    status: Literal["pending", "ended", "withdrawn"]
    by: str
    asked: core.Asked | None = None
    versions: dict[str, str] = {}
    withdrawn: str = ""

    @property
    def trial(self) -> str:
        return self.row.trial

    @property
    def unasked(self) -> str:
        """Why no strategy can be asked for this point again; "" where one can."""
        if self.asked is not None:
            return ""
        strategy, source = self.spec.strategy.name, self.row.source or self.by
        if source != strategy:
            return f"no strategy chose trial {self.trial}: it came from {source}"
        return f"the journal does not say what {strategy} was asked for trial {self.trial}: an older version wrote it"


class Difference(core.Value, frozen=True):
    """One field of a proposal, as in "point.x" and "decision.runners_up[0].score", then and now (None: not there)."""

    field: str
    then: Any
    now: Any


class Replay(core.Value, frozen=True):
    """What a strategy chose, and what it chooses `now`, asked the same (None: it has no such point any more)."""

    then: Proposal
    now: Proposal | None

    @property
    def same(self) -> bool:
        """Whether point, prediction, reason and decision are the same to the last digit."""
        return self.then == self.now

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Every field that differs; one without a name where there is no such point any more."""
        return tuple(_differences(msgspec.to_builtins(self.then), msgspec.to_builtins(self.now), ""))


async def explain(campaign_id: str, trial: str, journal: Journal) -> Explanation:
    """What the journal says of one trial ("": the last one). Raises LookupError where it is not there."""
    ledger, spec = core.Ledger(), None
    versions: dict[str, str] = {}
    found: Explanation | None = None
    async for entry in journal.read(campaign_id):
        ledger.add(entry)
        match entry.fact:
            case core.CampaignOpened(spec=opened):
                spec = opened
            case core.RunStarted(versions=those):
                versions = those
            case (core.TrialProposed(trial=id) | core.TrialAdded(trial=id)) as fact if trial in ("", id):
                assert spec is not None, "every journal begins with it"
                row = ledger.view().pending.get(id, Row(trial=id, point=fact.point))
                asked = fact.asked if isinstance(fact, core.TrialProposed) else None
                found = Explanation(spec=spec, row=row, status="pending", by=entry.by, asked=asked, versions=versions)
            case core.TrialWithdrawn(trial=id, reason=why) if found and id == found.trial:
                found = replace(found, status="withdrawn", withdrawn=why)
            case _:
                pass
    if spec is None:
        raise LookupError(f"there is no campaign {campaign_id}")
    if found is None:
        raise LookupError(f"campaign {campaign_id} has no trial {trial or 'yet'}")
    results = ledger.view()
    if ended := next((row for row in results.rows if row.trial == found.trial), None):
        return replace(found, row=ended, status="ended")
    # As it stands: some of its actions may have ended.
    return replace(found, row=results.pending.get(found.trial, found.row))


async def ask_again(
    recorded: Explanation, journal: Journal, strategy: Strategy, archive: Archive | None = None,
    models: Models | None = None,
) -> Replay:  # fmt: skip
    """Ask the strategy what it was asked, knowing what it knew.

    Raises ValueError where nobody was asked, or nobody recorded what.
    """
    asked, row = recorded.asked, recorded.row
    if asked is None:
        raise ValueError(recorded.unasked)
    campaign, ledger = await recover(recorded.spec.id, journal, archive, asked.known, models)
    spec, results = campaign.spec, ledger.view()
    proposals = await asyncio.to_thread(strategy.propose, spec, results, asked.count, asked.seed)
    now = proposals[asked.place] if asked.place < len(proposals) else None
    then = Proposal(point=row.point, predicted=row.predicted, reason=row.reason, decision=row.decision)
    # Through the same mill as what was recorded, in which a numpy number becomes a number.
    return Replay(then=then, now=msgspec.json.decode(msgspec.json.encode(now), type=Proposal | None))


def _differences(then: Any, now: Any, at: str) -> Iterator[Difference]:
    if isinstance(then, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*then, *now]):
            yield from _differences(then.get(key), now.get(key), f"{at}.{key}" if at else str(key))
    elif isinstance(then, list | tuple) and isinstance(now, list | tuple) and len(then) == len(now):
        for i, (a, b) in enumerate(zip(then, now, strict=True)):
            yield from _differences(a, b, f"{at}[{i}]")
    elif then != now:
        yield Difference(field=at, then=then, now=now)
