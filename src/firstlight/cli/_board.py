"""What a campaign looks like from outside: a third fold of its journal, for eyes."""

import math
from collections import Counter, deque
from typing import NamedTuple

from .. import core

LAST_FAILURES = 3


class Dot(NamedTuple):
    """An ended trial as a picture shows it: the values of the objectives (None: it failed), and whether it is good.

    One that `informs` is by a source that does not count.
    """

    values: tuple[float, ...] | None
    good: bool
    informs: bool = False


class Board:
    """A campaign, its results, and what a picture of them needs. It grows with its journal, an entry at a time."""

    def __init__(self) -> None:
        self._campaign: core.Campaign | None = None
        self._ledger = core.Ledger()
        self.seq = 0
        self.opened = 0.0
        self.ended: int = 0
        self.dots: list[Dot] = []
        self.best_values: list[float] = []
        """With one objective: the best value after each trial that has ended since the first good one."""
        self.first_good = 0
        self.front: list[tuple[tuple[float, ...], core.Row]] = []
        self.failures: Counter[str] = Counter()
        self.by_source: Counter[core.Scalar] = Counter()
        self.last_failures: deque[core.Row] = deque(maxlen=LAST_FAILURES)
        self.chances: list[float] = []
        """The chance that more is still to be gained, each time the strategy said it."""
        self.sent: dict[str, float] = {}
        self.ended_before_run = 0

    @property
    def campaign(self) -> core.Campaign:
        """The campaign as it stands. Raises LookupError before its first entry."""
        if self._campaign is None:
            raise LookupError("no entry has been read yet")
        return self._campaign

    @property
    def spec(self) -> core.CampaignSpec:
        return self.campaign.spec

    @property
    def results(self) -> core.Results:
        return self._ledger.view()

    @property
    def best(self) -> list[core.Row]:
        """The Pareto front: one trial where there is one objective, none where none is good."""
        return [row for _, row in self.front]

    @property
    def worth(self) -> list[tuple[tuple[float, ...], core.Row]]:
        """The part of the front that is worth having in every objective; all of it while there is no such part."""
        limits = [core.loss(o, o.threshold) if o.threshold is not None else math.inf for o in self.spec.goal.objectives]
        return [p for p in self.front if all(x <= limit for x, limit in zip(p[0], limits, strict=True))] or self.front

    def add(self, entry: core.Entry) -> list[core.Row]:
        """Take in the next entry, and give back the trial that has ended with it, if one has."""
        before = self._campaign
        self._campaign = core.open_campaign(entry) if before is None else core.reduce(before, entry)
        self._ledger.add(entry)
        self.seq = entry.seq
        self.opened = self.opened or entry.at
        match entry.fact:
            case core.RunStarted():
                self.ended_before_run = self.ended
            case core.TrialProposed(decision=core.Decision(outlook=core.Outlook(chance=chance))):
                self.chances.append(chance)
            case core.ActionDispatched(action=id):
                self.sent[id] = entry.at
            case core.ActionSucceeded(action=id) | core.ActionFailed(action=id) | core.ActionRefused(action=id):
                self.sent.pop(id, None)
            case core.TrialCorrected() | core.OutcomeRejected() | core.OutcomeRestored():
                self._again()
            case _:
                pass
        more = self._ledger.ended - self.ended
        fresh = self.results.rows[-more:] if more else []
        for row in fresh:
            self._take(row)
        return list(fresh)

    def _again(self) -> None:
        """Look at every trial anew: one of them is another than it was."""
        self.ended, self.first_good = 0, 0
        self.dots, self.best_values, self.front = [], [], []
        self.failures, self.last_failures = Counter(), deque(maxlen=LAST_FAILURES)
        for row in self.results.ended:
            self._take(row)

    def _take(self, row: core.Row) -> None:
        self.ended += 1
        goal = self.spec.goal
        seen = row.seen
        complete = not row.failure and not row.rejected and all(o.observable in seen for o in goal.objectives)
        values = tuple(seen[o.observable].value for o in goal.objectives) if complete else None
        found = core.losses_of(self.spec, row) if complete else None
        self.dots.append(Dot(values, found is not None, not core.counts(self.spec, row.ran)))
        if self.spec.fidelity is not None:
            self.by_source[row.ran[self.spec.fidelity.parameter]] += 1
        if row.failure:
            self.failures[row.failure.cause] += 1
            self.last_failures.append(row)
        if found is not None and not any(old == found or core.dominates(old, found) for old, _ in self.front):
            self.front = [(old, r) for old, r in self.front if not core.dominates(found, old)] + [(found, row)]
        if len(goal.objectives) == 1 and self.front:
            self.first_good = self.first_good or self.ended
            self.best_values.append(self.front[0][1].seen[goal.objectives[0].observable].value)

    def waiting(self) -> list[core.ActionState]:
        """Actions that wait for a person."""
        return list(self.campaign.actions("escalated", "lost"))

    def standing(self, holder: str) -> str:
        """In a word: new, running, waiting (for people), paused, ending, interrupted or closed."""
        c = self.campaign
        if c.closed:
            return "closed"
        if c.paused:
            return "paused"
        if not holder:
            return "new" if c.seq == 1 else "interrupted"
        if c.ending:
            return "ending"
        blocked = self.waiting() and not any(c.actions("permitted", "dispatched", "accepted"))
        return "waiting" if blocked else "running"

    def elapsed(self, now: float, holder: str) -> float:
        """Seconds of running so far; the clock goes on while somebody runs it."""
        c = self.campaign
        return c.ran + max(now, c.last) - c.run_started if holder and c.runner else c.elapsed

    def rate(self, now: float) -> float:
        """Trials that end in a second, since the campaign was last taken up; 0 where nobody knows yet."""
        c = self.campaign
        took = max(now, c.last) - c.run_started
        done = self.ended - self.ended_before_run
        return done / took if c.runner and done and took > 0 else 0.0

    def spent(self) -> int:
        """Trials of the budget that have ended."""
        return self.campaign.counted - self.campaign.unsettled

    def time_left(self, now: float, holder: str) -> float | None:
        """Seconds until the first budget is spent, at the pace so far; None where nothing bounds it or tells."""
        budget, rate, c = self.spec.goal.budget, self.rate(now), self.campaign
        guesses: list[float] = []
        if budget.trials is not None and rate:
            guesses.append((budget.trials - self.spent()) / rate)
        if budget.cost is not None and rate and c.cost > 0 and self.ended:
            guesses.append(max(0.0, budget.cost - c.cost) / (c.cost / self.ended) / rate)
        if budget.seconds is not None:
            guesses.append(max(0.0, budget.seconds - self.elapsed(now, holder)))
        return min(guesses, default=None)
