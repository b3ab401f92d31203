"""Works from standard input, solved by CP-SAT (needs ortools, in an environment of its own); the answer as JSON.

The model is made from the works alone: a work takes its resources from its start to its end, and what it keeps until
the next one starts; works of one kind share executions, whose resources are taken once.
"""

import json
import sys
from typing import Any

from ortools.sat.python import cp_model


def solve(
    works: list[dict[str, Any]], resources: dict[str, int], seconds: float, hint: dict[str, float], horizon: int
) -> dict[str, float | str]:
    """The makespan found, the bound proven, the time taken (s), and the solver's word for it."""
    model = cp_model.CpModel()
    start = {w["id"]: model.new_int_var(0, horizon, w["id"]) for w in works}
    known = {w["id"]: w for w in works}
    taken: dict[str, list[tuple[Any, int]]] = {name: [] for name in resources}
    makespan = model.new_int_var(0, horizon, "makespan")
    after = {w["id"]: [v["id"] for v in works if w["id"] in v["after"]] for w in works}
    for w in works:
        id, length = w["id"], int(w["seconds"])
        model.add(makespan >= start[id] + length)
        for a in w["after"]:
            model.add(start[id] >= start[a] + int(known[a]["seconds"]))
        for name in w["needs"]:
            if name in w["shared"]:
                continue
            if name in w["keeps"] and after[id]:
                (follower,) = after[id]
                size = model.new_int_var(length, horizon, "")
                taken[name].append((model.new_interval_var(start[id], size, start[follower], ""), 1))
            else:
                taken[name].append((model.new_fixed_size_interval_var(start[id], length, ""), 1))
    for kind in sorted({w["join"] for w in works if w["join"]}):
        _join(model, [w for w in works if w["join"] == kind], start, taken, horizon)
    for name, units in resources.items():
        intervals = [i for i, _ in taken[name]]
        if units == 1:
            model.add_no_overlap(intervals)
        else:
            model.add_cumulative(intervals, [n for _, n in taken[name]], units)
    for id, at in hint.items():
        model.add_hint(start[id], int(at))
    model.minimize(makespan)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = 8
    status = solver.solve(model)
    return {
        "makespan": solver.objective_value, "bound": solver.best_objective_bound, "took": solver.wall_time,
        "status": solver.status_name(status),
    }  # fmt: skip


def _join(
    model: cp_model.CpModel,
    members: list[dict[str, Any]],
    start: dict[str, Any],
    taken: dict[str, list[tuple[Any, int]]],
    horizon: int,
) -> None:
    size, length = members[0]["join_size"], int(members[0]["seconds"])
    before = None
    chosen: dict[str, list[Any]] = {w["id"]: [] for w in members}
    for _ in members:
        begin, used = model.new_int_var(0, horizon, ""), model.new_bool_var("")
        interval = model.new_optional_fixed_size_interval_var(begin, length, used, "")
        for name in members[0]["shared"]:
            taken[name].append((interval, 1))
        picks = []
        for w in members:
            pick = model.new_bool_var("")
            model.add(start[w["id"]] == begin).only_enforce_if(pick)
            model.add_implication(pick, used)
            chosen[w["id"]].append(pick)
            picks.append(pick)
        model.add(sum(picks) <= size * used)
        if before is not None:
            model.add_implication(used, before[1])
            model.add(begin >= before[0])
        before = (begin, used)
    for picks in chosen.values():
        model.add_exactly_one(picks)


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    print(json.dumps(solve(asked["works"], asked["resources"], asked["seconds"], asked["hint"], int(asked["horizon"]))))
