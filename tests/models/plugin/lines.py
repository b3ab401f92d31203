"""A family small enough to be looked through: y = w x + b with a hidden layer, learned from lines "group,x,y"."""

import hashlib
import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from firstlight.models._family import Examples, Item, Scores


class Net(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = torch.nn.Linear(1, width)
        self.drop = torch.nn.Dropout(0.1)
        self.last = torch.nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.last(self.drop(torch.tanh(self.first(x))))
        return found


class Learnable:
    mixed = False

    def __init__(self, module: Net, train: Examples, validation: Examples, family: "Lines") -> None:
        self.module, self.family = module, family
        self.frozen = frozenset(family.freeze)
        self.train, self.validation = _arrays(train), _arrays(validation)

    def __len__(self) -> int:
        return len(self.train[0])

    def loss(self, chosen: Sequence[int], seed: int) -> torch.Tensor:
        if os.environ.get("LINES_KILL") and seed % 1_000_003 == int(os.environ["LINES_KILL"]):
            os.kill(os.getpid(), signal.SIGKILL)
        if os.environ.get("LINES_WARN") and seed % 1_000_003 == int(os.environ["LINES_WARN"]):
            os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(self.family.pause)  # So that somebody can come in between.
        x, y = (a[chosen] for a in self.train)
        found: torch.Tensor = ((self.module(x) - y) ** 2).mean()
        return found

    def work(self, chosen: Sequence[int]) -> int:
        return len(chosen)

    def validate(self) -> float:
        x, y = self.validation
        return float(((self.module(x) - y) ** 2).mean())

    def config(self) -> dict[str, Any]:
        return {"width": self.family.width, "limits": ["It knows lines only."]}


class Lines:
    metric = "error"
    suffixes = (".csv",)

    def __init__(self, *, width: int = 8, freeze: Sequence[str] = (), start: str = "", pause: float = 0.0) -> None:
        self.width, self.freeze, self.start, self.pause = width, tuple(freeze), start, pause

    def read(self, items: Sequence[Item], files: Sequence[Path]) -> Examples:
        lines = sorted(line for file in files for line in file.read_text().split())
        read = [(g, float(x), float(y)) for g, x, y in (line.split(",") for line in lines)]
        keys = [hashlib.sha256(repr(r[1:]).encode()).hexdigest() for r in read]
        return Examples([r[1:] for r in read], [r[0] for r in read], keys)

    def begin(self, train: Examples, validation: Examples, parent: Path | None, seed: int) -> Learnable:
        torch.manual_seed(seed)
        net = self.load(parent) if parent else Net(self.width)
        return Learnable(net, train, validation, self)

    def load(self, folder: Path) -> Net:
        net = Net(json.loads((folder / "config.json").read_text())["config"]["width"])
        net.load_state_dict(load_file(folder / "model.safetensors"))
        return net

    def evaluate(self, folder: Path, test: Examples) -> Scores:
        x, y = _arrays(test)
        net = self.load(folder).eval()
        with torch.no_grad():
            return {"error": float(((net(x) - y) ** 2).mean()), "n": float(len(y))}

    def baselines(self, train: Examples, test: Examples) -> dict[str, Scores]:
        mean = float(_arrays(train)[1].mean())
        return {"mean": {"error": float(((_arrays(test)[1] - mean) ** 2).mean())}}

    def forgetting(self, folder: Path, parent: Path) -> Scores:
        x = torch.linspace(-3, 3, 7)[:, None]
        with torch.no_grad():
            return {"moved": float((self.load(folder).eval()(x) - self.load(parent).eval()(x)).abs().mean())}


def _arrays(examples: Examples) -> tuple[torch.Tensor, torch.Tensor]:
    values = torch.tensor(np.array(examples.items), dtype=torch.float32)
    return values[:, :1], values[:, 1:]


def write(file: Path, groups: int = 20, each: int = 10, slope: float = 2.0, seed: int = 0, first: int = 0) -> Path:
    """Lines of a noisy line."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=groups * each)
    y = slope * x + 0.5 + 0.05 * rng.normal(size=len(x))
    file.write_text("\n".join(f"g{first + i // each},{a},{b}" for i, (a, b) in enumerate(zip(x, y, strict=True))))
    return file
