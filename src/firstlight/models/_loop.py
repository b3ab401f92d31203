"""The loop that trains a module: the same run in one piece, after a crash, and in any number of processes.

Nothing is drawn but from the seed and the number of the step, so all that a run has to remember are its tensors.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from . import _checkpoint
from ._device import quick_in_bf16
from ._energy import Meter
from ._family import Learnable
from ._spec import Training
from ._workers import Workers

State = dict[str, torch.Tensor]
Report = Callable[[Mapping[str, Any]], None]

_BETAS, _EPSILON = (0.9, 0.999), 1e-8


class Interrupted(Exception):
    """It was asked to stop (SIGUSR1: its time is nearly over), and has saved what is needed to go on."""


class Diverged(Exception):
    """The loss is not a number any more."""


class Unchanged(Exception):
    """Parameters that were to be trained came out as they went in, or frozen ones did not."""


@dataclass(frozen=True)
class Seen:
    """Where a run stood when it was judged: the loss since the last time (nan at the start), and on the validation."""

    step: int
    loss: float
    validation: float


@dataclass
class Trained:
    """What came of it: the best weights on the validation (those averaged, where there is an average), the whole curve,
    what it took over all attempts, and how many numbers were trained and were frozen."""

    weights: State
    curve: list[Seen]
    best: Seen
    seconds: float = 0.0
    joules: float = 0.0
    energy_source: str = ""
    work: int = 0
    trained: int = 0
    frozen: int = 0
    attempts: int = 1
    precision: str = "float32"


@dataclass
class _Run:
    """All that a run remembers."""

    step: int = 0
    average: State = field(default_factory=dict)
    best: State = field(default_factory=dict)
    best_at: int = 0
    curve: list[Seen] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    joules: float = 0.0
    work: int = 0
    attempts: int = 0


def train(
    learnable: Learnable, how: Training, workers: Workers, folder: Path | None = None, report: Report | None = None,
    order: str = "", warnings: Sequence[int] = (),
) -> Trained:  # fmt: skip
    """Train, judging and saving every `how.validate` steps; what `folder` holds of this `order` is gone on with.

    Once there is something in `warnings` it saves after the step and raises Interrupted. Raises
    Diverged, Unchanged.
    """
    module = learnable.module.to(workers.device)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in learnable.frozen)
    begun = {name: p.detach().to("cpu", copy=True) for name, p in module.named_parameters()}
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not trained:
        raise Unchanged("every parameter is frozen: there is nothing to train")
    optimiser = torch.optim.AdamW(
        trained.values(), lr=how.learning_rate, betas=_BETAS, eps=_EPSILON, weight_decay=how.weight_decay
    )
    run = _Run(average={k: p.detach().clone() for k, p in trained.items()} if how.average else {})
    if folder is not None:
        _take_up(run, module, trained, optimiser, folder, order, how)
    run.attempts += 1
    mixed = _mixed(how, learnable, workers.device)
    meter, before = Meter(workers.device), (run.seconds, run.joules)
    if not run.curve:
        _judge(run, learnable, trained, module, workers)
    while run.step < how.steps and not _patience_over(run, how):
        stop = _step(run, learnable, trained, optimiser, how, workers, mixed, warnings)
        judged = run.step % how.validate == 0 or run.step == how.steps
        if judged:
            _judge(run, learnable, trained, module, workers)
            if not math.isfinite(run.curve[-1].validation):
                raise Diverged(f"at step {run.step} the error on the validation is {run.curve[-1].validation}")
        if judged or stop:
            run.seconds, run.joules = (a + b for a, b in zip(before, meter.read(), strict=True))
            if workers.rank == 0:
                if folder is not None:
                    _save(run, module, trained, optimiser, folder, order)
                if report is not None and judged:
                    report(_progress(run, how, meter))
        if stop:
            raise Interrupted(f"it stopped at step {run.step} of {how.steps}, to go on later")
    _check(run, module, begun, learnable.frozen)
    seconds, joules = (a + b for a, b in zip(before, meter.read(), strict=True))
    totals = workers.summed(torch.tensor([joules], device=workers.device, dtype=torch.float64))
    return Trained(
        weights=run.best, curve=run.curve, best=next(s for s in run.curve if s.step == run.best_at),
        seconds=seconds, joules=float(totals), energy_source=meter.source, work=run.work,
        trained=sum(p.numel() for p in trained.values()),
        frozen=sum(p.numel() for n, p in begun.items() if n in learnable.frozen),
        attempts=run.attempts, precision="bf16" if mixed else "float32",
    )  # fmt: skip


# ------------------------------------------------------------------ one step


def batch_of(size: int, batch: int, step: int, seed: int) -> list[int]:
    """The examples of a step (from 0): a stream of whole passes, each in an order of its own, cut into batches."""
    first, found = step * batch, list[int]()
    while len(found) < batch:
        at = first + len(found)
        passed, start = divmod(at, size)
        found += _order(size, passed, seed)[start : start + batch - len(found)].tolist()
    return found


@lru_cache(maxsize=2)
def _order(size: int, passed: int, seed: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, passed]).permutation(size)


def _step(
    run: _Run, learnable: Learnable, trained: Mapping[str, torch.nn.Parameter], optimiser: torch.optim.Optimizer,
    how: Training, workers: Workers, mixed: bool, warnings: Sequence[int],
) -> bool:  # fmt: skip
    """One step of all processes together; whether one of them was asked to stop."""
    batch = batch_of(len(learnable), min(how.batch, len(learnable)), run.step, how.seed)
    mine = workers.share(batch)
    seed = how.seed * 1_000_003 + run.step
    torch.manual_seed(seed)  # For modules that draw by themselves, as dropout does.
    for group in optimiser.param_groups:
        group["lr"] = how.learning_rate * _rate(run.step, how)
    optimiser.zero_grad(set_to_none=False)
    share = torch.zeros((), device=workers.device)
    for at in range(0, len(mine), how.at_once or len(batch)):
        piece = mine[at : at + (how.at_once or len(batch))]
        with torch.autocast(workers.device.type, dtype=torch.bfloat16) if mixed else nullcontext():
            loss = learnable.loss(piece, seed) * (len(piece) / len(batch))
        loss.backward()  # type: ignore[no-untyped-call]
        share += loss.detach()
    # The loss, how many tokens, and whether somebody has been asked to stop.
    told = torch.tensor([0.0, learnable.work(mine), len(warnings)], dtype=torch.float32, device=share.device)
    told[0] = share
    if workers.world > 1:
        told = _together(trained, told, workers)
    loss_now, work, stop = told.tolist()
    if not math.isfinite(loss_now):
        raise Diverged(f"at step {run.step + 1} the loss is {loss_now}: a lower learning_rate or clip may help")
    torch.nn.utils.clip_grad_norm_(trained.values(), how.clip)
    optimiser.step()
    run.step += 1
    run.work += round(work)
    run.losses.append(loss_now)
    if run.average:
        # Early on the average follows more quickly, or it would remember the start for long.
        stays = min(how.average, (1.0 + run.step) / (10.0 + run.step))
        follow = get_ema_multi_avg_fn(stays)  # type: ignore[no-untyped-call]
        follow(list(run.average.values()), [trained[name].detach() for name in run.average], run.step)
    return bool(stop > 0)


def _together(
    trained: Mapping[str, torch.nn.Parameter], told: torch.Tensor, workers: Workers
) -> torch.Tensor:  # fmt: skip
    """Sum the gradients of all processes, and what they tell besides, in one message."""
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in trained.values()]
    flat = workers.summed(torch.cat([*(g.reshape(-1).float() for g in gradients), told]))
    at = 0
    for parameter, gradient in zip(trained.values(), gradients, strict=True):
        parameter.grad = flat[at : at + gradient.numel()].view_as(gradient).to(gradient.dtype)
        at += gradient.numel()
    return flat[at:]


def _rate(step: int, how: Training) -> float:
    """The part of the learning rate: up during the warm-up, then down along a cosine to nothing."""
    if step < how.warmup:
        return (step + 1) / how.warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - how.warmup) / max(1, how.steps - how.warmup)))


def _mixed(how: Training, learnable: Learnable, device: torch.device) -> bool:
    """Whether the forward pass is in bf16: where it is asked for, or helps and the module bears it."""
    if how.precision != "auto":
        return how.precision == "bf16"
    return learnable.mixed and quick_in_bf16(device)


# ------------------------------------------------------------------ judging


def _judge(
    run: _Run, learnable: Learnable, trained: Mapping[str, torch.nn.Parameter], module: torch.nn.Module,
    workers: Workers,
) -> None:  # fmt: skip
    """The error on the validation, with the averaged weights where there are any; the best are kept."""
    with _averaged(run, trained), torch.no_grad():
        module.eval()
        # The mean of all processes, lest one of them thinks, for a last bit, that it is over and others wait for it.
        own = torch.tensor(float(learnable.validate()), device=workers.device, dtype=torch.float64)
        validation = float(workers.summed(own)) / workers.world
        module.train()
        loss = float(np.mean(run.losses)) if run.losses else math.nan
        run.losses.clear()
        run.curve.append(Seen(run.step, loss, validation))
        best = min((s.validation for s in run.curve[:-1] if math.isfinite(s.validation)), default=math.inf)
        if validation < best:
            run.best_at = run.step
            run.best = {k: t.detach().cpu().clone() for k, t in module.state_dict().items()}


@contextmanager
def _averaged(run: _Run, trained: Mapping[str, torch.nn.Parameter]) -> Iterator[None]:
    if not run.average:
        yield
        return
    own = {name: p.detach().clone() for name, p in trained.items()}
    with torch.no_grad():
        for name, average in run.average.items():
            trained[name].copy_(average)
        yield
        for name, kept in own.items():
            trained[name].copy_(kept)


def _patience_over(run: _Run, how: Training) -> bool:
    return how.patience is not None and sum(s.step > run.best_at for s in run.curve) >= how.patience


def _check(run: _Run, module: torch.nn.Module, begun: State, frozen: frozenset[str]) -> None:
    """What was to be trained has changed, and nothing else has: a layer that was forgotten is no detail."""
    now = dict(module.named_parameters())
    if unknown := sorted(frozen - now.keys()):
        raise Unchanged(f"there are no parameters {', '.join(unknown)} to freeze")
    same = {name for name, before in begun.items() if torch.equal(before, now[name].detach().cpu())}
    if idle := sorted(same - frozen):
        raise Unchanged(f"{', '.join(idle[:5])} did not change in {run.step} steps: nothing of the loss depends on it")
    if moved := sorted(frozen - same):
        raise Unchanged(f"{', '.join(moved[:5])} changed, though frozen")


def _progress(run: _Run, how: Training, meter: Meter) -> dict[str, Any]:
    last, here = run.curve[-1], meter.read()[0]
    done = run.step / how.steps
    return {
        "step": run.step, "steps": how.steps, "loss": last.loss, "validation": last.validation,
        "best": next(s.validation for s in run.curve if s.step == run.best_at), "best_step": run.best_at,
        "seconds": run.seconds, "left": run.seconds * (1.0 / done - 1.0), "work": run.work,
        "rate": run.work / max(run.seconds, here, 1e-9), "at": time.time(),
    }  # fmt: skip


# ------------------------------------------------------------------ going on


def _save(
    run: _Run, module: torch.nn.Module, trained: Mapping[str, torch.nn.Parameter], optimiser: torch.optim.Optimizer,
    folder: Path, order: str,
) -> None:  # fmt: skip
    tensors: State = {f"model/{k}": t for k, t in module.state_dict().items()}
    tensors |= {f"average/{k}": t for k, t in run.average.items()}
    tensors |= {f"best/{k}": t for k, t in run.best.items()}
    for name, parameter in trained.items():
        state = optimiser.state.get(parameter, {})
        tensors |= {f"adam/{key}/{name}": state[key] for key in ("step", "exp_avg", "exp_avg_sq") if key in state}
    told = {
        "order": order, "step": run.step, "best_at": run.best_at, "losses": run.losses, "seconds": run.seconds,
        "joules": run.joules, "work": run.work, "attempts": run.attempts,
        "curve": [[s.step, None if math.isnan(s.loss) else s.loss, s.validation] for s in run.curve],
    }  # fmt: skip
    # Tied weights are one tensor in memory, and the format wants each by itself.
    _checkpoint.write(folder, run.step, {k: t.detach().to("cpu", copy=True) for k, t in tensors.items()}, told)


def _take_up(
    run: _Run, module: torch.nn.Module, trained: Mapping[str, torch.nn.Parameter], optimiser: torch.optim.Optimizer,
    folder: Path, order: str, how: Training,
) -> None:  # fmt: skip
    found = _checkpoint.newest(folder)
    if found is None or found[1]["order"] != order:
        return  # Nothing is there, or it is of something else: of the same action with other data, say.
    tensors, told = found
    device = next(iter(trained.values())).device

    def below(prefix: str) -> State:
        return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}

    module.load_state_dict(below("model/"))
    run.average = {k: t.to(device) for k, t in below("average/").items()}
    run.best = below("best/")
    moments = {key: below(f"adam/{key}/") for key in ("step", "exp_avg", "exp_avg_sq")}
    for name, parameter in trained.items():
        if name in moments["step"]:
            state = {key: of[name].to(device) for key, of in moments.items()}
            optimiser.state[parameter] = state | {"step": moments["step"][name]}  # The count stays on the CPU.
    run.step, run.best_at, run.losses = told["step"], told["best_at"], told["losses"]
    run.seconds, run.joules, run.work, run.attempts = (told[k] for k in ("seconds", "joules", "work", "attempts"))
    run.curve = [Seen(step, math.nan if loss is None else loss, validation) for step, loss, validation in told["curve"]]
