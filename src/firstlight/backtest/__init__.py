"""Back-test: let strategies run on experiments whose outcomes are known, and say which to choose."""

from ._compare import AIM, Cell, Comparison, Duel, Reached, compare, top_curves
from ._contenders import contenders
from ._crew import Broken, Task, perform, relabelled, tasks
from ._factors import Estimate, Times, acceleration, digits, median_trials, over_pools, ratio, said, times, within
from ._hypervolume import hypervolume, shares
from ._keep import Keep, Unkept
from ._pool import Pool, hidden
from ._random import (
    best_quantile,
    chance_found,
    expected_best,
    expected_draws,
    expected_found,
    expected_rank,
    quantile_draws,
    ranks,
)
from ._run import Contender, Make, Misbehaved, Run, Settings, archive, key, run, siblings_of
from ._sheet import Fault
from ._sources import Form, Found, find, pools
from ._table import DUEL_HEADS, HEADS, POOL_HEADS, RANDOM, about, duels, rows
from ._write import MissingExtra, drawing, write
from ._yardstick import LEVELS, Target, Yardstick, yardstick

__all__ = [
    "AIM",
    "DUEL_HEADS",
    "HEADS",
    "LEVELS",
    "POOL_HEADS",
    "RANDOM",
    "Broken",
    "Cell",
    "Comparison",
    "Contender",
    "Duel",
    "Estimate",
    "Fault",
    "Form",
    "Found",
    "Keep",
    "Make",
    "Misbehaved",
    "MissingExtra",
    "Pool",
    "Reached",
    "Run",
    "Settings",
    "Target",
    "Task",
    "Times",
    "Unkept",
    "Yardstick",
    "about",
    "acceleration",
    "archive",
    "best_quantile",
    "chance_found",
    "compare",
    "contenders",
    "digits",
    "drawing",
    "duels",
    "expected_best",
    "expected_draws",
    "expected_found",
    "expected_rank",
    "find",
    "hidden",
    "hypervolume",
    "key",
    "median_trials",
    "over_pools",
    "perform",
    "pools",
    "quantile_draws",
    "ranks",
    "ratio",
    "relabelled",
    "rows",
    "run",
    "said",
    "shares",
    "siblings_of",
    "tasks",
    "times",
    "top_curves",
    "within",
    "write",
    "yardstick",
]
