"""A device that is not the CPU, on any machine: what is on "meta" has a value after all, kept aside.

Unlike "meta" it refuses what a GPU refuses: an operation on tensors of two devices.
"""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode  # (there is no other way to see every operation)
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
_ACROSS = ("aten::_to_copy", "aten::copy_", "aten::index.")
"""Operations that may have tensors of two devices."""


class Elsewhere(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Performs every operation on the values, too; `moved` counts the bytes that come from the CPU."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.moved = 0
        self._made = _Made()
        # The storage on "meta" (which lives as long as this does, so that its number is nobody else's), and the real.
        self._kept: dict[int, tuple[Any, Any]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        wanted = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        here = [t for t in tensors if t.device != DEVICE]
        if len(here) == len(tensors) and wanted != DEVICE:
            return function(*args, **kwargs)
        if str(function._schema).startswith(_ACROSS):
            self.moved += sum(t.nbytes for t in here)
        else:
            assert not any(t.ndim for t in here), f"{function} has tensors on {[str(t.device) for t in tensors]}"
        own, named = tree_map(self._value, (args, kwargs))
        value = function(*own, **(named | ({"device": torch.device("cpu")} if wanted else {})))
        if (wanted or DEVICE) != DEVICE or not any(isinstance(v, torch.Tensor) for v in tree_leaves(value)):
            return value  # It is wanted here, or a number for which somebody waits.
        try:
            made = function(*args, **kwargs)
        except NotImplementedError:  # Its shape depends on the values.
            made = tree_map(lambda v: torch.empty_like(v, device=DEVICE) if isinstance(v, torch.Tensor) else v, value)
        for shadow, real in zip(tree_leaves(made), tree_leaves(value), strict=True):
            if isinstance(shadow, torch.Tensor):
                self._keep(shadow, real)
        return made

    def __enter__(self) -> "Elsewhere":
        self._made.__enter__()  # type: ignore[no-untyped-call]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *why: Any) -> None:
        super().__exit__(*why)  # type: ignore[no-untyped-call]
        self._made.__exit__(*why)  # type: ignore[no-untyped-call]

    def _value(self, argument: Any) -> Any:
        if not isinstance(argument, torch.Tensor) or argument.device != DEVICE:
            return argument
        real = self._kept[argument.untyped_storage()._cdata][1]
        made = torch.empty(0, dtype=argument.dtype)
        return made.set_(real, argument.storage_offset(), argument.size(), argument.stride())

    def _keep(self, shadow: torch.Tensor, real: torch.Tensor) -> None:
        storage = shadow.untyped_storage()
        if storage._cdata not in self._kept:  # Else it is a view, or was changed in place.
            laid = torch.empty_strided(shadow.size(), shadow.stride(), dtype=real.dtype)
            self._kept[storage._cdata] = storage, laid.copy_(real).untyped_storage()


class _Made(TorchFunctionMode):
    """What is made of numbers is made here and goes there: no operation tells of `torch.tensor(..., device=...)`."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            there = kwargs["device"]
            numbers = tree_map(lambda a: a.item() if isinstance(a, torch.Tensor) and not a.ndim else a, args)
            return function(*numbers, **(kwargs | {"device": None})).to(there)
        return function(*args, **kwargs)
