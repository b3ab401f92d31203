"""Verbs that move a campaign: run, resume, pause, stop, cancel, and what goes before and after."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .. import core
from . import _data, _live, _spec
from . import _parts as parts
from . import _words as words
from ._documents import campaign_document
from ._drive import run as drive
from ._find import Id, ask, find
from ._output import Exit, Here, Interrupted, Problem
from ._report import baselines, report
from ._verb import open_app, verb

Source = Annotated[
    str, typer.Argument(metavar="CAMPAIGN", help="A campaign file, or the name of a domain.", show_default=False)
]
Trials = Annotated[int | None, typer.Option(min=1, help="How many trials it may take.", show_default=False)]
Parallel = Annotated[int | None, typer.Option(min=1, help="How many trials run at once.", show_default=False)]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of all that is random.", show_default=False)]
Strategy = Annotated[str | None, typer.Option(help="What chooses the points.", show_default=False)]
Name = Annotated[str | None, typer.Option(metavar="ID", help="The campaign's id.", show_default=False)]
Facility = Annotated[str | None, typer.Option(help="Where all its actions are performed.", show_default=False)]
Baseline = Annotated[int, typer.Option(metavar="N", min=0, help="Then run N campaigns with random points, to compare.")]
WithData = Annotated[
    list[str] | None,
    typer.Option(
        metavar="QUERY", show_default=False,
        help='Earlier data to begin with: a dataset, or what `data search` would find ("films observable=yield").',
    ),
]  # fmt: skip
WithReport = Annotated[bool, typer.Option("--report/--no-report", help="Write the report at the end.")]
Reason = Annotated[str, typer.Option(help="Why, for the journal.", show_default=False)]


class Format(StrEnum):
    """What a dataset can be exported as."""

    csv = "csv"
    parquet = "parquet"
    json = "json"


Open = Annotated[bool, typer.Option("--open", help="Show it in a browser.")]
As = Annotated[Format, typer.Option("--as", help="The form of the file.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="The file to write (default: ID.csv, ...).", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add these verbs."""
    for moves in (run, resume, pause, stop, cancel):
        verb(app, "Run")(moves)
    for before in (init, validate):
        verb(app, "Prepare")(before)
    verb(app, "Results", "report")(report_again)
    verb(app, "Results")(export)


async def run(
    here: Here, source: Source, trials: Trials = None, parallel: Parallel = None, seed: Seed = None,
    strategy: Strategy = None, name: Name = None, facility: Facility = None, with_data: WithData = None,
    baseline: Baseline = 0, with_report: WithReport = True,
) -> Exit | None:  # fmt: skip
    """Run a campaign, and show it live; at the end, write its report."""
    changes = _spec.Changes(
        trials=trials, parallel=parallel, seed=seed, strategy=strategy, name=name, facility=facility
    )
    spec = _spec.read(here, source, changes)
    async with open_app(here) as app:
        await _rehearse(here, app, spec)
        added = _data.earlier(here, app, spec, with_data) if with_data else ()
        spec = await app.create(spec, parts.app.person(), added)
        here.say(f"campaign {spec.id}")
        await _run(here, app, spec.id, 0, from_start=True)
        if baseline:
            await baselines(here, app, spec, baseline)
        await _end(here, app, spec.id, with_report)
    return Exit.DONE


async def _rehearse(here: Here, app: "parts.app.App", spec: core.CampaignSpec) -> None:
    """A dry run in a laboratory, before the first motion."""
    try:
        wrong, known = await app.rehearse(spec)
    except core.Unavailable as error:
        raise Problem(
            Exit.UNAVAILABLE, f"its laboratory cannot be reached: {error}",
            hint="Switch it on; `firstlight facility doctor NAME` looks at each instrument.",
        ) from error  # fmt: skip
    if wrong:
        raise Problem(Exit.BAD_INPUT, f"no trial could be performed: {'; '.join(wrong)}", problems=tuple(wrong))
    for line in known:
        here.warn(line)


async def resume(here: Here, id: Id, parallel: Parallel = None, with_report: WithReport = True) -> Exit | None:
    """Go on with a campaign that was paused, interrupted, or cut off by a crash."""
    async with open_app(here) as app:
        board = await find(app, id)
        holder = await app.journal.holder(id)
        if board.campaign.closed:
            raise Problem(Exit.REFUSED, f"campaign {id} is closed: {board.campaign.closed}")
        if holder and not board.campaign.paused:
            raise core.Held(id, holder)
        if board.campaign.paused:
            await ask(app, id, core.CampaignResumed())
        if holder:
            _said(here, id, "resumed", f"campaign {id} goes on, run by {holder}")
            return Exit.DONE
        if all(step.facility == core.CALLER for step in board.spec.procedure.steps):
            _said(here, id, "resumed", f"campaign {id} goes on once whoever performs its trials asks again")
            return Exit.DONE
        await _run(here, app, id, parallel or 0)
        await _end(here, app, id, with_report)
    return Exit.DONE


