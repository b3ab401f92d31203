"""What is in the way of an order: interlocks, places, reservations; and what waits for a person."""

import time
from collections.abc import Mapping
from typing import Any

from ...core import InstrumentDescription
from ._layout import Layout
from ._orders import Desk, NotYet, Order, Wrong
from ._store import Store, taken
from ._watch import Watch


class Obstacles:
    """Looks at what would keep an order from beginning now. It changes nothing."""

    def __init__(
        self, layout: Layout, store: Store, desk: Desk, watch: Watch, described: Mapping[str, InstrumentDescription]
    ) -> None:
        self.layout, self.store, self.desk, self.watch, self.described = layout, store, desk, watch, described
        self.away: dict[str, float] = {}
        """Until when an instrument is left alone that could not be reached (seconds, monotonic)."""

    def of(self, order: Order) -> str:
        """Why an order cannot begin now, "" where it can."""
        name = order.instrument
        if why := self.watch.broken(name):
            return why
        if self.away.get(name, 0.0) > time.monotonic():
            return f"{name} cannot be reached"
        try:
            arguments = self.desk.arguments(order)
        except NotYet as error:
            return str(error)
        except Wrong as wrong:
            return str(wrong)
        if why := self._misplaced(order, arguments):
            return why
        held = self.store.held()
        for resource, capacity in self.resources(order, arguments).items():
            holders = [h for h in held.get(resource, ()) if h != order.action.id]
            if why := taken(resource, capacity, holders):
                return why
        return ""

    def engaged(self, instrument: str, held: Mapping[str, tuple[str, ...]]) -> str:
        """Who has reserved all of an instrument, "" where it is free: nothing need be worked out while it is not."""
        return taken(instrument, self.described[instrument].slots, held.get(instrument, ()))

    def troubles(self) -> list[str]:
        """What waits for a person, in words."""
        found = [job.message for job in self.store.jobs("queued") if "refill" in job.message]
        found += [f"{r.id} on {r.instrument} is in doubt: {r.message}" for r in self.store.runs("doubt")]
        found += [
            f"nobody knows where {p.id} is" for p in self.store.plates() if not p.place and not self._moving(p.id)
        ]
        found += [why for name in self.layout.instruments if (why := self.watch.broken(name, read=True))]
        return list(dict.fromkeys(found))

    def _moving(self, labware: str) -> bool:
        return any(labware in map(str, run.arguments.values()) for run in self.store.runs("starting", "running"))

    def _misplaced(self, order: Order, arguments: Mapping[str, Any]) -> str:
        """Where labware is not where it has to be."""
        for plate in self.desk.plates(order, arguments):
            piece = self.store.plate(plate)
            if piece is None:
                continue
            if not piece.place:
                return f"nobody knows where {plate} is: find it, and say so"
            if order.form.at and piece.place != order.form.at:
                return f"{plate} is at {piece.place}, and {order.instrument} works at {order.form.at}"
        moves = order.form.moves
        if moves and arguments[moves.to] != (piece_place := self._place_of(arguments[moves.what])):
            there = [p.id for p in self.store.plates() if p.place == arguments[moves.to]]
            if len(there) >= self.layout.places.get(arguments[moves.to], 1):
                return f"{arguments[moves.to]} is occupied by {', '.join(there)}, and {piece_place} holds on"
        return ""

    def _place_of(self, labware: str) -> str:
        piece = self.store.plate(labware)
        return piece.place if piece else ""

    def resources(self, order: Order, arguments: Mapping[str, Any]) -> dict[str, int]:
        """What has to be reserved for it, all at once: the instrument, its labware, and where that goes."""
        found = {order.instrument: self.described[order.instrument].slots}
        found |= dict.fromkeys(self.desk.plates(order, arguments), 1)
        if order.form.moves:
            to = str(arguments[order.form.moves.to])
            others = sum(p.place == to for p in self.store.plates() if p.id != arguments[order.form.moves.what])
            found[f"place {to}"] = max(0, self.layout.places.get(to, 1) - others)
        return found
