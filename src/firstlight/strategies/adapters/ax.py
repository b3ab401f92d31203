"""Ax behind our port: the generation strategy that its client chooses by itself."""

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from firstlight import core

from .._common import Taken, generator, space_of, unknown_options, whole_option
from .._encoding import Array, numbers_of
from .._space import Space
from ._peers import cut, excess, measured, nearest, only, proposals, ran, small, torch_alone, varied, vendor


class Ax:
    """Ax's client with its default generation strategy: the centre, Sobol points, then modular BoTorch.

    Numbers on a logarithmic scale, whole numbers, ordered and unordered choices, several objectives with thresholds,
    outcome constraints, known sigmas, sums of numbers on a linear scale and (of continuous ones) exact sums are Ax's
    own. Trials under way are running trials, failed ones are marked failed, which Ax passes over; an objective to match
    is told by its distance. Ax knows no pool, exclusion or limit on the parts of a mixture, and no descriptors: the
    free legal point nearest to its suggestion is taken. `initial` is the number of trials before the model (Ax has 5);
    `restarts` and `samples` are the starts of its optimiser (Ax's own: 20 of 1,024).
    """

    def __init__(
        self,
        *,
        initial: int | None = None,
        restarts: int | None = None,
        samples: int | None = None,
        **options: object,
    ) -> None:
        unknown_options("ax", options, ("initial", "restarts", "samples"))
        self.initial = None if initial is None else whole_option("ax", "initial", initial, 1)
        self.restarts = None if restarts is None else whole_option("ax", "restarts", restarts, 1)
        self.samples = None if samples is None else whole_option("ax", "samples", samples, 1)
        silenced = logging.root.manager.disable
        logging.disable(logging.INFO)
        try:
            # It logs that it was imported, and then every step, to the screen.
            vendor("ax", "ax").utils.common.logger.ROOT_STREAM_HANDLER.setLevel(logging.ERROR)
        finally:
            logging.disable(silenced)

    def propose(self, spec: core.CampaignSpec, results: core.Results, count: int, seed: int) -> Sequence[core.Proposal]:
        """At most `count` points; see `firstlight.core.Strategy`."""
        space, rng = space_of(spec), generator(seed)
        taken = Taken(space, results)
        if (last := only(space, taken)) is not None:
            return proposals(space, [last], "Ax: the only point left") if len(last) else []
        if space.rows is not None:
            count = min(count, len(taken.free(space.rows)))
        with torch_alone(seed, "ax"):
            warnings.simplefilter("ignore", vendor("ax.exceptions.core", "ax").AxWarning)
            client, experiment = self._client(space, results, seed)
            _tell(client, spec, results)
            try:
                found = client.get_next_trials(max_trials=count)
            except vendor("ax.exceptions.core", "ax").SearchSpaceExhausted:
                # A point that was told as its nearest neighbour may be free still.
                found = {}
        wishes = [(_raw(space, params), experiment.trials[i].generation_method_str) for i, params in found.items()]
        wishes = wishes or [(row[None], "nothing new, so at random") for row in space.sample(count, rng)]
        out: list[core.Proposal] = []
        for wish, how in wishes:
            row = nearest(space, taken, wish, rng)
            if row is None:
                break
            taken.take(row)
            out += proposals(space, [row], f"Ax: {how}")
        return out

    def _client(self, space: Space, results: core.Results, seed: int) -> tuple[Any, Any]:
        """A client with the problem set, and its experiment."""
        spec = space.spec
        core_, bounds = vendor("ax.core", "ax"), [f"c{i} <= 0" for i in range(len(spec.goal.outcome_constraints))]
        parameters = [_parameter(p, f"x{j}") for j, p in enumerate(spec.parameters) if p in varied(spec)]
        experiment = core_.Experiment(core_.SearchSpace(parameters, parameter_constraints=_sums(space)))
        client = vendor("ax.api.client", "ax").Client(random_seed=small(seed))
        client.set_experiment(experiment)
        goal = spec.goal.objectives
        if len(goal) > 1:
            worst = {k: -core.loss(o, o.threshold) for k, o in enumerate(goal) if o.threshold is not None}
            bounds += [f"y{k} >= {least!r}" for k, least in worst.items()]
        client.configure_optimization(", ".join(f"y{k}" for k in range(len(goal))), outcome_constraints=bounds)
        client.set_generation_strategy(self._strategy(spec, results))
        return client, experiment

    def _strategy(self, spec: core.CampaignSpec, results: core.Results) -> Any:
        """The generation strategy that Ax would be at after these results, had it made them itself.

        A new one that begins with the centre makes a Sobol point next, however many trials there are, and its sequence
        begins anew.
        """
        dispatch = vendor("ax.api.utils.generation_strategy_dispatch", "ax").choose_generation_strategy
        struct = vendor("ax.api.utils.structs", "ax").GenerationStrategyDispatchStruct
        done = len(results.rows) + len(results.pending)
        chosen = dispatch(
            struct(
                initialization_budget=self.initial,
                initialization_random_seed=small(spec.seed),
                initialize_with_center=not done,
                # Where more trials run at once than it begins with, Ax would raise an error until they have ended.
                allow_exceeding_initialization_budget=True,
            )
        )
        told = {"num_restarts": self.restarts, "raw_samples": self.samples}
        optimizer = {name: value for name, value in told.items() if value is not None}
        for name, node in chosen.nodes_by_name.items():
            for generator_spec in getattr(node, "generator_specs", ()):
                if name == "Sobol":
                    generator_spec.generator_kwargs["init_position"] = done
                elif optimizer:
                    generator_spec.generator_gen_kwargs["model_gen_options"] = {"optimizer_kwargs": optimizer}
        return chosen


