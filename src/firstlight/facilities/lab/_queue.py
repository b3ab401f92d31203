"""What is going to come: the actions of trials under way, where their samples are, and in which order they go."""

import json
import math
from collections.abc import Iterable, Sequence

from ._orders import Desk, NotYet, Order, Wrong, needed
from ._plan import Work, plan
from ._store import Look, Store
from ._things import Plate

USUAL = 60.0
"""Seconds that an operation takes, as long as nobody says."""
TRIES = 40
"""Courses that are played for a plan: some milliseconds of them, as it is made anew whenever a trial comes or ends."""


class Expected:
    """The actions of each trial under way, told before its first one; with wells and materials set aside for them."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._trials: dict[str, list[Order]] = {}
        self._lacks: dict[str, str] = {}
        self._rank: dict[str, float] | None = None

    def add(self, trial: str, orders: Sequence[Order]) -> None:
        self._rank = None
        self._trials[trial] = list(orders)
        self._lacks[trial] = "it has just come"

    def drop(self, trial: str) -> list[str]:
        """Nothing more of it comes; the actions that had been expected."""
        self._lacks.pop(trial, None)
        self._rank = None
        return [order.action.id for order in self._trials.pop(trial, ())]

    def lacks(self, trial: str) -> str:
        """What a trial waits for before its first action may begin: a free well, or enough of a material."""
        return self._lacks.get(trial, "")

    def settle(self, store: Store) -> None:
        """Give samples their wells and set materials aside, for those trials that lack them, in their order."""
        if not any(self._lacks.values()):
            return
        told = set(store.expected())
        for trial, why in self._lacks.items():
            # One that has ended elsewhere needs nothing any more.
            if why and trial in told:
                # A sample gets its well last: its plate would wait for it.
                self._lacks[trial] = self._materials(trial, store) or self._wells(trial, store)

    def ordered(self, orders: Iterable[Order], look: Look) -> list[Order]:
        """The order in which they are looked at: that in which the plan has them begin, which sees what comes after."""
        waiting = list(orders)
        if len(waiting) > 1 and self._rank is None:
            self._rank = self._planned(look)
        rank = self._rank or {}
        return sorted(waiting, key=lambda order: rank.get(order.action.id, math.inf))

    def _planned(self, look: Look) -> dict[str, float]:
        """When each action to come would begin, if everything took as long as it usually does."""
        works, capacity = list[Work](), dict[str, int]()
        for trial, orders in self._trials.items():
            for order in orders:
                if look.states.get(order.action.id) in ("ended", "doubt"):
                    continue
                needs = (order.instrument, *([f"place {to}"] if (to := self._destination(order)) else []))
                capacity |= dict.fromkeys(needs, 1)
                join = f"{order.alike} {self.labware(order)}" if order.carries else ""
                works.append(
                    Work(
                        id=order.action.id, sample=trial, needs=needs, seconds=order.operation.seconds or USUAL,
                        after=tuple(order.action.after), join=join, join_size=len(self._trials) if join else 1,
                        shared=needs if join else (), arrived=float(len(works)),
                    )
                )  # fmt: skip
        if not works:
            return {}
        return {work.id: work.start for work in plan(works, capacity, 0.0, tries=TRIES).works}

    def _destination(self, order: Order) -> str:
        moves = order.form.moves
        return str(order.action.settings.get(moves.to, "")) if moves else ""

    def labware(self, order: Order) -> str:
        """The piece of labware that an order is about, "" where it has none yet."""
        try:
            return ",".join(self._desk.plates(order, self._desk.arguments(order)))
        except (NotYet, Wrong):
            return ""

    def wanted(self, labware: str, look: Look) -> bool:
        """Whether anything is still to come for a sample on a piece of labware."""
        return any(
            not _over(trial, order, look) and any(look.labware.get(sample) == labware for sample in order.samples)
            for trial, orders in self._trials.items()
            for order in orders
        )

    def companions(self, group: Sequence[Order], look: Look) -> str:
        """Which samples on the same labware are still to come for the same; "" where all that will are here."""
        here, order = {o.action.id for o in group}, group[0]
        plates = set(filter(None, self.labware(order).split(",")))
        late = []
        for trial, orders in self._trials.items():
            for other in orders:
                if other.action.id in here or other.alike != order.alike:
                    continue
                on_it = any(look.labware.get(sample) in plates for sample in other.samples)
                if on_it and not _over(trial, other, look):
                    late.append(other.action.trial)
        if not late:
            return ""
        return f"it is done for the whole of {', '.join(plates)}, and {', '.join(dict.fromkeys(late))} come first"

    def _wells(self, trial: str, store: Store) -> str:
        """Give the samples of a trial their wells, all on one piece of labware; what is lacking, or "" if nothing."""
        with store.changing():
            orders = self._trials[trial]
            missing = [s for s in needed(orders) if store.sample(s) is None]
            if not missing:
                return ""
            purpose = self._purpose(trial)
            for plate in self._plates(purpose, store):
                taken = {well for _, _, well in store.samples(labware=plate.id)}
                free = [well for well in plate.wells if well not in taken]
                if len(free) < len(missing):
                    continue
                store.set_apart(plate.id, purpose)
                for sample, well in zip(missing, free, strict=False):
                    store.put_sample(sample, trial, plate.id, well)
                return ""
            return f"no labware has {len(missing)} free wells for {trial}: bring some (refill)"

    def _plates(self, purpose: str, store: Store) -> list[Plate]:
        """Those that are for this already, then those that are for nothing yet. None that work has begun on."""
        closed = self._closed(store.look())
        there = [p for p in store.plates() if not p.begun and p.place and p.id not in closed]
        return [p for p in there if p.purpose == purpose] + [p for p in there if not p.purpose]

    def _closed(self, look: Look) -> set[str]:
        """Labware with which has been begun what comes once its samples are filled: who comes later would be late."""
        found = set[str]()
        for orders in self._trials.values():
            filled = False
            for order in orders:
                begun = look.states.get(order.action.id) in ("running", "ended", "doubt")
                if filled and order.carries and begun:
                    found |= {look.labware[s] for s in order.samples if s in look.labware}
                filled = filled or bool(order.form.draws)
        return found

    def _purpose(self, trial: str) -> str:
        """The same for trials that ask for the same of whole pieces of labware, within a campaign."""
        whole = [order.alike for order in self._trials[trial] if order.carries]
        return json.dumps([trial.rpartition(".")[0], *dict.fromkeys(whole)])

    def _materials(self, trial: str, store: Store) -> str:
        ended = {job.id for job in store.jobs_of(trial) if job.state == "ended"}
        try:
            wanted = [d for o in self._trials[trial] if o.action.id not in ended for d in self._desk.draws(o)]
        except Wrong:
            return ""  # Its action is refused when it comes.
        return store.promise(wanted, trial)


def _over(trial: str, order: Order, look: Look) -> bool:
    """Whether an action will not come any more: it has begun, or its trial has failed."""
    return trial in look.failed or look.states.get(order.action.id) in ("ended", "running")
