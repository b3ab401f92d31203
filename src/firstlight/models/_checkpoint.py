"""What a training run leaves to go on with: tensors and JSON in one safetensors file, whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

_KEPT = 2


def write(folder: Path, step: int, tensors: dict[str, torch.Tensor], told: dict[str, Any]) -> None:
    """Keep where the run stands after a step, in tensors on the CPU. A crash in the middle leaves the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    path, part = _path(folder, step), folder / f".{step}.part"
    with part.open("wb") as file:
        file.write(save({k: t.contiguous() for k, t in tensors.items()}, {"told": json.dumps(told)}))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    for old in sorted(folder.glob("step-*.safetensors"))[:-_KEPT]:
        with contextlib.suppress(FileNotFoundError):
            old.unlink()


def newest(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """The last one that is whole, on the CPU; None where there is none."""
    for path in sorted(folder.glob("step-*.safetensors"), reverse=True):
        try:
            with safe_open(path, framework="pt") as file:
                return {k: file.get_tensor(k) for k in file.keys()}, json.loads(file.metadata()["told"])  # noqa: SIM118
        except (SafetensorError, OSError, KeyError, json.JSONDecodeError):
            continue  # A disk that lost what was synced: the one before is still a true beginning.
    return None


def _path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:012d}.safetensors"