def _parameter(p: core.Parameter, name: str) -> Any:
    configs = vendor("ax.api.configs", "ax")
    made = vendor("ax.api.utils.instantiation.from_config", "ax").parameter_from_config
    if isinstance(p, core.Continuous | core.Integer):
        kind = "int" if isinstance(p, core.Integer) else "float"
        return made(configs.RangeParameterConfig(name, (p.low, p.high), kind, scaling=p.scale))
    if isinstance(p, core.Categorical):
        return made(configs.ChoiceParameterConfig(name, list(p.values), "str", is_ordered=False))
    numbers = numbers_of(p)
    if numbers is None:
        ranks = list(range(len(p.values)))
        return made(configs.ChoiceParameterConfig(name, ranks, "int", is_ordered=True))
    return made(configs.ChoiceParameterConfig(name, numbers.tolist(), "float", is_ordered=True))


def _params(spec: core.CampaignSpec, point: core.Point) -> dict[str, core.Scalar]:
    """A point as Ax's parameters."""
    out: dict[str, core.Scalar] = {}
    for j, p in enumerate(spec.parameters):
        if p in varied(spec):
            value = point[p.name]
            if isinstance(p, core.Ordered):
                value = p.values.index(value) if numbers_of(p) is None else float(value)
            out[f"x{j}"] = value
    return out


def _raw(space: Space, params: dict[str, Any]) -> Array:
    """Ax's parameters as a raw row (1, d)."""
    wish = space.encoding.low.copy()
    for j, p in enumerate(space.encoding.parameters):
        if f"x{j}" in params:
            value = params[f"x{j}"]
            if isinstance(p, core.Categorical):
                value = p.values.index(value)
            elif (numbers := numbers_of(p)) is not None:
                value = int(np.argmin(np.abs(numbers - value)))
            wish[j] = value
    return np.array([wish])


def _sums(space: Space) -> list[Any]:
    """The constraints on sums that Ax can keep: of numbers on a linear scale, and exact ones of continuous ones."""
    e, found, choices = space.encoding, [], space.choices
    constraint = vendor("ax.core.parameter_constraint", "ax").ParameterConstraint
    for row, lower, upper in zip(choices.rows, choices.lower, choices.upper, strict=True):
        used = [j for j in np.flatnonzero(row) if e.high[j] > e.low[j]]
        equal = lower == upper
        kinds = core.Continuous if equal else core.Continuous | core.Integer
        if space.rows is not None or not used or any(e.log[j] or not isinstance(e.parameters[j], kinds) for j in used):
            continue
        settled = sum(row[j] * e.low[j] for j in np.flatnonzero(row) if j not in used)
        total = " + ".join(f"{float(row[j])!r} * x{j}" for j in used)
        if equal:
            found.append(constraint(equality=f"{total} == {float(upper - settled)!r}"))
            continue
        if np.isfinite(lower):
            found.append(constraint(inequality=f"{total} >= {float(lower - settled)!r}"))
        if np.isfinite(upper):
            found.append(constraint(inequality=f"{total} <= {float(upper - settled)!r}"))
    return found


def _tell(client: Any, spec: core.CampaignSpec, results: core.Results) -> None:
    """Every trial, in its order, and those under way."""
    seen = [measured(spec, row) for row in results.rows]
    goal = spec.goal
    known = [s for s in seen if s]
    noisy = {o.observable: all(s[o.observable].sigma > 0 for s in known) for o in goal.objectives}
    for row, found in zip(results.rows, seen, strict=True):
        point = ran(spec, row)
        if point is None:
            continue
        index = client.attach_trial(_params(spec, point))
        if found is None:
            client.mark_trial_failed(index)
            continue
        data: dict[str, Any] = {}
        for k, o in enumerate(goal.objectives):
            gain = -core.loss(o, cut(found[o.observable].value))
            data[f"y{k}"] = (gain, found[o.observable].sigma) if noisy[o.observable] else gain
        data |= {f"c{i}": cut(excess(c, found)) for i, c in enumerate(goal.outcome_constraints)}
        client.complete_trial(index, raw_data=data)
    for row in results.pending.values():
        if (point := ran(spec, row)) is not None:
            client.attach_trial(_params(spec, point))
