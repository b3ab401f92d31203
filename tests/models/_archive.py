"""A small archive as files, and a loop that learns from it."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from firstlight import core
from firstlight.catalog._export import export
from firstlight.models._family import Examples, Item
from firstlight.models._weights import write_weights
from firstlight.models.experiment import Experiment


def read(folder: Path, archive: Sequence[core.Earlier], family: Experiment) -> Examples:
    """The examples of an archive, by way of the files that campaigns are exported to."""
    folder.mkdir(exist_ok=True)
    items, files = [], []
    for e in archive:
        files.append(folder / f"{e.campaign}.parquet")
        export(e.spec, e.rows, "parquet", files[-1])
        items.append(Item(dataset=e.campaign, path="trials.parquet", digest="", size=0, group=e.campaign))
    return family.read(items, files)


def fit(
    folder: Path, family: Experiment, train: Examples, held: Examples, steps: int = 200, parent: Path | None = None,
    rate: float = 1e-2,
) -> Path:  # fmt: skip
    """A release in `folder`, after some steps."""
    torch.set_num_threads(1)
    learner = family.begin(train, held, parent, 0)
    learned = [p for n, p in learner.module.named_parameters() if n not in learner.frozen]
    optimiser, best, kept = torch.optim.Adam(learned, lr=rate), np.inf, {}
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    rng = np.random.default_rng(0)
    for step in range(steps + 1):
        if step % 20 == 0:
            with torch.no_grad():
                now = learner.validate()
            if now < best:
                best, kept = now, {n: v.detach().numpy().copy() for n, v in learner.module.state_dict().items()}
        chosen = rng.permutation(len(learner))[:24].tolist()
        optimiser.zero_grad()
        learner.loss(chosen, step).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
        schedule.step()
    folder.mkdir()
    write_weights(folder / "model.safetensors", kept)
    (folder / "config.json").write_text(json.dumps({"family": "experiment", "config": learner.config()}))
    return folder
