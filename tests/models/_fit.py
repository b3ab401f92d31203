"""The shortest loop that trains: all examples at once."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from firstlight.models._family import Examples, Family
from firstlight.models._weights import write_weights


def fit(
    family: Family, folder: Path, train: Examples, held: Examples, parent: Path | None, steps: int, every: int,
    told: Mapping[str, Any],
) -> Path:  # fmt: skip
    """A release in `folder`, judged every so many steps; `told` stands in its config.json besides."""
    torch.set_num_threads(1)
    learner = family.begin(train, held, parent, 0)
    learned = [p for n, p in learner.module.named_parameters() if n not in learner.frozen]
    optimiser, best, kept = torch.optim.Adam(learned, lr=5e-3), np.inf, {}
    for step in range(steps + 1):
        if step % every == 0:
            with torch.no_grad():
                now = learner.validate()
            if now < best:
                best, kept = now, {n: v.detach().numpy().copy() for n, v in learner.module.state_dict().items()}
        optimiser.zero_grad()
        learner.loss(range(len(learner)), step).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    folder.mkdir()
    write_weights(folder / "model.safetensors", kept)
    (folder / "config.json").write_text(json.dumps({**told, "config": learner.config()}))
    return folder
