"""The family `experiment`: what earlier campaigns have in common, as what to expect of a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from firstlight.core import Categorical, Continuous, Parameter

from . import _incontext_net
from ._embedding import Array
from ._experiment_net import begin, matern
from ._experiment_place import ExperimentConfig, placed
from ._experiment_read import (
    ExperimentOptions,
    Known,
    Level,
    Told,
    are_words,
    of_words,
    on_scale,
    read_campaigns,
    seen_levels,
    seen_parameters,
)
from ._experiment_use import JITTER, ExperimentModel, gaussian, load_experiment
from ._family import Examples, Item, Learnable, Scores
from ._options import read_options

MOST = 96
"""Readings of a campaign that a score looks at."""
LENGTHS, NOISES = (0.2, 0.5, 1.0, 2.0, 5.0), (0.05, 0.2, 0.5)
"""Of a Gaussian process that knows nothing: all of these are as likely."""


class Experiment:
    """A Gaussian process pre-trained on earlier campaigns (HyperBO, Wang et al. 2021, arXiv 2109.08215), or a
    transformer that learns in context (a prior-data fitted network, Müller et al. 2022, arXiv 2112.10510).

    It has learned which points tend to be good, how far campaigns differ, and on which scales; a new campaign
    conditions it on its own readings. The metric is minus the log density of a reading of campaigns that it has not
    seen, in spreads of the archive (`nll`). Options are those of `ExperimentOptions`.
    """

    metric = "nll"
    suffixes = (".parquet",)

    def __init__(self, **options: object) -> None:
        self.options = read_options(ExperimentOptions, options, type(self).__name__.lower())

    def read(self, items: Sequence[Item], files: Sequence[Path]) -> Examples:
        """The campaigns among the files, an example for each observable. Raises ValueError saying which is wrong."""
        return read_campaigns(self.options, items, files)

    def begin(self, train: Examples, validation: Examples, parent: Path | None, seed: int) -> Learnable:
        """A model to train: a transformer whose parent is a Gaussian process learns from what that expects, besides.

        Raises ValueError where campaigns, or the parent, do not go together.
        """
        asked, own = self.options, None if parent is None else load_experiment(parent)
        if own and own.config.kind == "transformer" != asked.kind:
            raise ValueError("the parent is a transformer, and nothing else is made of one: set options.kind")
        campaigns: Sequence[Told] = train.items
        parameters = seen_parameters(campaigns, own.config.parameters if own else ())
        levels = seen_levels(campaigns, own.config.observables if own else ())
        count = len(set(train.groups))
        goes_on = own is not None and own.config.kind == asked.kind
        config = ExperimentConfig(
            width=own.config.width if own and goes_on else asked.width, parameters=parameters, observables=levels,
            campaigns=count + (own.config.campaigns if own else 0), kind=asked.kind,
            depth=own.config.depth if own and goes_on else asked.depth if asked.kind == "transformer" else 0,
            limits=(
                f"It has seen {count} campaigns over {', '.join(k.name for k in parameters)}.",
                "Of parameters, values and ranges that are not in them it knows nothing, and says so.",
            ),
        )  # fmt: skip
        held = _learned(levels, validation.items)
        from ._experiment_train import ExperimentLearner, Net  # noqa: PLC0415

        if asked.kind == "gp":
            net = Net(own.weights if own else begin(config.width, seed))
            return ExperimentLearner(net, config, asked.rows, campaigns, held)
        from ._incontext_train import InContextNet, drawing  # noqa: PLC0415

        weights = own.weights if own and goes_on else _incontext_net.begin(config.width, config.depth, seed)
        draw = drawing(asked.synthetic, own.weights if own and not goes_on else None)
        return ExperimentLearner(InContextNet(weights), config, asked.rows, campaigns, held, draw)

    def evaluate(self, folder: Path, test: Examples) -> Scores:
        """`nll`; how well it orders the readings of a campaign before it sees any (`order`, rank correlation); and how
        many campaigns were looked at, and how many were of observables that it has not learned (`unknown`)."""
        model = load_experiment(folder)
        known = _learned(model.config.observables, test.items)
        scores, orders = [], []
        for told in map(_first, known):
            tokens, y, extra = placed(model.config, told)
            scores.append(-model.log_density(tokens, y, extra) / len(y))
            orders.append(_correlation(model.unread(tokens), y))
        return {
            "nll": float(np.mean(scores)), "order": float(np.mean(orders)), "campaigns": float(len(known)),
            "unknown": float(len(test) - len(known)),
        }  # fmt: skip

    def baselines(self, train: Examples, test: Examples) -> dict[str, Scores]:
        """The archive's level and spread alone; and a Gaussian process that knows these and nothing of the points."""
        levels = {level.name: level for level in seen_levels(train.items)}
        parameters = {k.name: k for k in seen_parameters(train.items)}
        flat, cold = [], []
        for told in map(_first, _learned(tuple(levels.values()), test.items)):
            level = levels[told.observable]
            y = (told.values - level.level) / level.spread
            flat.append(float(0.5 * (y @ y) / len(y) + 0.5 * np.log(2 * np.pi)))
            apart = _apart(told, parameters)
            each = [gaussian(matern(apart / a**2, np) + 1.0 + np.eye(len(y)) * (b**2 + JITTER), y)
                    for a in LENGTHS for b in NOISES]  # fmt: skip
            cold.append(-float(np.logaddexp.reduce(each) - np.log(len(each))) / len(y))
        return {"level": {"nll": float(np.mean(flat))}, "cold": {"nll": float(np.mean(cold))}}

    def forgetting(self, folder: Path, parent: Path) -> Scores:
        """By how many spreads its means are others than its parent's (root mean square), where the parent has seen."""
        now, before = load_experiment(folder), load_experiment(parent)
        parameters, columns = _over(before.config.parameters)
        changes = []
        for level in before.config.observables:
            means = [m.expecting(parameters, level).mean(columns) for m in (now, before)]
            changes.append(float(np.sqrt(np.mean((means[0] - means[1]) ** 2))) / level.spread)
        return {"change": float(np.mean(changes))}

    def load(self, folder: Path) -> ExperimentModel:
        """A released model for use, which needs no torch."""
        return load_experiment(folder)


