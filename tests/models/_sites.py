"""Sites and a coordinator for the tests, each in a process of its own: _sites.py site|train ... ; see the end."""

import hashlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from arro3.core import Array, ChunkedArray, DataType, Field, Schema
from arro3.core import Table as Arrow
from arro3.io import write_parquet

from firstlight.models._family import Examples, Item
from firstlight.models._spec import Split
from firstlight.models._weights import write_weights
from firstlight.models.federated import Partner, Steps, Terms
from firstlight.models.table import Table

OPTIONS: dict[str, object] = {
    "target": "y", "inputs": ["t", "p"], "group": "campaign", "members": 2, "width": 8, "depth": 1,
}  # fmt: skip
STEPS = Steps(learning_rate=3e-2, weight_decay=1e-3)
TOKEN = "a-token-that-is-long-enough"


def terms(run: str, **changes: Any) -> Terms:
    return Terms(run=run, family="table", rounds=changes.pop("rounds", 6), options=OPTIONS, **changes)


def raw(site: str, groups: int = 12) -> dict[str, list[Any]]:
    draw = np.random.default_rng(int(hashlib.sha256(site.encode()).hexdigest()[:8], 16))
    n = 5 * groups
    t, p = draw.uniform(300, 500, n), draw.uniform(0, 1, n)
    y = 5 * np.sin(t / 40) + 4 * p * p + draw.normal(0, 0.2, n)
    names = [f"kestrel-{site}-{k // 5}" for k in range(n)]
    return {"campaign": names, "t": t.tolist(), "p": p.tolist(), "y": y.tolist()}


def data(site: str, folder: Path, groups: int = 12) -> tuple[list[Item], list[Path]]:
    path, columns = folder / f"{site}.parquet", raw(site, groups)
    kinds = {n: DataType.string() if isinstance(v[0], str) else DataType.float64() for n, v in columns.items()}
    arrays = [ChunkedArray([Array(v, type=kinds[n])]) for n, v in columns.items()]
    write_parquet(Arrow.from_arrays(arrays, schema=Schema([Field(n, k) for n, k in kinds.items()])), path)
    return [Item(dataset=site, path=path.name, digest="", size=0, group=site)], [path]


def examples(sites: Sequence[str], folder: Path) -> Examples:
    made = [Table(**OPTIONS).read(*data(site, folder)) for site in sites]
    return Examples(
        [i for m in made for i in m.items], [g for m in made for g in m.groups], [k for m in made for k in m.keys]
    )


def start(folder: Path) -> Path:
    """What all begin with, made from data that nobody minds telling of."""
    open_data, table = examples(["open"], folder), Table(**OPTIONS)
    learner = table.begin(open_data, open_data, None, 0)
    made = folder / "start"
    made.mkdir()
    write_weights(made / "model.safetensors", {n: v.detach().numpy() for n, v in learner.module.state_dict().items()})
    told = {"family": "firstlight.models.table:Table", "options": OPTIONS, "config": learner.config()}
    (made / "config.json").write_text(json.dumps(told))
    return made


def _site(name: str, folder: Path) -> None:
    import torch  # noqa: PLC0415

    from firstlight.models.site import Site, SiteRules, serve  # noqa: PLC0415

    torch.set_num_threads(1)
    rules = SiteRules(split=Split(validation=0.2, test=0.2))
    site = Site(
        name, folder / name, *data(name, folder), {"table": Table}, allow=lambda ask: (True, "agreed"), rules=rules
    )
    serve(site, token=TOKEN, owner_token=TOKEN[::-1], started=lambda url: print(url, flush=True))


def _train(run: str, folder: Path, kill: int, urls: Sequence[str]) -> None:
    """Killed at that reading of the clock: at the very beginning, or between the answers of a round and its end."""
    from firstlight.models.federated import train  # noqa: PLC0415

    read = 0

    def clock() -> float:
        nonlocal read
        read += 1
        if read == kill:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0.0

    partners = [Partner(name, url, TOKEN) for name, url in (told.split("=", 1) for told in urls)]
    train(terms(run), STEPS, folder / "start", partners, folder / run, clock=clock)


if __name__ == "__main__":
    what, name, where, *more = sys.argv[1:]
    if what == "site":
        _site(name, Path(where))
    else:
        _train(name, Path(where), int(more[0]), more[1:])
