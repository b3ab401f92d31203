"""`firstlight model shadow`: a candidate, held against the version in production before it serves anything."""

import msgspec

from . import _parts as parts
from . import _words as words
from ._model import chosen
from ._model_say import Chosen
from ._output import Exit, Here, Problem
from ._verb import open_app


async def shadow(here: Here, version: Chosen) -> None:
    """Have a version predict what the one in production has served since, and note which did better."""
    async with open_app(here) as app:
        with app.models() as (_, registry):
            candidate = chosen(registry, version)
        try:
            after = await app.shadow(candidate.id, parts.app.person())
        except ValueError as error:
            hint = "It is judged on campaigns whose points the version in production chose, once they have ended."
            raise Problem(Exit.REFUSED, str(error), hint=hint) from error
        with app.models() as (_, registry):
            verdict = registry.verdict(after)
    told = after.shadows[-1].compared
    told_of = "the version in production"
    better = "no worse" if told.candidate <= told.production else "worse"
    here.tell(
        {
            "version": after.id, "compared": msgspec.to_builtins(told), "passed": verdict.passed,
            "reasons": list(verdict.reasons),
        },
        f"{after.id} was {better} on {words.plural(told.trials, 'trial')} of {', '.join(told.campaigns)}: "
        f"{told.metric} {words.number(told.candidate)}, and {words.number(told.production)} of {told_of}",
    )  # fmt: skip
