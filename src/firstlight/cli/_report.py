"""After the campaign: the same problem with random points, and the report."""

import asyncio
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .. import core
from . import _parts as parts
from ._drive import interruptible
from ._output import Here, Interrupted
from ._spec import baseline


async def report(app: "parts.app.App", id: str) -> "parts.reports.Report":
    """Write the report of a campaign as its journal stands. Raises MissingExtra."""
    entries = [entry async for entry in app.journal.read(id)]
    subject = parts.reports.gather(entries)
    random = await app.baselines(await app.spec(id))
    directory: Path = app.settings.data_dir / "reports" / id
    # Figures take a second or two of computing.
    return await asyncio.to_thread(parts.reports.write_report, subject, random, directory)


async def baselines(here: Here, app: "parts.app.App", spec: core.CampaignSpec, count: int) -> None:
    """Run `count` campaigns of the same problem with random points, one after the other. Raises Interrupted."""
    columns = (TextColumn("random points, to compare"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    limit = baseline(spec, 1).goal.budget.trials
    with Progress(*columns, console=here.out, transient=True, disable=not here.live) as progress:
        task = progress.add_task("", total=count * limit if limit else None)

        def ended(entry: core.Entry, campaign: core.Campaign) -> None:
            if isinstance(entry.fact, core.TrialIngested):
                progress.advance(task)

        for number in range(1, count + 1):
            made = await app.create(baseline(spec, number), parts.app.person())
            try:
                campaign = await interruptible(here, app.run(made.id, parts.app.runner(), 0, [ended]))
            except Interrupted:
                here.warn(f"campaign {spec.id} is closed; its comparison {made.id} is laid down")
                here.warn(f"go on with: firstlight resume {made.id}; firstlight report {spec.id}")
                raise
            if here.as_json:
                here.write({"kind": "baseline", "campaign": made.id, "seq": campaign.seq, "at": campaign.last})
            elif not here.live:
                here.say(f"compared with {made.id}: {campaign.succeeded + campaign.failed} trials, {campaign.closed}")
