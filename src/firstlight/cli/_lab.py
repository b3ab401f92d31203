"""Verbs for laboratories: what instruments there are and can do, one action by hand, a stop, and what is in stock."""

import asyncio
import logging
import re
import secrets
import time
from contextlib import nullcontext
from typing import Annotated, Any

import msgspec
import typer
from rich.text import Text

from .. import core
from . import _parts as parts
from . import _twin
from . import _words as words
from ._output import Exit, Here, Problem, columns
from ._steer import pairs
from ._verb import open_app, verb

Lab = Annotated[str, typer.Option("--lab", metavar="NAME", help="Which laboratory, where there are several.")]
OptionalInstrument = Annotated[
    str | None, typer.Argument(metavar="[INSTRUMENT]", show_default=False, help="One instrument; else all.")
]
Operation = Annotated[
    str, typer.Argument(metavar="INSTRUMENT.OPERATION", help="As in handler.Dispense.", show_default=False)
]
Arguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME=VALUE...]", help="Its arguments, as in Volume='0.1 mL'.", show_default=False),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what is wrong with it; send nothing.")]
Material = Annotated[str, typer.Argument(metavar="MATERIAL", help="Which material.", show_default=False)]
Amount = Annotated[str, typer.Argument(metavar="AMOUNT", help='How much was added, as in "20 mL".', show_default=False)]
Labware = Annotated[str, typer.Argument(metavar="LABWARE", help="Which plate or rack.", show_default=False)]
Place = Annotated[str, typer.Argument(metavar="PLACE", help="Where it is.", show_default=False)]
Fresh = Annotated[bool, typer.Option("--fresh", help="It is a new one of the same kind, with all wells free.")]
Seconds = Annotated[float, typer.Option(min=0.1, help="For how long to listen on the network.")]


ANSWERS = 15.0
"""Seconds for which an instrument is waited for to say what it is."""


def register(app: typer.Typer) -> None:
    """Add these verbs."""
    lab = typer.Typer(no_args_is_help=True)
    lab.callback()(_lab)
    for simulated in (_twin.up, _twin.down):
        verb(lab, "A simulated laboratory")(simulated)
    for looks in (discover, describe, drive, stop, stock, refill, place):
        verb(lab, "Laboratories")(looks)
    app.add_typer(lab, name="lab", rich_help_panel="Facilities")


def _lab() -> None:
    """Instruments of a robotic laboratory, and what stands in it."""


# ------------------------------------------------------------------ looking


async def discover(here: Here, seconds: Seconds = 3.0) -> None:
    """Find instruments that announce themselves on the network (SiLA 2)."""
    with here.out.status("listening") if here.live else nullcontext():
        found = await parts.discovery.discover(seconds)
    table = columns("protocol", "address", "name", "what it is")
    for one in found:
        table.add_row(one.protocol, one.address, one.name, one.description)
    here.tell({"found": msgspec.to_builtins(found)}, table if found else "no instrument announces itself here")


async def describe(here: Here, instrument: OptionalInstrument = None, lab: Lab = "") -> Exit:
    """Say what instruments can do: operations, their arguments with units and limits, and their signals."""
    async with open_app(here) as app:
        there = app.laboratory(lab)
        names = [instrument] if instrument else list(there.instruments)
        described, missing = [], []
        for name in names:
            try:
                described.append(await _reached(there, name))
            except Problem as problem:
                if problem.exit is not Exit.UNAVAILABLE:
                    raise
                missing.append(problem.message)
    documents = [
        msgspec.to_builtins(d) | {"schemas": {o.name: o.json_schema() for o in d.operations}} for d in described
    ]
    if here.as_json:
        here.write({"instruments": documents, "unreachable": missing})
    for d in described:
        here.say(_described(d))
    for line in missing:
        here.warn(line)
    return Exit.UNAVAILABLE if missing else Exit.DONE


def _described(d: core.InstrumentDescription) -> Text:
    text = Text.assemble((d.name, "bold"), f"  {d.protocol}  {d.vendor} {d.model} {d.version}".rstrip(), "\n")
    for operation in d.operations:
        usual = "" if operation.seconds is None else f", about {words.duration(operation.seconds)}"
        text.append(f"  {operation.name}", "cyan")
        text.append(f"  {operation.effect}{usual}  {operation.description}".rstrip() + "\n")
        for argument in operation.arguments:
            text.append(f"    {parts.lab.shown(argument)}\n")
        for result in operation.results:
            text.append(f"    -> {parts.lab.shown(result)}\n", "grey58")
    for live in d.signals:
        text.append(f"  {live.name}", "green")
        text.append(f"  signal {live.unit}".rstrip() + "\n")
    return text


