"""Verbs for facilities: add one, list them, look for what is wrong, and have a probe performed."""

import asyncio
import json
import secrets
import time
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from .. import core
from ..facilities import probe
from . import _parts as parts
from . import _words as words
from ._output import Exit, Here, Problem, columns
from ._verb import open_app, settings, verb

PATIENCE = 10.0
"""Seconds that a facility has for saying how it is."""
Name = Annotated[str, typer.Argument(metavar="NAME", help="What campaigns call it.", show_default=False)]
Kind = Annotated[str, typer.Argument(metavar="KIND", help="What it is: local, slurm, iri, ...", show_default=False)]
Options = Annotated[
    list[str] | None,
    typer.Argument(metavar="[OPTION=VALUE ...]", help="Its options, values as in YAML.", show_default=False),
]
Wait = Annotated[float, typer.Option(metavar="SECONDS", min=1, help="How long to wait for the probe.")]
Nodes = Annotated[int, typer.Option(min=1, help="How many nodes the probe asks for.")]
Queue = Annotated[str, typer.Option(help="The queue or partition for the probe.", show_default=False)]
Account = Annotated[str, typer.Option(help="The project that pays for the probe.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add these verbs."""
    facility = typer.Typer(no_args_is_help=True)
    facility.callback()(_facility)
    verb(facility, "Facilities")(add)
    verb(facility, "Facilities", "list")(list_facilities)
    for looks in (doctor, check):
        verb(facility, "Facilities")(looks)
    app.add_typer(facility, name="facility", rich_help_panel="Facilities")


def _facility() -> None:
    """Computers and laboratories that perform actions."""


# ------------------------------------------------------------------ add


async def add(here: Here, name: Name, kind: Kind, options: Options = None) -> None:
    """Add a facility to the data directory's firstlight.toml."""
    told = settings(here)
    table = {"kind": kind} | read_options(options or [])
    with TemporaryDirectory() as scratch:  # It is made once before it is written down: a wrong option leaves no trace.
        await parts.app.make_facility(kind, Path(scratch), Path(scratch), table).close()
    file = parts.config.add_facility(told, name, table)
    here.tell(
        {"facility": name, "kind": kind, "file": str(file)},
        f"{name} is in {file}\n`firstlight facility check {name}` has a probe performed there",
    )


def read_options(options: list[str]) -> dict[str, Any]:
    """Options of a part, as they are typed: OPTION=VALUE."""
    table: dict[str, Any] = {}
    for option in options:
        key, is_there, text = option.partition("=")
        *path, last = key.split(".")
        if not is_there or not last or not all(path):
            raise Problem(Exit.BAD_INPUT, f"{option!r} is not OPTION=VALUE", hint="Write it as slots=8.")
        inner = table
        for part in path:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise Problem(Exit.BAD_INPUT, f"{key} has a value of its own already", hint="Give it once.")
        try:
            inner[last] = parts.config.read_document(f"value: {text}")["value"] if text else ""
        except parts.config.BadCampaign as error:
            raise Problem(Exit.BAD_INPUT, f"{option!r}: {error}", hint="Put quotes around text.") from error
    return table


# ------------------------------------------------------------------ list


async def list_facilities(here: Here) -> None:
    """List the facilities, and how each of them is just now."""
    async with open_app(here) as app:
        kinds = app.kinds
        states = await asyncio.gather(*(_status(app, name) for name in kinds))
    documents = [
        {"facility": name, "kind": kind, "slots": slots, **msgspec.to_builtins(status)}
        for (name, kind), (slots, status) in zip(kinds.items(), states, strict=True)
    ]
    table = columns("facility", "kind", "state", "slots", "nodes", "cores", "running", "queued", "wait", "")
    for (name, kind), (slots, s) in zip(kinds.items(), states, strict=True):
        wait = "" if s.wait is None else words.duration(s.wait) if s.wait >= 1 else "none"
        counts = [str(slots or ""), str(s.nodes or ""), str(s.cores or ""), str(s.running), str(s.queued)]
        table.add_row(name, kind, s.state, *counts, wait, s.message)
    here.tell({"facilities": documents}, table)


async def _status(app: "parts.app.App", name: str) -> tuple[int, core.FacilityStatus]:
    try:
        facility = app.facility(name)
    except (parts.plugins.BrokenPart, parts.plugins.UnknownPart) as error:
        return 0, core.FacilityStatus(state="unknown", message=str(error))
    if not isinstance(facility, core.ReportsStatus):
        return facility.slots, core.FacilityStatus(state="unknown", message="it does not say")
    try:
        return facility.slots, await asyncio.wait_for(facility.status(), PATIENCE)
    except TimeoutError:
        return facility.slots, core.FacilityStatus(state="unknown", message=f"no answer within {PATIENCE:g} s")
    except core.Unavailable as error:
        return facility.slots, core.FacilityStatus(state="down", message=str(error))


# ------------------------------------------------------------------ doctor


async def doctor(here: Here, name: Name) -> Exit:
    """Look at everything that has to be right for a facility to perform actions. It performs none."""
    async with open_app(here) as app:
        findings = await _examine(_named(app, name), name)
    here.tell({"facility": name, "findings": msgspec.to_builtins(findings)}, _findings(findings))
    return Exit.DONE if all(f.right for f in findings) else Exit.UNAVAILABLE


def _named(app: "parts.app.App", name: str) -> core.Facility:
    if name not in app.kinds:
        known = ", ".join(app.kinds)
        raise Problem(
            Exit.BAD_INPUT, f"there is no facility {name!r} (there are: {known})", hint="`firstlight facility add`."
        )
    return app.facility(name)


async def _examine(facility: core.Facility, name: str) -> list[core.Finding]:
    if not isinstance(facility, core.Examinable):
        return [core.Finding(what=name, right=True, seen="it cannot look at itself: `facility check` tries it")]
    return list(await facility.examine())


def _findings(findings: list[core.Finding]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for finding in findings:
        mark = Text("ok", "green") if finding.right else Text("wrong", "red")
        advice = "" if finding.right or not finding.advice else f"\n{finding.advice}"
        table.add_row(mark, Text(finding.what), Text(f"{finding.seen}{advice}"))
    return table


# ------------------------------------------------------------------ check


async def check(
    here: Here, name: Name, nodes: Nodes = 1, queue: Queue = "", account: Account = "", wait: Wait = 300.0
) -> Exit:
    """Have a small action performed at a facility, and say how that went or why it did not."""
    async with open_app(here) as app:
        facility = _named(app, name)
        began = time.time()
        try:
            outcome = await _probe(here, app, facility, name, nodes, queue, account, wait)
        except core.Unavailable as error:
            outcome = core.Failure(cause="lost", message=f"it cannot be reached: {error}")
        if isinstance(outcome, core.Measured):
            report = _report(app, outcome)
            here.tell(
                {"facility": name, "right": True, "seconds": time.time() - began, "probe": report},
                _told(name, report, outcome, began),
            )
            return Exit.DONE
        findings = await _examine(facility, name)
    wrong = [f for f in findings if not f.right]
    here.tell(
        {
            "facility": name, "right": False, "seconds": time.time() - began,
            "failure": msgspec.to_builtins(outcome), "findings": msgspec.to_builtins(findings),
        },
        f"{name}: the probe was not performed: {outcome.cause}: {outcome.message}",
    )  # fmt: skip
    if outcome.log:
        here.say("\n".join(f"  {line}" for line in outcome.log.splitlines()))
    here.say(_findings(wrong) if wrong else "`facility doctor` finds nothing wrong with it")
    return Exit.UNAVAILABLE


async def _probe(
    here: Here, app: "parts.app.App", facility: core.Facility, name: str, nodes: int, queue: str, account: str,
    wait: float,
) -> core.Outcome:  # fmt: skip
    permit = core.Permit(action=_action(app, name, nodes, queue, account), policies=("asked by a person",))
    job = await facility.submit(permit)
    ended = asyncio.ensure_future(facility.outcome(job))
    screen = here.out.status("submitted") if here.live else nullcontext()
    said, until = "", time.monotonic() + wait
    with screen as spinner:
        while time.monotonic() < until:
            await asyncio.wait({ended}, timeout=1.0)
            if ended.done():
                return ended.result()
            said = await _progress(facility, job)
            if spinner:
                spinner.update(said)
    ended.cancel()
    await facility.cancel(job)
    return core.Failure(cause="timed-out", message=f"no outcome after {words.duration(wait)}; {said}, and is cancelled")


def _action(app: "parts.app.App", name: str, nodes: int, queue: str, account: str) -> core.Action:
    with TemporaryDirectory() as scratch:
        file = Path(scratch, "note.txt")
        file.write_text(probe.NOTE)
        note = app.assets.put(file)
    id = f"probe-{secrets.token_hex(4)}"
    return core.Action(
        id=f"{id}.1.probe", trial=f"{id}.1", facility=name, name="probe", operation=f"{probe.__name__}:probe", point={},
        limits=core.Limits(seconds=120.0), inputs={"note": note}, outputs=(probe.REPORT,),
        resources=core.Resources(nodes=nodes, processes=nodes, queue=queue, account=account),
    )  # fmt: skip


async def _progress(facility: core.Facility, job: str) -> str:
    if not isinstance(facility, core.ReportsStatus):
        return "under way"
    try:
        seen = await asyncio.wait_for(facility.job(job), PATIENCE)
    except (core.Unavailable, TimeoutError) as error:
        return f"it cannot be reached: {error}"
    native = f" as {seen.native}" if seen.native else ""
    return f"it is {seen.state}{native}" + (f": {seen.message}" if seen.message else "")


def _report(app: "parts.app.App", outcome: core.Measured) -> dict[str, Any]:
    for asset in outcome.assets:
        report: dict[str, Any] = json.loads(app.assets.check(asset).read_text())
        return report
    raise Problem(Exit.UNAVAILABLE, "the probe was performed, and its report did not come back")


def _told(name: str, report: dict[str, Any], outcome: core.Measured, began: float) -> str:
    here = parts.app.versions()["firstlight"]
    lines = [
        f"{name} performs actions: on {report['host']} as {report['person']}, {report['cores']} cores",
        f"  Python {report['python']}, Firstlight {report['firstlight']}",
        f"  begun {words.duration(max(0.0, outcome.started - began))} after it was submitted, back after "
        f"{words.duration(time.time() - began)}; an input went there and an output came back",
    ]
    if report["firstlight"] != here:
        lines.append(f"  here it is Firstlight {here}: install the same there, or results may differ")
    return "\n".join(lines)
