"""Where tensors are: the one place in which a device is chosen, and tensors that follow a module to its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

BACKENDS = {"cuda": "nccl", "xpu": "xccl"}
"""Kinds of accelerators (NVIDIA's and AMD's are both "cuda", "xpu" are Intel's) and what their processes talk with."""
_ROOM = 0.25
"""The part of what is free on a device that data may take: the rest is for weights and activations."""


def device(local: int = 0) -> torch.device:
    """An accelerator where there is one, the n-th for the n-th process of a node; else the CPU."""
    for kind in BACKENDS:
        found = getattr(torch, kind)
        if found.is_available():
            return torch.device(kind, local % found.device_count())
    return torch.device("cpu")


def device_of(module: torch.nn.Module) -> torch.device:
    """Where the parameters of a module are."""
    return next(module.parameters()).device


def quick_in_bf16(device: torch.device) -> bool:
    """Whether matrices are multiplied more quickly in bf16 than in float32.

    It is asked of the machine, never measured, so that each attempt of a run on such machines finds the same. Of CPUs
    these are the ones with tiles (AMX): others take many times as long (`benchmarks/train.py` says what it is here).
    """
    if device.type == "cpu":
        known: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # Older ones of torch do not tell.
        return bool(known.get("amx_bf16", False))
    return device.type == "xpu" or (device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False))


class Data:
    """Tensors with an entry an example. They go where the module is once and stay there, where they fit; of others
    those that are taken go each time."""

    def __init__(self, *tensors: torch.Tensor) -> None:
        self._tensors = tensors

    def __len__(self) -> int:
        return len(self._tensors[0])

    def take(self, chosen: Sequence[int], module: torch.nn.Module) -> tuple[torch.Tensor, ...]:
        """The entries of these examples, on the device of the module."""
        there = device_of(module)
        if self._tensors[0].device != there and self._fits(there):
            self._tensors = tuple(t.to(there) for t in self._tensors)
        at = torch.as_tensor(chosen, dtype=torch.long).to(self._tensors[0].device)
        return tuple(t[at].to(there) for t in self._tensors)

    def _fits(self, device: torch.device) -> bool:
        if device.type != "cuda":
            return True
        return sum(t.nbytes for t in self._tensors) <= _ROOM * torch.cuda.mem_get_info(device)[0]
