"""An action as an order to an instrument: what is wrong with it, its arguments, what it moves and draws."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ...core import Action, InstrumentDescription, Operation, check_arguments
from ._layout import Form, Layout
from ._store import Store

REFERENCE = re.compile(r"\{([\w-]+)\.(\w+)\}")
PLAIN = Form()
SAMPLE = "sample"
"""A setting that says which sample an action is about where no argument does; it is not sent."""
HOME = "home"
"""The place of a piece of labware in the laboratory's file."""


class Wrong(Exception):
    """An order that cannot be sent, with every reason."""

    def __init__(self, *reasons: str) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


class NotYet(Exception):
    """An order that cannot be sent now; the message says what it waits for."""


@dataclass(frozen=True)
class Order:
    """What an action asks of which instrument. `step` is the name of its step, the same for all replicates."""

    action: Action
    instrument: str
    operation: Operation
    form: Form

    @property
    def step(self) -> str:
        return re.sub(r"-\d+$", "", self.action.name)

    @property
    def names(self) -> list[str]:
        """The arguments that name a sample, or labware that may be named by a sample on it."""
        form = self.form
        return [*form.samples, *form.labware, *(d.to for d in form.draws), *([form.moves.what] if form.moves else [])]

    @cached_property
    def samples(self) -> list[str]:
        """The samples of its trial that its settings name."""
        settings = self.action.settings
        values = dict.fromkeys(str(settings[name]) for name in (*self.names, SAMPLE) if name in settings)
        return [value for value in values if of_trial(value, self.action.trial)]

    @property
    def carries(self) -> bool:
        """Whether it concerns a whole piece of labware, and so every sample on it."""
        return bool(self.form.labware or self.form.moves or self.form.whole)

    @property
    def given(self) -> dict[str, object]:
        """Its settings without what is not for the instrument."""
        mine = any(a.name == SAMPLE for a in self.operation.arguments)
        return {k: v for k, v in self.action.settings.items() if k != SAMPLE or mine}

    @cached_property
    def alike(self) -> str:
        """The same for the same step of every sample for which it asks for the same."""
        mine = set(self.samples)
        settings = {k: "*" if str(v) in mine else v for k, v in self.action.settings.items()}
        return json.dumps([self.instrument, self.operation.name, self.step, settings], sort_keys=True, default=str)


def of_trial(sample: str, trial: str) -> bool:
    """Whether a sample belongs to a trial: "c1.5" and "c1.5-2" belong to c1.5."""
    return sample == trial or re.fullmatch(re.escape(trial) + r"-\d+", sample) is not None


def read_order(action: Action, there: Mapping[str, InstrumentDescription], layout: Layout) -> Order:
    """The order that an action is. Raises Wrong where no such instrument or operation is there."""
    booked = booked_order(action, layout)
    if booked is None:
        name = action.operation.partition(".")[0]
        raise Wrong(f"there is no instrument {name!r}; there are: {', '.join(layout.instruments)}")
    description = there[booked.instrument]
    found = description.operation(booked.operation.name)
    if found is None:
        names = ", ".join(o.name for o in description.operations) or "none"
        raise Wrong(f"{booked.instrument} has no operation {booked.operation.name!r}; it has: {names}")
    return replace(booked, operation=found)


def booked_order(action: Action, layout: Layout) -> Order | None:
    """An order as far as the laboratory's file says, which is enough to keep books; None where it says nothing."""
    name, _, operation = action.operation.partition(".")
    if name not in layout.instruments:
        return None
    return Order(action, name, Operation(name=operation), layout.instruments[name].operations.get(operation, PLAIN))


