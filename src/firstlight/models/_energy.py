"""What training takes: device hours and energy, measured where the machine tells, and else estimated and said to be."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import torch

_RAPL = Path("/sys/class/powercap")
WATTS_A_CORE = 10.0
"""What a busy core of a server is taken to draw where nothing measures it: 200 W over 20 cores is usual."""


class Meter:
    """Counts energy (J) and processor seconds from when it is made. `source` says where the energy is from."""

    def __init__(self, device: torch.device) -> None:
        self._gpu, self._rapl = _nvml(device), _counters()
        self._began, self._cpu, self._energy = time.perf_counter(), time.process_time(), self._read()
        self.source = (
            "NVML counter of the GPU" if self._gpu else "RAPL counters of the machine" if self._rapl
            else f"estimate: {WATTS_A_CORE:g} W for every busy core"
        )  # fmt: skip

    def read(self) -> tuple[float, float]:
        """Seconds and joules since."""
        seconds = time.perf_counter() - self._began
        if self._gpu is None and not self._rapl:
            return seconds, WATTS_A_CORE * (time.process_time() - self._cpu)
        return seconds, max(0.0, self._read() - self._energy)

    def _read(self) -> float:
        if self._gpu is not None:
            library, handle = self._gpu
            return float(library.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
        return sum(float(counter.read_text()) for counter in self._rapl) / 1e6


def _counters() -> list[Path]:
    """The counters of whole processors that may be read (they are for root on most machines)."""
    found = []
    for counter in _RAPL.glob("intel-rapl:?/energy_uj"):
        with contextlib.suppress(OSError, ValueError):
            float(counter.read_text())
            found.append(counter)
    return found


def _nvml(device: torch.device) -> tuple[Any, Any] | None:
    """NVIDIA's management library and a handle of the device; None where either is missing."""
    if device.type != "cuda":
        return None
    try:
        import pynvml  # noqa: PLC0415 (it is there only beside GPUs)
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return None
    return pynvml, handle
