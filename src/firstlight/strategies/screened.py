"""A model looks at very many candidates, and another strategy chooses among the few that it keeps."""

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points

from msgspec.structs import replace

from firstlight import core

from ._common import Memo, no_plates, unknown_options, whole_option
from ._informed import Informed
from ._screen import NothingScreened, Screen, Tabular, around, designed, pooled, screened, tabular, wrong
from .bayes import Bayes


class Screened:
    """A registered model screens `candidates` of the space at once, and `strategy` chooses among the `keep` most
    promising of them.

    Promising is what does well by the goal, objectives and bounds, if it turns out a deviation better than the model
    expects; of what is about as promising, what lies apart from the rest. One place in ten is held for candidates that
    the model does not know: it has no say about them. Beside what is kept stand points around the best trials, where
    readings know better than it. `bayes`, which chooses where nothing else is named, begins with what the model
    expects, as far as readings follow that. Of several sources a candidate is judged as by the target, and may then be
    tried by any. Where the model is not here, or does not cover the campaign, and once the readings prove it wrong, the
    other strategy chooses from the whole space and says why. `options` are those of `strategy`. Points of a batch share
    no settings here.
    """

    def __init__(
        self, *, model: str = "", candidates: int = 100_000, keep: int = 200, strategy: str = "bayes",
        options: Mapping[str, object] | None = None, **others: object,
    ) -> None:  # fmt: skip
        unknown_options("screened", others, ("model", "candidates", "keep", "strategy", "options"))
        if not isinstance(model, str) or not model:
            raise ValueError("option model of strategy screened must be the name of a registered model")
        self.model = model
        self.candidates = whole_option("screened", "candidates", candidates, 1)
        self.keep = whole_option("screened", "keep", keep, 1)
        self.options = dict(options or {})
        self.inner = _inner(strategy, self.options)
        self._screens: Memo[tuple[object, Screen | str]] = Memo(4)
        self._stands: Memo[tuple[object, str]] = Memo(8)
        self._pools: Memo[tuple[object, core.CampaignSpec]] = Memo(4)
        self._choosers: Memo[tuple[object, core.Strategy]] = Memo(4)

    def models(self) -> tuple[str, ...]:
        """The models that it wants to be handed, and those of the other strategy."""
        more = self.inner.models() if isinstance(self.inner, core.UsesModels) else ()
        return tuple(dict.fromkeys((self.model, *more)))

    def earlier(self) -> Sequence[str] | None:
        """The earlier campaigns that the other strategy wants to learn from."""
        return self.inner.earlier() if isinstance(self.inner, core.LearnsFromEarlier) else None

    def propose(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> Sequence[core.Proposal]:
        """At most `count` points; see `firstlight.core.Strategy`."""
        no_plates("screened", spec)
        screen, why = self._screen(spec, results)
        if screen is None:
            return [_with(p, why) for p in self.inner.propose(spec, results, count, seed)]
        there = self._pool(spec, screen, results)
        chosen = self._chooser(spec, screen, results).propose(there, results, count, seed)
        found = [self._explained(p, spec, screen, results) for p in chosen]
        if len(found) == count:
            return found
        # What it kept is used up, with what is under way and what was just chosen.
        more = {f"screened {i}": core.Row(trial=f"screened {i}", point=p.point) for i, p in enumerate(found)}
        after = replace(results, pending={**results.pending, **more})
        why = f"all is tried that the model {self.model} kept"
        return [*found, *(_with(p, why) for p in self.inner.propose(spec, after, count - len(found), seed))]

    def _screen(self, spec: core.CampaignSpec, results: core.Results) -> tuple[Screen | None, str]:
        """What is kept, or why there is no screening."""
        try:
            model = tabular(results.models, self.model, spec)
        except NothingScreened as nothing:
            return None, str(nothing)
        key, rows = (id(spec), id(model)), results.rows
        screen = self._screens.get(key, lambda: ((spec, model), self._screened(spec, model)))[1]
        if isinstance(screen, str):
            return None, screen
        why = self._stands.get(
            (*key, id(rows), len(rows)),
            lambda: ((spec, model, rows), wrong(spec, model, self.model, screen.usual, rows)),
        )[1]
        return (None, why) if why else (screen, "")

    def _chooser(self, spec: core.CampaignSpec, screen: Screen, results: core.Results) -> core.Strategy:
        """Who chooses among what is kept: the other strategy; `bayes` with what the model expects to begin with."""
        if type(self.inner) is not Bayes:
            return self.inner
        model = tabular(results.models, self.model, spec)
        return self._choosers.get(id(screen), lambda: (screen, Informed(spec, model, screen.usual, self.options)))[1]

    def _pool(self, spec: core.CampaignSpec, screen: Screen, results: core.Results) -> core.CampaignSpec:
        """The campaign with the candidates kept, and the points around the best trials, as its pool."""
        rows = results.rows
        return self._pools.get(
            (id(screen), id(rows), len(rows)),
            lambda: ((screen, rows), pooled(spec, [*screen.kept, *around(spec, rows)])),
        )[1]

    def _screened(self, spec: core.CampaignSpec, model: Tabular) -> Screen | str:
        try:
            return screened(spec, model, self.model, self.candidates, self.keep)
        except NothingScreened as nothing:
            return str(nothing)

    def _explained(
        self, proposal: core.Proposal, spec: core.CampaignSpec, screen: Screen, results: core.Results
    ) -> core.Proposal:
        """The proposal with what part the model had in it."""
        design, kept = designed(spec, proposal.point), f"{len(screen.kept):,}"
        if design in screen.unknown:
            held = f"{len(screen.unknown):,} of {kept} places"
            why = f"the model {self.model} does not know such points, for which {held} are held"
        elif design in screen.designs:
            why = f"one of {kept} that the model {self.model} kept of {screen.candidates:,}"
        else:
            why = f"near the best so far, beside what the model {self.model} kept"
        made = _with(proposal, why)
        if made.decision is None or made.decision.model:
            return made
        return replace(made, decision=replace(made.decision, model=results.models[self.model].version))


def _with(proposal: core.Proposal, why: str) -> core.Proposal:
    return replace(proposal, reason="; ".join(filter(None, (proposal.reason, why))))


def _inner(name: object, options: dict[str, object]) -> core.Strategy:
    """The strategy that chooses among what is kept. Raises ValueError."""
    points = {point.name: point for point in entry_points(group="firstlight.strategies")}
    if not isinstance(name, str) or name not in points or name == "screened":
        there = ", ".join(sorted(points.keys() - {"screened"}))
        raise ValueError(f"option strategy of strategy screened must be one of {there}, not {name!r}")
    made: core.Strategy = points[name].load()(**options)
    return made
