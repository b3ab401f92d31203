"""A campaign whose journal is a real PostgreSQL server, with a person elsewhere who answers."""

import asyncio
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from firstlight import config, core
from firstlight.app import App
from firstlight.testing.journal import postgres_server
from firstlight.testing.world import a_spec

EXPERIMENT = "def measure(point):\n    return 1 - abs(point['x'] - 0.6)\n"


def test_two_campaigns_share_a_server_and_a_person_elsewhere_approves(tmp_path: Path) -> None:
    (tmp_path / "experiment.py").write_text(EXPERIMENT)
    settings: dict[str, object] = {"directory": str(tmp_path)}
    step = core.StepSpec(operation="experiment:measure", settings=settings)
    careful = core.StepSpec(operation="experiment:measure", settings=settings, approval="Is the hood closed?")

    async def story(url: str) -> None:
        here = config.load_settings(tmp_path / "here", {"FIRSTLIGHT_JOURNAL": url})
        elsewhere = config.load_settings(tmp_path / "elsewhere", {"FIRSTLIGHT_JOURNAL": url})
        async with App.open(here) as runner, App.open(elsewhere) as person:
            budget = core.Goal(
                objectives=(core.Objective(observable="y", direction="maximize"),), budget=core.Budget(trials=4)
            )
            specs = [
                await runner.create(
                    a_spec(id=id, goal=budget, procedure=core.ProcedureSpec(steps=(s,)), parallel=2), "ada"
                )
                for id, s in (("free", step), ("careful", careful))
            ]
            running = [asyncio.create_task(runner.run(s.id, "ada")) for s in specs]
            while not running[1].done():
                campaign, _ = await person.state("careful")
                for state in campaign.actions("escalated"):
                    await person.request("careful", core.ActionApproved(action=state.action.id), "grace")
                await asyncio.sleep(0.02)
            assert [(await r).closed for r in running] == ["trials spent", "trials spent"]
            approvals = [e.by async for e in person.journal.read("careful") if isinstance(e.fact, core.ActionApproved)]
            assert approvals == ["grace"] * 4
            assert sorted(await person.journal.campaigns()) == ["careful", "free"]

    with postgres_server() as address:
        given = conninfo_to_dict(address)
        url = f"postgresql://{given['user']}@/postgres?host={given['host']}"
        asyncio.run(asyncio.wait_for(story(url), 60))
