"""What a coordinator does with sums of gradients: AdamW, with numpy alone, and what it needs to go on after a crash."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from firstlight.core import Value

from ._federated_log import keep
from ._federated_wire import Tensors
from ._weights import packed, read_metadata, read_weights

_FIRST, _SECOND, _EPSILON = 0.9, 0.999, 1e-8


class Steps(Value, frozen=True):
    """How the coordinator steps, a step a round: AdamW, a warm-up and a cosine down to nothing; a gradient longer than
    `clip` is shortened to it."""

    learning_rate: float = 1e-3
    warmup: int = 0
    weight_decay: float = 0.0
    clip: float = 1.0

    def __post_init__(self) -> None:
        if not self.learning_rate > 0 or self.weight_decay < 0 or not self.clip > 0 or self.warmup < 0:
            raise ValueError("learning_rate and clip must be more than 0, weight_decay and warmup at least 0")


@dataclass
class State:
    """Where a run stands: weights, moments, rounds done, and the record with which the last one was closed."""

    weights: Tensors
    first: Tensors
    second: Tensors
    round: int
    closing: dict[str, Any]


def begin_state(weights: Tensors) -> State:
    """Before the first round."""
    zeros = {n: np.zeros(t.shape, np.float64) for n, t in weights.items()}
    return State(dict(weights), zeros, {n: t.copy() for n, t in zeros.items()}, 0, {})


def stepped(state: State, gradient: Tensors, how: Steps, rounds: int) -> State:
    """After one more step of AdamW (Loshchilov and Hutter 2019), in float64; the weights stay of their kind."""
    at = state.round
    if at < how.warmup:
        part = (at + 1) / how.warmup
    else:
        part = 0.5 * (1.0 + math.cos(math.pi * (at - how.warmup) / max(1, rounds - how.warmup)))
    rate = how.learning_rate * part
    length = math.sqrt(sum(float((g**2).sum()) for g in gradient.values()))
    shorter = min(1.0, how.clip / (length + 1e-6))
    weights, first, second = Tensors(), Tensors(), Tensors()
    for name, before in state.weights.items():
        g = gradient[name] * shorter
        first[name] = _FIRST * state.first[name] + (1 - _FIRST) * g
        second[name] = _SECOND * state.second[name] + (1 - _SECOND) * g * g
        mean = first[name] / (1 - _FIRST ** (at + 1))
        deviation = np.sqrt(second[name] / (1 - _SECOND ** (at + 1)))
        new = before.astype(np.float64) * (1 - rate * how.weight_decay) - rate * mean / (deviation + _EPSILON)
        weights[name] = new.astype(before.dtype)
    return State(weights, first, second, at + 1, {})


def save_state(path: Path, state: State) -> None:
    """Keep it, whole or not at all, with the closing record of its round: the two cannot come apart."""
    tensors = {f"weights/{n}": t for n, t in state.weights.items()}
    tensors |= {f"first/{n}": t for n, t in state.first.items()} | {f"second/{n}": t for n, t in state.second.items()}
    told = json.dumps({"round": state.round, "closing": state.closing}, allow_nan=False)
    keep(path, packed(tensors, {"told": told}))


def load_state(path: Path) -> State:
    """What was kept. Raises ValueError where it is damaged."""
    try:
        tensors, said = read_weights(path), read_metadata(path)
        told = json.loads(said["told"])
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error

    def below(prefix: str) -> Tensors:
        return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

    return State(below("weights/"), below("first/"), below("second/"), told["round"], told["closing"])
