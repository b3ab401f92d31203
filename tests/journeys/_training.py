"""A model of lines that is trained where a campaign's facility is, and what came of it."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from firstlight import config
from firstlight.app import App
from firstlight.catalog import Card, Record
from firstlight.models import read_spec
from firstlight.models._report import Report, read_report
from firstlight.models.work import train

SPEC: dict[str, Any] = {
    "name": "line", "family": "lines", "data": ["lines"], "licence": "CC0-1.0",
    "training": {"steps": 40, "batch": 16, "learning_rate": 0.02, "validate": 10, "average": 0.9},
}  # fmt: skip


def here(home: Path, folder: Path, lines: Path) -> bytes:
    """The weights that this process makes of the same data; they are in the catalog then."""

    async def order() -> Any:
        async with App.open(config.load_settings(home, {})) as app:
            with app.library() as library:
                card = Card(licence="CC0-1.0", training="Yes")
                library.add(Record(id="", name="lines", digest="", card=card), {"lines.csv": lines})
            spec = await app.spec(await app.training(read_spec(SPEC), "tester"))
            return spec.procedure.steps[0].settings["order"]

    made = asyncio.run(order())
    with contextlib.chdir(folder):
        train({"seed": 0}, order=made, data_0=str(lines))
    return (folder / "model.safetensors").read_bytes()


def there(
    home: Path, facility: str, seen: Callable[[list[dict[str, Any]]], None] = lambda _: None, **more: Any
) -> tuple[bytes, Report]:  # fmt: skip
    """The weights that a facility makes, and its report; `seen` is told, again and again, what it has said so far."""

    async def made() -> tuple[bytes, Report]:
        async with App.open(config.load_settings(home, {})) as app:
            id = await app.training(read_spec(SPEC | {"facility": facility} | more), "tester")
            running = asyncio.create_task(app.run(id, "tester"))
            while not running.done():
                campaign, _ = await app.state(id)
                for action in (a.action for trial in campaign.open.values() for a in trial.actions.values()):
                    await asyncio.to_thread(seen, [json.loads(line) for line in app.training_progress(action)])
                await asyncio.wait([running], timeout=0.05)
            await running
            _, ledger = await app.state(id)
            assert {span.facility for row in ledger.view().rows for span in row.spans} == {facility}
            version = await app.register(id, "tester")
            with app.models() as (_, registry):
                folder = registry.load_checked(version)
            return (folder / "model.safetensors").read_bytes(), read_report(folder)

    return asyncio.run(asyncio.wait_for(made(), 150))