async def pause(here: Here, id: Id, reason: Reason = "") -> None:
    """Start no further trial; what runs goes on. `resume` goes on."""
    async with open_app(here) as app:
        await find(app, id)
        await ask(app, id, core.CampaignPaused(reason=reason))
        _said(here, id, "paused", f"campaign {id} is paused; firstlight resume {id} goes on")


async def stop(here: Here, id: Id, reason: Reason = "") -> None:
    """End a campaign: no further trial; what runs is brought to its end."""
    await _stop(here, id, core.CampaignStopped(reason=reason or "stopped"))


async def cancel(here: Here, id: Id, reason: Reason = "") -> None:
    """End a campaign, and cancel what it runs."""
    await _stop(here, id, core.CampaignStopped(reason=reason or "cancelled", cancel=True))


async def _stop(here: Here, id: str, fact: core.CampaignStopped) -> None:
    async with open_app(here) as app:
        await find(app, id)
        await ask(app, id, fact)
        board = await find(app, id)
        if not await app.journal.holder(id) and not board.campaign.closed and not board.campaign.started:
            # Nobody runs it and nothing of it runs: what is left to do takes a moment.
            await app.run(id, parts.app.runner())
            board = await find(app, id)
        closed = bool(board.campaign.closed)
        later = (
            "" if closed or await app.journal.holder(id) else f"; firstlight resume {id} brings what runs to its end"
        )
        _said(here, id, "closed" if closed else "ending", f"campaign {id} is {'closed' if closed else 'ending'}{later}")


def _said(here: Here, id: str, state: str, line: str) -> None:
    here.tell({"campaign": id, "state": state}, line)


def validate(here: Here, source: Source) -> Exit:
    """Check a campaign file, and write nothing."""
    try:
        spec = _spec.read(here, source, _spec.Changes())
    except parts.config.BadCampaign as error:
        if not here.as_json:
            raise
        here.write({"valid": False, "campaign": None, "problems": str(error).splitlines()})
        return Exit.BAD_INPUT
    goal = words.DOT.join(words.objective(o) for o in spec.goal.objectives)
    what = f"{words.plural(len(spec.parameters), 'parameter')}{words.DOT}{goal}"
    here.tell(
        {"valid": True, "campaign": spec.id, "problems": []}, f"{source} is valid: campaign {spec.id}{words.DOT}{what}"
    )
    return Exit.DONE


def init(
    here: Here, directory: Annotated[Path, typer.Argument(metavar="[DIR]", show_default=False, help="Where.")] = Path()
) -> None:
    """Write a campaign file and its function, ready to run."""
    written = [str(path) for path in parts.config.write_template(directory)]
    campaign = next(path for path in written if path.endswith((".yaml", ".yml")))
    here.tell({"written": written, "campaign": campaign}, "\n".join([*written, "", f"firstlight run {campaign}"]))


async def report_again(here: Here, id: Id, open: Open = False) -> None:
    """Write a campaign's report, as it stands now."""
    async with open_app(here) as app:
        await find(app, id)
        written = await report(app, id)
        document = {
            "campaign": id, "report": str(written.html), "figure": str(written.png),
            "why": str(written.why) if written.why else None,
        }  # fmt: skip
        here.tell(document, f"report {written.html}")
        if open:
            typer.launch(str(written.html))


async def export(here: Here, id: Id, as_: As = Format.csv, output: Output = None) -> None:
    """Write a campaign's dataset to a file."""
    async with open_app(here) as app:
        board = await find(app, id)
        path = output or Path(f"{id}.{as_.value}")
        rows = board.results.ended
        parts.catalog.export(board.spec, rows, as_.value, path)
        here.tell({"campaign": id, "file": str(path), "rows": len(rows)}, f"{path}: {words.plural(len(rows), 'trial')}")


# ------------------------------------------------------------------ the end of a run


async def _run(here: Here, app: "parts.app.App", id: str, parallel: int, *, from_start: bool = False) -> None:
    try:
        await drive(here, app, id, parallel, from_start=from_start)
    except Interrupted:
        board = await find(app, id)
        count = len(list(board.campaign.actions("dispatched", "accepted")))
        # A worker outlives its orchestrator: what it finishes meanwhile is there when the campaign is resumed.
        running = f"; {words.plural(count, 'action')} still running, to be found again" if count else ""
        here.warn(f"campaign {id} is laid down after {words.plural(board.ended, 'trial')}{running}")
        here.warn(f"go on with: firstlight resume {id}{_elsewhere(here)}")
        raise


def _elsewhere(here: Here) -> str:
    return f" --data-dir {here.data_dir}" if here.data_dir else ""


async def _end(here: Here, app: "parts.app.App", id: str, with_report: bool) -> None:
    board = await find(app, id)
    here.say(_live.summary(board))
    path = ""
    if with_report:
        try:
            path = str((await report(app, id)).html)
            here.say(f"report {path}")
        except parts.reports.MissingExtra as missing:
            here.warn(f"no report: {missing}")
    if here.as_json:
        last = board.campaign.last
        standing = campaign_document(board, "", last)
        line = {"kind": "summary", "campaign": id, "seq": board.seq, "at": last, "standing": standing, "report": path}
        here.write(line)
