"""The processes that train one model together, and the device of each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from ._device import BACKENDS, device

_WORDS = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
    ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
)
"""How launchers (torchrun, Open MPI, MPICH, Slurm) tell a process its number, how many there are, and its number on its
node."""
_PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others: for the slowest first batch, and no longer where one has died."""


@dataclass(frozen=True)
class Workers:
    """This process among those that train together: `rank` of `world`, on its device."""

    rank: int
    world: int
    device: torch.device

    def summed(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of everyone's, in place."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def share(self, batch: list[int]) -> list[int]:
        """This process's part of a batch."""
        return batch[self.rank :: self.world]


def told(environment: Mapping[str, str]) -> tuple[int, int, int]:
    """Rank, world size and local rank, as the launcher says; alone where none does."""
    for rank, world, local in _WORDS:
        if environment.get(rank, "").isdigit() and environment.get(world, "").isdigit():
            return int(environment[rank]), int(environment[world]), int(environment.get(local) or 0)
    return 0, 1, 0


@contextmanager
def workers(meeting: Path) -> Iterator[Workers]:
    """All processes of this action (gloo on CPUs, nccl on GPUs), met where MASTER_ADDR and MASTER_PORT say, or else
    through a file that all of them see.

    `meeting` must be new for every attempt, or they would meet those that have died.
    """
    rank, world, local = told(os.environ)
    mine = device(local)
    if mine.type != "cpu":
        getattr(torch, mine.type).set_device(mine)
    if world == 1:
        yield Workers(0, 1, mine)
        return
    # Who has started many processes on many nodes may say where they meet, as torchrun does.
    met = "env://" if {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys() else f"file://{meeting.absolute()}"
    dist.init_process_group(
        BACKENDS.get(mine.type, "gloo"), init_method=met, rank=rank, world_size=world, timeout=_PATIENCE
    )
    try:
        yield Workers(rank, world, mine)
    finally:
        dist.destroy_process_group()
