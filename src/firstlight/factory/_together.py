"""A site's part in training together as a campaign: one action, which the gate judges before anything leaves."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from firstlight.catalog.library import Library
from firstlight.core import (
    CALLER,
    Budget,
    CampaignSpec,
    Goal,
    Objective,
    Observable,
    Ordered,
    ProcedureSpec,
    StepSpec,
    StrategySpec,
)
from firstlight.models import Item
from firstlight.models.together import SiteSpec, Terms

from ._manifest import frozen

CONTRIBUTE = "firstlight.models.site:contribute"
"""What the one action of such a campaign is: sums of gradients leave, round by round, on these terms."""


def lent(
    library: Library, texts: Sequence[str], suffixes: Sequence[str], asked: str = ""
) -> tuple[list[Item], list[Path]]:
    """What a site lends: a frozen manifest, and its files. Raises as `frozen` does."""
    chosen = frozen(library, texts, suffixes, asked)
    return [item for item, _ in chosen], [Path(unquote(urlsplit(asset.uri).path)) for _, asset in chosen]


def contribution(site: SiteSpec, terms: Terms, items: Sequence[Item]) -> CampaignSpec:
    """The campaign that a site's part in a run is: of the same terms, data and privacy, the same campaign."""
    settings: dict[str, object] = {
        "site": site.name, "terms": msgspec.to_builtins(terms), "privacy": msgspec.to_builtins(site.privacy),
        "data": [f"{item.dataset}/{item.path} {item.digest}" for item in items],
    }  # fmt: skip
    step = StepSpec(
        operation=CONTRIBUTE, name="contribute", facility=CALLER, settings=settings, approval=site.approval
    )  # fmt: skip
    told = msgspec.json.encode((settings, site.approval), order="deterministic")
    return CampaignSpec(
        id=f"together-{terms.run}-{hashlib.sha256(told).hexdigest()[:8]}",
        title=f"{site.name}'s part in {terms.run}",
        parameters=(Ordered(name="run", values=(terms.run,)),),
        goal=Goal(objectives=(Objective(observable="rounds", direction="maximize"),), budget=Budget(trials=1)),
        observables=(Observable(name="examples"), Observable(name="epsilon")),
        procedure=ProcedureSpec(steps=(step,)), strategy=StrategySpec(name="grid"),
    )  # fmt: skip