def _first(told: Told) -> Told:
    """Some readings of a campaign, in an order that does not say where an optimiser was going."""
    take = np.random.default_rng(0).permutation(min(len(told.values), MOST))
    columns = {name: [column[i] for i in take] for name, column in told.columns.items()}
    return replace(told, columns=columns, values=told.values[take], sigmas=told.sigmas[take])


def _learned(levels: Sequence[Level], campaigns: Sequence[Told]) -> list[Told]:
    """The campaigns of observables that were learned. Raises ValueError where there is none."""
    known = {(level.name, level.unit) for level in levels}
    found = [told for told in campaigns if (told.observable, told.unit) in known]
    if not found:
        names = ", ".join(sorted({told.observable for told in campaigns})) or "no campaign"
        raise ValueError(f"nothing to judge by: kept back are {names}, learned is {', '.join(x.name for x in levels)}")
    return found


def _correlation(a: Array, b: Array) -> float:
    """The correlation of the ranks (n,) of two things; 0 where one of them is the same everywhere."""
    if not np.ptp(a) or not np.ptp(b):
        return 0.0
    return float(np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1])


def _apart(told: Told, known: Mapping[str, Known]) -> Array:
    """Squared distances (n, n) between the points of a campaign, one a parameter across its range."""
    total = np.zeros((len(told.values), len(told.values)))
    for p in told.parameters:
        if (k := known.get(p.name)) is not None:
            column = told.columns[p.name]
            x = of_words(k, p, column) if are_words(p) else on_scale(k, column)[:, None]
            total += ((x[:, None] - x[None]) ** 2).sum(-1)
    return total


def _over(known: Sequence[Known]) -> tuple[list[Parameter], dict[str, Sequence[object]]]:
    """Parameters as an archive has seen them, and points all over what was tried."""
    rng, parameters, columns = np.random.default_rng(0), list[Parameter](), dict[str, Sequence[object]]()
    for k in known:
        if k.words is not None:
            parameters.append(Categorical(name=k.name, values=k.words))
            columns[k.name] = [k.words[i] for i in rng.integers(len(k.words), size=256)]
            continue
        u = k.least + (k.most - k.least) * rng.random(256)
        x = k.low + (k.high - k.low) * u
        ends = [float(np.exp(e)) if k.log else e for e in (k.low, k.high)]
        scale: Literal["log", "linear"] = "log" if k.log else "linear"
        parameters.append(Continuous(name=k.name, low=ends[0], high=ends[1], unit=k.unit, scale=scale))
        columns[k.name] = (np.exp(x) if k.log else x).tolist()
    return parameters, columns
