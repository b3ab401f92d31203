"""Training as an operation that a facility performs: `firstlight.models.work:train`.

It leaves `model.safetensors`, `config.json` and `report.json`, which are a release, and `curve.json` beside them.
"""

from __future__ import annotations

import hashlib
import json
import platform
import resource
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from firstlight.core import Failed, Scalar

from ._family import Examples, Family, Inherited, Part, inherited_by
from ._release import CONFIG, WEIGHTS, inherited_of, parts_of
from ._report import REPORT, Compute, Curve, Parameters, Report, write_report
from ._spec import Order, checkpoint_folder
from ._split import mark, split
from .families import family, family_at, folder_of

CONTINUED = 75
"""EX_TEMPFAIL of sysexits.h: by which a function says that it stopped in order to go on later."""
PROGRESS = "progress.jsonl"
"""Where a run says how far it has come, in its checkpoint folder: a line of JSON each time it is judged."""
CURVE = "curve.json"
OUTPUTS = (WEIGHTS, CONFIG, REPORT, CURVE)
_SOFTWARE = ("firstlight", "torch", "numpy", "safetensors", "chgnet", "scikit-learn", "ase")


def train(
    point: Mapping[str, Scalar], *, order: Mapping[str, Any], asked: object = None, **files: str
) -> dict[str, Any]:
    """Train what an Order says, into the current folder; what is observed of it.

    Values of `point` whose names are fields of the order ("training.learning_rate", "options.width") take the place of
    what it says: so a campaign may search for the best ones. `files` are the inputs by name, `asked` is the
    specification that the order is from, for the record. Raises Failed where nothing came of it, with the reason; exits
    with 75 where it was asked to stop and can go on.
    """
    try:
        told = _with(msgspec.convert(order, Order), point)
        return _train(told, family(told.family, told.options), files)
    except (ValueError, FileNotFoundError) as error:
        raise Failed("invalid-input", str(error)) from error


def observed_as(metric: str) -> str:
    """What the observable of the score on the test is called beside that on the validation."""
    return metric if metric != "validation" else "test"


def _train(order: Order, made: Family, files: Mapping[str, str]) -> dict[str, Any]:
    here, parent, digest = Path.cwd(), _parent(files), _digest(order)
    with ExitStack() as stack:
        # From here on: a warning that comes while torch is loaded or data are read must not be lost.
        warnings = stack.enter_context(_warned())
        # The loop wants torch, and whoever only asks for the family of a release does not.
        from . import _loop  # noqa: PLC0415
        from ._workers import workers  # noqa: PLC0415

        examples = made.read(order.items, [Path(files[f"data_{n}"]) for n in range(len(order.items))])
        before = parts_of(parent) if parent else {}
        parts = split(examples, order.split, before)
        learn, validation, test = (examples.only(parts[p]) for p in ("train", "validation", "test"))
        learnable = made.begin(learn, validation, parent, order.training.seed)
        inherited = inherited_of(parent) if parent else inherited_by(made)
        crew = stack.enter_context(workers(here / ".meeting"))
        folder = checkpoint_folder()
        try:
            trained = _loop.train(learnable, order.training, crew, folder, _reporter(folder), digest, warnings)
        except _loop.Interrupted as stopped:
            print(stopped, file=sys.stderr)
            sys.exit(CONTINUED)
        except _loop.Diverged as error:
            raise Failed("did-not-converge", str(error)) from error
        except _loop.Unchanged as error:
            raise Failed("invalid-output", str(error)) from error
        if crew.rank:
            return {}
    if trained.best.step == 0:
        raise Failed(
            "did-not-converge",
            f"no step of {len(trained.curve) - 1} that were judged was better on the validation than the beginning "
            f"({trained.best.validation:.6g}): a lower learning_rate, or more steps, may help",
        )
    marks = _marks(examples, parts, before)
    _release(here, made, order, learnable.config(), trained.weights, marks, inherited)
    report = Report(
        name=order.name, family=order.family, metric=made.metric, parent=order.parent,
        scores=made.evaluate(here, test), baselines=made.baselines(learn, test),
        parent_scores=family_at(parent).evaluate(parent, test) if parent else {},
        forgetting=made.forgetting(here, parent) if parent else {},
        curve=Curve(
            steps=trained.curve[-1].step, best_step=trained.best.step, first=trained.curve[0].validation,
            best=trained.best.validation, last=trained.curve[-1].validation,
        ),
        compute=Compute(
            device=_device(crew.device), seconds=trained.seconds, device_hours=trained.seconds * crew.world / 3600.0,
            world=crew.world, tokens=trained.work, tokens_per_second=trained.work / max(trained.seconds, 1e-9),
            energy_joules=trained.joules, energy_source=trained.energy_source, memory_bytes=_memory(crew.device),
            precision=trained.precision,
        ),
        parameters=Parameters(changed=trained.trained, frozen=trained.frozen),
        parts={p: len(chosen) for p, chosen in parts.items()},
        groups={p: len({examples.groups[i] for i in chosen}) for p, chosen in parts.items()},
        software=_software(), seed=order.training.seed, order=digest, data=order.items,
        limits=tuple(learnable.config().get("limits", ())), inherited=inherited,
    )  # fmt: skip
    write_report(here, report)
    curve = [{"step": s.step, "loss": s.loss if s.step else None, "validation": s.validation} for s in trained.curve]
    (here / CURVE).write_text(json.dumps(curve))
    return {
        "validation": trained.best.validation,
        observed_as(made.metric): report.scores[made.metric],
        "device-hours": report.compute.device_hours,
    }


