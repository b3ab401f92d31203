"""A site's own gate before what leaves it in training together: policy, people and the journal, as for any action."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from . import config, core, plugins
from .app import App, person
from .factory import contribution, lent
from .models import Item, family
from .models.registry import Version
from .models.together import RunSpec, SiteSpec, judge, read_site

if TYPE_CHECKING:
    from .models.site import Ask, Site

__all__ = ["Gate", "SiteSpec", "conclude", "enrol", "opened", "read_site", "register"]


async def enrol(app: App, spec: SiteSpec) -> tuple[list[Item], list[Path], dict[str, str]]:
    """What a site lends, and by run the campaign that its part is: opened if there is none yet, and judged.

    Raises ValueError (NotForTraining among them) saying what is wrong, LookupError, OSError.
    """
    with app.models() as (library, _):
        suffixes = family(spec.runs[0].family, spec.runs[0].options).suffixes
        items, files = await asyncio.to_thread(lent, library, spec.data, suffixes, spec.approval)
    ids = dict[str, str]()
    for terms in spec.runs:
        made = contribution(spec, terms, items)
        if made.id not in await app.journal.campaigns():
            await app.create(app.check_spec(made), person())
        ids[terms.run] = made.id
        await _go_on(app, made.id)
    return items, files, ids


def opened(
    spec: SiteSpec, folder: Path, items: Sequence[Item], files: Sequence[Path],
    families: Mapping[str, Callable[..., Any]], gate: "Gate", clock: Callable[[], float] = time.time,
) -> "Site":  # fmt: skip
    """The site, behind its gate. Raises ValueError where its folder is in use, or its log was changed."""
    from .models.site import Site, SiteRules  # noqa: PLC0415  It wants torch, and a coordinator does without.

    rules = SiteRules(
        least_groups=spec.privacy.least_groups, least_noise=spec.privacy.least_noise, split=spec.split
    )  # fmt: skip
    return Site(spec.name, folder, items, files, families, allow=gate, rules=rules, clock=clock)


async def register(app: App, run: RunSpec, folder: Path, start: Path, parent: str) -> Version:
    """The version that came of a run, judged on the coordinator's data. Raises ValueError, LookupError, OSError."""

    def made() -> Version:
        with app.models() as (library, registry):
            suffixes = family(run.terms.family, run.terms.options).suffixes
            items, files = lent(library, run.data, suffixes)
            judge(folder, start, run, parent, items, files)
            return registry.register(folder / "release", run.asked(parent), person())

    return await asyncio.to_thread(made)


class Gate:
    """Judges every request by the terms agreed to, by what the journal says of the site's part in the run, and by
    policy as an action of its own. A person pauses, stops, approves or denies that part as any campaign's action."""

    def __init__(self, settings: config.Settings, spec: SiteSpec, campaigns: Mapping[str, str]) -> None:
        from .models.site import only_runs  # noqa: PLC0415

        self._settings, self._campaigns, self._agreed = settings, campaigns, only_runs(*spec.runs)

    def __call__(self, ask: "Ask") -> tuple[bool, str]:
        """Whether it may be answered, and why; called in a thread that has no loop."""
        agreed, why = self._agreed(ask)
        try:
            return asyncio.run(self._judged(ask)) if agreed else (False, why)
        except (core.Held, core.Unavailable) as error:
            return False, f"whether it may be answered cannot be told now: {error}"

    async def _judged(self, ask: "Ask") -> tuple[bool, str]:
        id = self._campaigns[ask.terms.run]
        async with App.open(self._settings) as app:
            await _go_on(app, id)
            campaign, ledger = await app.state(id)
            state = _part(campaign)
            if state is None:
                failed = next((row.failure.message for row in ledger.view().rows if row.failure), "")
                return False, f"this site's part in {ask.terms.run!r} has ended{f': {failed}' if failed else ''}"
            if campaign.paused or campaign.ending:
                return False, f"this site's part in {ask.terms.run!r} is {campaign.ending or 'paused'}"
            if state.status == "escalated":
                return False, f"a person of this site has not said yes yet: {state.question}"
            if state.status != "accepted":
                return False, f"this site's part in {ask.terms.run!r} is {state.status}"
            # The run is approved; each of its rounds is judged as what it is.
            action = replace(
                state.action, id=f"{state.action.id}.{ask.what}-{ask.round}", approval="",
                settings=state.action.settings | {"what": ask.what, "round": ask.round},
            )  # fmt: skip
            policy: core.Policy = plugins.make("policies", "owner", {})
            match await policy.judge(action, campaign):
                case core.Allowed(policies=policies):
                    return True, f"{id}: {', '.join((*state.policies, *policies))}"
                case core.Refused(reasons=reasons):
                    return False, "; ".join(reasons)
                case core.Escalated(question=question):
                    return False, f"a person of this site has not said yes yet: {question}"


async def conclude(app: App, site: "Site", spec: SiteSpec, campaigns: Mapping[str, str]) -> None:
    """Write down what came of the site's part in runs that are over, or that it has withdrawn from."""
    gave = site.contributed()
    for terms in spec.runs:
        told = gave.get(terms.run)
        over = told is not None and max(told["rounds"]) == terms.rounds
        campaign, _ = await app.state(campaigns[terms.run])
        state = _part(campaign)
        if state is None or state.status != "accepted" or not (over or site.withdrawn):
            continue
        session = await app.session(campaign.spec.id, person())
        try:
            await session.tell(state.action.trial, _outcome(told, site.withdrawn))
        finally:
            await session.close()


def _outcome(told: Mapping[str, Any] | None, withdrawn: str) -> core.Outcome:
    if told is None:
        return core.Failure(cause="cancelled", message=f"withdrawn before anything left: {withdrawn}")
    seen = {"rounds": len(told["rounds"]), "examples": told["examples"], "epsilon": told["epsilon"]}
    return core.Measured(
        observations=tuple(core.Observation(observable=n, value=float(v)) for n, v in seen.items() if v is not None)
    )


def _part(campaign: core.Campaign) -> core.ActionState | None:
    """The one action of a site's part, None once it is over."""
    for trial in campaign.open.values():
        for state in trial.actions.values():
            if not trial.settled:
                return state
    return None


async def _go_on(app: App, id: str) -> None:
    """Have a part judged that was not, and begun that may begin, each in the journal before it is so."""
    campaign, _ = await app.state(id)
    state = _part(campaign)
    if campaign.closed or (state is not None and state.status in ("escalated", "accepted")):
        return
    session = await app.session(id, person())
    try:
        if state is None:
            await session.ask(1)
    finally:
        await session.close()