class Desk:
    """Works orders out against what the laboratory knows of samples, labware and earlier results."""

    def __init__(
        self, layout: Layout, store: Store, quantity: Callable[[str], tuple[float, str]],
        convert: Callable[[float, str, str], float],
    ) -> None:  # fmt: skip
        self.layout, self.store, self.quantity, self.convert = layout, store, quantity, convert

    def wrong(self, order: Order) -> tuple[str, ...]:
        """What is wrong with an order, as far as it can be told before earlier steps have ended."""
        given = order.given
        later = {name for name, value in given.items() if isinstance(value, str) and REFERENCE.search(value)}
        # Samples have a well, and their plate a name, only when they come.
        later |= {name for name in order.names if of_trial(str(given.get(name)), order.action.trial)}
        moves = order.form.moves
        if moves and moves.origin and moves.origin not in given:
            later.add(moves.origin)
        if moves and given.get(moves.to) == HOME:
            later.add(moves.to)
        known = [a for a in order.operation.arguments if a.name not in later]
        operation = type(order.operation)(name=order.operation.name, arguments=tuple(known))
        for name in later:
            given.pop(name, None)
        _, found = check_arguments(operation, given, self.in_unit)
        strangers = [n for n in later if n not in {a.name for a in order.operation.arguments}]
        return found + tuple(f"{order.operation.name} has no argument {n!r}" for n in strangers) + self._places(order)

    def _places(self, order: Order) -> tuple[str, ...]:
        moves = order.form.moves
        to = order.action.settings.get(moves.to) if moves else None
        if to is not None and to != HOME and to not in self.layout.places:
            return (f"there is no place {to!r}; there are: {', '.join(self.layout.places) or 'none'}",)
        return ()

    def arguments(self, order: Order) -> dict[str, Any]:
        """What the instrument is sent. Raises Wrong, or NotYet where a sample has no place yet."""
        form, given = order.form, order.given
        for name, value in given.items():
            if isinstance(value, str) and REFERENCE.search(value):
                given[name] = self._referred(order, name, value)
        for name in dict.fromkeys((*form.samples, *(d.to for d in form.draws))):
            if isinstance(given.get(name), str):
                given[name] = self._well(order, str(given[name]))
        for name in dict.fromkeys((*form.labware, *([form.moves.what] if form.moves else []))):
            if isinstance(given.get(name), str):
                given[name] = self._labware(order, str(given[name]))
        if form.moves:
            what = str(given.get(form.moves.what))
            plate, piece = self.store.plate(what), self.layout.labware.get(what)
            if plate is not None and not plate.place:
                raise NotYet(f"nobody knows where {what} is: find it, and say so")
            if form.moves.origin and not given.get(form.moves.origin):
                given[form.moves.origin] = plate.place if plate else ""
            if given.get(form.moves.to) == HOME and piece is not None:
                given[form.moves.to] = piece.place
        taken, wrong = check_arguments(order.operation, given, self.in_unit)
        if wrong:
            raise Wrong(*wrong)
        return taken

    def plates(self, order: Order, arguments: Mapping[str, Any]) -> list[str]:
        """The pieces of labware that it touches."""
        form = order.form
        whole = [str(arguments[n]) for n in form.labware if n in arguments]
        moved = [str(arguments[form.moves.what])] if form.moves and form.moves.what in arguments else []
        wells = [str(arguments[n]) for n in (*form.samples, *(d.to for d in form.draws)) if n in arguments]
        found = [*whole, *moved, *(w.partition("/")[0] for w in wells if "/" in w)]
        if form.whole and not found:
            there = [self.store.sample(sample) for sample in order.samples]
            found = [place[0] for place in there if place] or [p.id for p in self.store.plates() if p.place == form.at]
        return list(dict.fromkeys(found))

    def draws(self, order: Order) -> list[tuple[str, str, float]]:
        """What it draws: material, action and amount in the material's unit. Raises Wrong."""
        found, stock = [], self.store.materials()
        for draw in order.form.draws:
            defaults = {a.name: a.default for a in order.operation.arguments}
            settings = defaults | dict(order.action.settings)
            if None in (settings.get(draw.source, draw.source), settings.get(draw.amount, draw.amount)):
                continue  # That an argument is missing is told where arguments are looked at.
            material = str(settings.get(draw.source, draw.source))
            if material not in stock:
                raise Wrong(f"there is no material {material!r}; there are: {', '.join(stock) or 'none'}")
            asked = settings.get(draw.amount, draw.amount)
            if isinstance(asked, str) and REFERENCE.search(asked):
                continue
            unit = next((a.unit for a in order.operation.arguments if a.name == draw.amount), stock[material].unit)
            try:
                amount = self.in_unit(asked, unit) if isinstance(asked, str) else float(str(asked))
                found.append((material, order.action.id, self.convert(amount, unit, stock[material].unit)))
            except ValueError as error:
                raise Wrong(f"{draw.amount}: {error}") from error
        return [one for one in found if one[2] > 0]

    def in_unit(self, text: str, unit: str) -> float:
        """The number of a quantity, in a unit; a number without one is in it already. Raises ValueError."""
        number, given = self.quantity(text)
        return self.convert(number, given, unit) if given else number

    def _referred(self, order: Order, name: str, text: str) -> object:
        """What earlier steps of the trial brought, put into a setting."""
        found: dict[str, object] = {}
        for match in REFERENCE.finditer(text):
            step, result = match.groups()
            job = self.store.job(f"{order.action.trial}.{step}")
            run = self.store.run(job.run) if job and job.run else None
            if run is not None and run.state == "attested":
                raise Wrong(f"{name}: a person has attested step {step}, and what it brought is not known")
            if run is None or result not in run.results:
                there = ", ".join(run.results) if run else "nothing"
                raise Wrong(f"{name}: step {step} brought no {result!r}; it brought: {there or 'nothing'}")
            found[match[0]] = run.results[result]
        if text in found:
            return found[text]
        return REFERENCE.sub(lambda m: str(found[m[0]]), text)

    def _well(self, order: Order, sample: str) -> str:
        if "/" in sample:
            plate, _, well = sample.partition("/")
            piece = self.store.plate(plate)
            if piece is None or well not in piece.wells:
                raise Wrong(f"there is no well {sample!r}")
            return sample
        found = self.store.sample(sample)
        if found is None:
            if of_trial(sample, order.action.trial):
                raise NotYet(f"no labware has a free well for {sample}")
            raise Wrong(f"there is no sample {sample!r}")
        return f"{found[0]}/{found[1]}"

    def _labware(self, order: Order, name: str) -> str:
        if self.store.plate(name) is not None:
            return name
        found = self.store.sample(name)
        if found is None:
            if of_trial(name, order.action.trial):
                raise NotYet(f"no labware has a free well for {name}")
            raise Wrong(f"there is no labware or sample {name!r}")
        return found[0]


def needed(orders: list[Order]) -> Iterator[str]:
    """The samples that these orders are about, in order."""
    yield from dict.fromkeys(sample for order in orders for sample in order.samples)
