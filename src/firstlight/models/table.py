"""The family `table`: properties predicted from the columns of a table, with calibrated uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ._family import Examples, Item, Scores
from ._options import read_options
from ._table_encode import Array, Input, answers, fit_inputs, lines_encoded
from ._table_read import Line, TableOptions, read_tables
from ._table_scores import baselines, scores
from ._table_use import REFERENCES, TableConfig, TableModel, Target, load_table, nearest, spread_out

if TYPE_CHECKING:
    from ._table_net import TableLearner

SLACK = 1.5
"""A point is familiar up to so many times the distance within which 99 % of what was learned from lie."""


class Table:
    """Property models over tables: an ensemble of small networks, calibrated on what it did not learn from.

    The metric is the CRPS: it asks for a good mean and an honest deviation at once, and one bold error does not decide
    it, as it does the likelihood. Options are those of `TableOptions`.
    """

    metric = "crps"
    suffixes = (".parquet",)

    def __init__(self, **options: object) -> None:
        self.options = read_options(TableOptions, options, type(self).__name__.lower())

    def read(self, items: Sequence[Item], files: Sequence[Path]) -> Examples:
        """The rows of the Parquet tables among the files. Raises ValueError saying what is wrong, and where."""
        return read_tables(self.options, items, files)

    def begin(self, train: Examples, validation: Examples, parent: Path | None, seed: int) -> TableLearner:
        """An ensemble to train. Raises ValueError where the parent predicts other things or from other columns."""
        import torch  # noqa: PLC0415

        from ._table_net import Ensemble, TableLearner, begin_stage, stage_from  # noqa: PLC0415

        told, own = self.options, None if parent is None else load_table(parent)
        if own is None and told.finetune:
            raise ValueError(f"finetune: {told.finetune!r} asks for a parent, and there is none")
        lines: Sequence[Line] = train.items
        inputs = fit_inputs(lines) if own is None else _known(own, lines)
        x, y = lines_encoded(inputs, lines), answers(lines)
        targets = _targets(lines, y) if own is None else own.config.targets
        width = x.shape[1]
        stages = [] if own is None else [stage_from(own.weights, k) for k in range(own.config.stages)]
        members = told.members if own is None else own.config.members
        kept = len(stages) if told.finetune == "correction" else 0
        if own is None or kept:
            more = width + (len(targets) if kept else 0)
            stages.append(begin_stage(members, more, told.width, told.depth, len(targets), seed))
        references, near = _references(x, own)
        module = Ensemble(stages, torch.tensor(references, dtype=torch.float32), len(targets))
        frozen = frozenset(n for n, _ in module.named_parameters() if int(n.split(".")[1]) < kept)
        limits = (
            f"it answers for what lies near {len(references)} points learned from; a row takes about 1 kB of memory"
        )
        config = TableConfig(
            inputs=inputs, targets=targets, members=members, stages=len(stages), near=near, rows=len(lines),
            limits=(limits,),
        )  # fmt: skip
        held: Sequence[Line] = validation.items
        judged = lines_encoded(inputs, held), _scaled(targets, answers(held))
        return TableLearner(module, frozen, config, (x, _scaled(targets, y)), judged)

    def evaluate(self, folder: Path, test: Examples) -> Scores:
        """Scores on rows that it has not seen (see `scores`), and how many of them it finds familiar."""
        model, lines = load_table(folder), test.items
        names = lines[0].sheet.inputs
        columns = {name: [line.cells[j] for line in lines] for j, name in enumerate(names)}
        mean, deviation, familiar = model.predict_table(columns)
        y = answers(lines)
        made = scores(y, mean.reshape(y.shape), deviation.reshape(y.shape), model.observables)
        return made | {"familiar": float(familiar.mean())}

    def baselines(self, train: Examples, test: Examples) -> dict[str, Scores]:
        """The mean, ridge regression, a random forest and a Gaussian process. It needs scikit-learn."""
        inputs = fit_inputs(train.items)
        x, asked = lines_encoded(inputs, train.items), lines_encoded(inputs, test.items)
        return dict(baselines(x, answers(train.items), asked, train.items[0].sheet.targets, answers(test.items)))

    def forgetting(self, folder: Path, parent: Path) -> Scores:
        """How much its means are others than its parent's (`change`, root mean square, in deviations of the targets)
        at points of what the parent learned from."""
        now, before = load_table(folder), load_table(parent)
        x = before.weights["references"].astype(float)
        return {"change": float(np.sqrt(np.mean((now.believed(x)[0] - before.believed(x)[0]) ** 2)))}

    def load(self, folder: Path) -> TableModel:
        """A released model for use, which needs no torch."""
        return load_table(folder)


def _targets(lines: Sequence[Line], y: Array) -> tuple[Target, ...]:
    sheet = lines[0].sheet
    made = []
    for j, name in enumerate(sheet.targets):
        seen = y[~np.isnan(y[:, j]), j]
        if not len(seen):
            raise ValueError(f"target: {name!r} has no value in the part that is learned from")
        made.append(Target(
            name=name, unit=sheet.units.get(name, ""), mean=float(seen.mean()), deviation=float(seen.std()) or 1.0
        ))  # fmt: skip
    return tuple(made)


def _scaled(targets: Sequence[Target], y: Array) -> Array:
    return np.asarray((y - np.array([t.mean for t in targets])) / np.array([t.deviation for t in targets]))


def _known(parent: TableModel, lines: Sequence[Line]) -> tuple[Input, ...]:
    """The parent's inputs, widened to what these rows have. Raises ValueError where they are not these rows'."""
    sheet = lines[0].sheet
    if sheet.targets != parent.observables:
        raise ValueError(f"the parent predicts {', '.join(parent.observables)}, not {', '.join(sheet.targets)}")
    if sorted(sheet.inputs) != sorted(i.name for i in parent.config.inputs):
        raise ValueError(
            f"the parent predicts from {', '.join(i.name for i in parent.config.inputs)}, not {', '.join(sheet.inputs)}"
        )
    units = {n: u for n, u in sheet.units.items() if u != parent.units[n]}
    if units:
        name = min(units)
        raise ValueError(
            f"{name!r} is in {units[name] or 'no unit'}, and the parent has it in {parent.units[name] or 'none'}"
        )
    own = {i.name: i for i in fit_inputs(lines)}
    made = []
    for before in parent.config.inputs:
        new = own[before.name]
        if before.words != new.words or set(new.values) - set(before.values):
            strange = (
                ", ".join(sorted(set(new.values) - set(before.values))[:5]) or "numbers for words, or words for numbers"
            )
            raise ValueError(f"{before.name!r} has what the parent does not know: {strange}")
        if new.gaps and not before.gaps:
            raise ValueError(f"{before.name!r} has gaps, and the parent knows none there")
        made.append(before if before.words else _wider(before, new))
    return tuple(made)


def _wider(before: Input, new: Input) -> Input:
    from msgspec.structs import replace  # noqa: PLC0415

    low, high = (np.log10([10.0**v if new.log else v for v in (new.low, new.high)])
                 if before.log and not new.log else (new.low, new.high))  # fmt: skip
    return replace(before, low=min(before.low, float(low)), high=max(before.high, float(high)))


def _references(x: Array, parent: TableModel | None) -> tuple[Array, float]:
    """Points by which others are told to be familiar, and how near to one of them they must be."""
    own = x[spread_out(x, REFERENCES)]
    if parent is not None:
        before = parent.weights["references"].astype(float)
        return np.concatenate([before, own]), parent.config.near
    if 2 * len(own) <= len(x):
        # Where nearly all are references themselves, their distance of nothing would decide.
        apart = nearest(x, own)
    else:
        apart = np.array(
            [nearest(own[k : k + 1], np.delete(own, k, 0))[0] for k in range(len(own))] if len(own) > 1 else [1.0]
        )
    return own, SLACK * max(float(np.quantile(apart, 0.99)), 1e-3)