# ------------------------------------------------------------------ releases


def _release(
    here: Path, made: Family, order: Order, config: Mapping[str, Any], weights: Mapping[str, Any],
    parts: Mapping[str, Sequence[str]], inherited: Sequence[Inherited],
) -> None:  # fmt: skip
    from safetensors.torch import save_file  # noqa: PLC0415

    save_file({k: t.contiguous().clone() for k, t in weights.items()}, here / WEIGHTS)
    told = {
        "format": 1, "name": order.name, "family": order.family, "options": order.options, "metric": made.metric,
        "config": dict(config), "parts": parts, "inherited": msgspec.to_builtins(inherited),
    }  # fmt: skip
    (here / CONFIG).write_text(json.dumps(told, indent=1, allow_nan=False))


def _parent(files: Mapping[str, str]) -> Path | None:
    """The parent's release as a folder; None where there is none."""
    if "parent_config" not in files:
        return None
    return folder_of(Path.cwd() / "parent", Path(files["parent_config"]), Path(files["parent_weights"]))


def _marks(examples: Examples, parts: Mapping[Part, list[int]], before: Mapping[str, Part]) -> dict[str, list[str]]:
    """The marks of the groups of every part, those of the parents' data included: children keep to them."""
    now = dict(before) | {mark(examples.groups[i]): p for p, chosen in parts.items() for i in chosen}
    return {p: sorted(g for g, q in now.items() if q == p) for p in parts}


# ------------------------------------------------------------------ what is asked, and what is known of it


def _with(order: Order, point: Mapping[str, Scalar]) -> Order:
    """The order with values of the point in it. Raises ValueError where the two do not go together."""
    for name, value in point.items():
        where, dot, field = name.partition(".")
        if where == "options" and dot:
            order = replace(order, options={**order.options, field: value})
        elif where == "training" and field in order.training.__struct_fields__:
            told = msgspec.to_builtins(order.training) | {field: value}
            order = replace(order, training=msgspec.convert(told, type(order.training)))
        elif name not in ("run", "seed"):
            raise ValueError(f"{name!r} is nothing of an order: use training.<field> or options.<field>")
        elif name == "seed":
            order = replace(order, training=replace(order.training, seed=int(value)))
    return order


@contextmanager
def _warned() -> Iterator[list[int]]:
    """Fills once a batch system says that the time of this job is nearly over."""
    told: list[int] = []
    try:
        before = signal.signal(signal.SIGUSR1, lambda number, _: told.append(number))
    except ValueError:  # In a thread nobody is told anything.
        yield told
        return
    try:
        yield told
    finally:
        signal.signal(signal.SIGUSR1, before)


def _digest(order: Order) -> str:
    return hashlib.sha256(msgspec.json.encode(order, order="deterministic")).hexdigest()


def _reporter(folder: Path | None) -> Any:
    def report(told: Mapping[str, Any]) -> None:
        line = json.dumps(told)
        print(line, flush=True)
        if folder is not None:
            with (folder / PROGRESS).open("a") as file:
                file.write(line + "\n")

    return report


def _device(device: Any) -> str:
    import torch  # noqa: PLC0415

    if device.type != "cpu":
        return str(getattr(torch, device.type).get_device_name(device))
    return f"CPU {platform.machine()}, {torch.get_num_threads()} threads"


def _memory(device: Any) -> int:
    import torch  # noqa: PLC0415

    if device.type != "cpu":
        return int(getattr(torch, device.type).max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _software() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _SOFTWARE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