def _in_order(id: str) -> list[tuple[int, str]]:
    """To order plate-2 before plate-10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", id)]


async def stock(here: Here, lab: Lab = "") -> None:
    """List materials with what is left of them, labware with where it is, and samples with what became of them."""
    async with open_app(here) as app:
        there = app.laboratory(lab)
        materials, plates = there.store.materials(), sorted(there.store.plates(), key=lambda p: _in_order(p.id))
        samples = [s for s, _, _ in there.store.samples()]
        held = there.store.held()
    table = columns("what", "amount", "promised", "where", "")
    for m in materials.values():
        table.add_row(m.id, f"{m.amount:.4g} {m.unit}", f"{m.promised:.4g} {m.unit}", "", f"never below {m.reserve:g}")
    for p in plates:
        on = sum(s.location.startswith(f"{p.id}/") for s in samples)
        state = "used" if p.begun else "in use" if on else "free"
        reserved = f", reserved by {', '.join(held[p.id])}" if p.id in held else ""
        table.add_row(p.id, f"{on} of {len(p.wells)} wells", "", p.place or "nobody knows", state + reserved)
    for s in samples:
        table.add_row(s.id, f"{len(s.uses)} uses", "", s.location, s.state or "under way")
    document = {
        "materials": [m._asdict() for m in materials.values()], "labware": [p._asdict() for p in plates],
        "samples": msgspec.to_builtins(samples),
    }  # fmt: skip
    here.tell(document, table)


# ------------------------------------------------------------------ doing


async def drive(
    here: Here, operation: Operation, arguments: Arguments = None, lab: Lab = "", dry_run: DryRun = False
) -> Exit:
    """Have one action performed by hand: checked, reserved and written down as in a campaign."""
    settings = _settings(arguments)
    async with open_app(here) as app:
        there = app.laboratory(lab)
        name = lab or app.laboratories[0]
        instrument, point, bare = operation.partition(".")
        if not point or not bare:
            hint = "`firstlight lab describe` lists instruments and operations."
            raise Problem(Exit.BAD_INPUT, f"{operation!r} is not INSTRUMENT.OPERATION, as in handler.Mix", hint=hint)
        await _reached(there, instrument)
        id = f"by-hand-{secrets.token_hex(3)}.1"
        action = core.Action(
            id=f"{id}.do", trial=id, facility=name, name="do", operation=operation, point={}, settings=settings,
            repeatable=False,
        )  # fmt: skip
        _quiet(here)
        wrong = list(dict.fromkeys(there.wrong(action))) or [why for why in [await there.obstacle(action)] if why]
        if wrong:
            raise Problem(Exit.REFUSED, f"{operation} is refused: {'; '.join(wrong)}", problems=tuple(wrong))
        if dry_run:
            here.tell(
                {"operation": operation, "settings": settings, "sent": False}, f"nothing is wrong with {operation}"
            )
            return Exit.DONE
        permit = core.Permit(action=action, policies=(f"asked for by {parts.app.person()}",))
        await there.expect(id, [action])
        began = time.monotonic()
        with here.out.status(f"{operation} is under way") if here.live else nullcontext():
            try:
                outcome = await there.outcome(await there.submit(permit))
            except core.InDoubt as doubt:
                # No campaign asks of it: what it was to draw may be gone, and a plate is where somebody finds it.
                await there.ended(id, [])
                raise Problem(
                    Exit.UNAVAILABLE,
                    f"nobody knows what came of {operation}: {doubt}",
                    hint="Look at the instrument before anything else.",
                ) from doubt
            except asyncio.CancelledError:
                here.warn(f"interrupted: {operation} goes on; `firstlight lab stop {instrument}` ends it")
                raise
        await there.ended(id, [action.id] if isinstance(outcome, core.Measured) else [])
    document = {"operation": operation, "outcome": msgspec.to_builtins(outcome)}
    took = words.duration(time.monotonic() - began)
    if isinstance(outcome, core.Failure):
        here.tell(document, f"{operation} failed after {took}: {outcome.cause}: {outcome.message}")
        return Exit.REFUSED
    seen = ", ".join(f"{o.observable} {words.quantity(o)}" for o in outcome.observations)
    here.tell(document, f"{operation} succeeded in {took}{': ' if seen else ''}{seen}")
    return Exit.DONE


async def _reached(there: "parts.lab.LabFacility", instrument: str) -> core.InstrumentDescription:
    """What an instrument says of itself. Raises Problem where there is none of this name, or it does not answer."""
    try:
        async with asyncio.timeout(ANSWERS):
            return await there.describe(instrument)
    except LookupError as error:
        raise Problem(Exit.BAD_INPUT, str(error.args[0])) from error
    except (core.Unavailable, TimeoutError) as error:
        raise Problem(
            Exit.UNAVAILABLE,
            f"{instrument} cannot be reached: {error or f'no answer within {ANSWERS:g} s'}",
            hint="Is it switched on? `firstlight facility doctor` looks at all of them.",
        ) from error


def _quiet(here: Here) -> None:
    """With --json nothing but one document goes to standard error: what interlocks say is in it."""
    if here.as_json:
        logging.getLogger("firstlight").addHandler(logging.NullHandler())


def _settings(given: list[str] | None) -> dict[str, Any]:
    """Arguments as typed: numbers as numbers, everything else as text."""
    found: dict[str, Any] = {}
    for name, text in (pairs(given, "its arguments") if given else {}).items():
        try:
            value = parts.config.read_document(f"value: {text}")["value"]
        except parts.config.BadCampaign as error:
            raise Problem(Exit.BAD_INPUT, f"{name}: {text!r} cannot be read: put it in quotes") from error
        found[name] = value if isinstance(value, int | float | bool | str | list | dict) else text
    return found


async def stop(here: Here, instrument: OptionalInstrument = None, lab: Lab = "") -> Exit:
    """Bring one instrument, or all of them, to a safe stop. Nothing is asked, and nothing waited for."""
    async with open_app(here) as app:
        there = app.laboratory(lab)
        if instrument and instrument not in there.instruments:
            known = ", ".join(there.instruments)
            raise Problem(Exit.BAD_INPUT, f"there is no instrument {instrument!r}; there are: {known}")
        _quiet(here)
        ends = await there.safe_stop(*([instrument] if instrument else []))
        # What it ended may have been begun by a process that is gone, and keeps instruments until somebody looks.
        await there.take_over(ANSWERS / 5)
    lines = [f"{name}: {'stopped' if not wrong else f'NOT STOPPED: {wrong}'}" for name, wrong in ends.items()]
    here.tell({"stopped": ends}, "\n".join(lines))
    return Exit.UNAVAILABLE if any(ends.values()) else Exit.DONE


async def refill(here: Here, material: Material, amount: Amount, lab: Lab = "") -> None:
    """Say that some of a material was added."""
    async with open_app(here) as app:
        there = app.laboratory(lab)
        known = there.store.materials()
        if material not in known:
            raise Problem(Exit.BAD_INPUT, f"there is no material {material!r}; there are: {', '.join(known) or 'none'}")
        try:
            added = app.units.parse_quantity(amount, known[material].unit)
        except ValueError as error:
            raise Problem(Exit.BAD_INPUT, f"{amount!r}: {error}") from error
        try:
            now = there.refill(material, added)
        except ValueError as error:
            raise Problem(Exit.BAD_INPUT, str(error)) from error
    here.tell(
        {"material": material, "amount": now.amount, "unit": now.unit}, f"{material}: {now.amount:.4g} {now.unit}"
    )


async def place(here: Here, labware: Labware, place: Place, lab: Lab = "", fresh: Fresh = False) -> None:
    """Say where a plate is, after somebody has moved it; or that a fresh one stands there."""
    async with open_app(here) as app:
        there = app.laboratory(lab)
        found = there.store.plate(labware)
        if found is None:
            known = ", ".join(p.id for p in there.store.plates()) or "none"
            raise Problem(Exit.BAD_INPUT, f"there is no labware {labware!r}; there is: {known}")
        if place not in there.layout.places:
            raise Problem(Exit.BAD_INPUT, f"there is no place {place!r}; there are: {', '.join(there.layout.places)}")
        others = [p.id for p in there.store.plates() if p.place == place and p.id != labware]
        if len(others) >= there.layout.places[place]:
            raise Problem(Exit.REFUSED, f"{place} is occupied by {', '.join(others)}")
        if fresh:
            there.store.add_labware(labware, found.wells, place)
        there.store.found(labware, place)
    here.tell({"labware": labware, "place": place, "fresh": fresh}, f"{labware} is at {place}")
