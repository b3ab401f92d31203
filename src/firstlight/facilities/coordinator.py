"""Choose which of several facilities performs an action, and say why."""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Mapping
from textwrap import shorten
from types import MappingProxyType
from typing import Any

import msgspec

from ..core import Action, Facility, FacilityStatus, Placement, ReportsStatus, Unavailable
from ._offers import against, choose, offer, says

FRESH, FRESH_SILENCE = 5.0, 15.0
"""Seconds for which a word of a facility is good; silence is for longer, for finding out may take its time."""
FORGET = 600.0
"""Seconds after which it is no matter any more what a facility had said."""
MOST_REASONS, LONGEST_REASON = 3, 80
NONE: Mapping[str, str] = MappingProxyType({})

Word = FacilityStatus | str
"""How a facility says it is, or why it says nothing."""


class Coordinator:
    """Chooses among facilities by what they can take, how they are, how long one waits there, and what they cost.

    In this order: what cannot take the action, is down or cannot be reached is out; up is better than degraded; a short
    wait is better than a long one, by factors of two; a free slot is better than one to wait for; a lower price is
    better, where all tell theirs; last comes the order of preference. That is the order of `facilities`, or of those
    that the action may be performed at.

    A facility may be made only when it is asked for, and raises Unavailable where that fails: that speaks against it
    alone. One that says nothing of itself is taken to be up, with all its slots. `patience` is how many seconds a
    facility may be away before what was placed there goes to another, `answer` how many it may take to say how it is.
    """

    def __init__(
        self, facilities: Mapping[str, Facility], *, patience: float = 60.0, answer: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        if not patience > 0:
            raise ValueError(f"patience must be above 0 seconds, not {patience:g}")
        self._facilities, self._patience, self._answer, self._clock = facilities, patience, answer, clock
        self._looks: dict[tuple[str, bytes], _Look] = {}

    @property
    def patience(self) -> float:
        return self._patience

    async def place(self, action: Action, load: Callable[[str], int], without: Mapping[str, str] = NONE) -> Placement:
        names = action.facilities or tuple(self._facilities)
        asked = [name for name in names if name not in without]
        words = await asyncio.gather(*(self._look(name, action) for name in asked))
        wrong = {
            name: word if isinstance(word, str) else against(action, word)
            for name, word in zip(asked, words, strict=True)
        }
        wrong |= {name: without[name] for name in names if name in without}
        offers = [
            offer(name, place, action, word, load(name), self._facilities[name].slots)
            for place, (name, word) in enumerate(zip(asked, words, strict=True))
            if isinstance(word, FacilityStatus) and not wrong[name]
        ]
        if not offers:
            against_each = "; ".join(f"{name} {why}" for name, why in wrong.items())
            raise Unavailable(f"nobody can take it now: {against_each or 'there are no facilities'}")
        best, worse = choose(offers)
        others = {name: (wrong | worse)[name] for name in names if name != best.name}
        # The sentence names first what might have been chosen; the whole of it is in `others`.
        said = [f"{name} {why}" for name, why in sorted(others.items(), key=lambda o: o[0] not in worse)]
        reasons = [says(best), *(shorten(words, LONGEST_REASON, placeholder=" ...") for words in said[:MOST_REASONS])]
        return Placement(facility=best.name, reason="; ".join(reasons), others=others)

    async def away(self, facility: str) -> str:
        word = await self._look(facility, None)
        if isinstance(word, str):
            return word
        return f"is down ({word.message})" if word.state == "down" else ""

    async def close(self) -> None:
        """Ask nobody any more."""
        answers = [look.answer for look in self._looks.values()]
        self._looks.clear()
        for answer in answers:
            answer.cancel()
        await asyncio.gather(*answers, return_exceptions=True)

    async def _look(self, name: str, action: Action | None) -> Word:
        """What a facility says of itself, for an action like this; it is asked once at a time, and not too often."""
        wish = msgspec.json.encode((action.operation, action.resources, action.limits)) if action else b""
        look = self._looks.get((name, wish))
        if look is None or look.until < self._clock():
            self._looks = {key: old for key, old in self._looks.items() if old.until > self._clock() - FORGET}
            before = look.answer.result() if look and look.until > -math.inf else None
            look = self._looks[name, wish] = _Look(self._ask(name, action), self._clock)
            # Whoever was silent may take its time to be so again, and nobody need wait for that.
            if isinstance(before, str):
                look.meanwhile = before
        if look.meanwhile and not look.answer.done():
            return look.meanwhile
        return await asyncio.shield(look.answer)

    async def _ask(self, name: str, action: Action | None) -> Word:
        try:
            facility = self._facilities[name]
            if not isinstance(facility, ReportsStatus):
                return FacilityStatus(state="up")
            return await asyncio.wait_for(facility.status(action), self._answer)
        except Unavailable as error:
            return f"cannot be reached ({error})"
        except TimeoutError:
            return f"has not answered for {self._answer:g} s"


class _Look:
    """A question to a facility, its answer, and until when that is good."""

    def __init__(self, asking: Coroutine[Any, Any, Word], clock: Callable[[], float]) -> None:
        self.until, self.meanwhile, self._clock = math.inf, "", clock
        self.answer = asyncio.ensure_future(asking)
        self.answer.add_done_callback(self._answered)

    def _answered(self, answer: asyncio.Future[Word]) -> None:
        if answer.cancelled() or answer.exception() is not None:
            self.until = -math.inf
        else:
            self.until = self._clock() + (FRESH_SILENCE if isinstance(answer.result(), str) else FRESH)
