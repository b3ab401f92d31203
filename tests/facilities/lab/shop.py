"""A shop floor to try plans on: what works take up, a clock that true times run by, and the best there is."""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from firstlight.facilities.lab._plan import Plan, Work, due

Together = frozenset[frozenset[str]]


def occupied(works: Sequence[Work], together: Together) -> Iterator[tuple[str, float, float, int]]:
    """Each resource with from when to when how many units are taken, from the works' starts and ends alone."""
    starts = {w.id: w.started for w in works}
    lead = {min(group): group for group in together}
    followers = {id for group in together for id in group} - set(lead)
    for w in works:
        if not w.started:
            continue
        once = list(w.shared) if w.id in followers else []
        for name in w.needs:
            if name in once:
                once.remove(name)
                continue
            yield name, w.started, w.ended, 1
        after = [starts[v.id] or math.inf for v in works if w.id in v.after]
        if after:
            yield from ((name, w.ended, min(after), 1) for name in w.keeps)


def check(works: Sequence[Work], resources: Mapping[str, int], together: Together = frozenset()) -> None:
    """The starts and ends of these works can be: nothing is over-taken, nothing too early, and joins are joins."""
    known = {w.id: w for w in works}
    for w in works:
        if w.started:
            for a in w.after:
                assert known[a].ended and known[a].ended <= w.started + 1e-9, f"{w.id} begins before {a} has ended"
    for group in together:
        members = [known[id] for id in group]
        assert len({(m.started, m.ended) for m in members}) == 1, f"{group} do not run together"
        assert len({m.join for m in members}) == 1 and members[0].join and len(members) <= members[0].join_size
    taken = list(occupied(works, together))
    for name, start, end, _ in taken:
        if end <= start:
            continue
        count = sum(n for other, a, b, n in taken if other == name and a <= start < b)
        assert count <= resources[name], f"{count} of {name} are taken at {start}, and there are {resources[name]}"


def done(works: Sequence[Work], plan: Plan) -> tuple[list[Work], Together]:
    """The works as they will have been if the plan comes true."""
    by = {p.id: p for p in plan.works}
    after = [replace(w, started=by[w.id].start, ended=by[w.id].end) if w.id in by else w for w in works]
    return after, frozenset(frozenset(p.together) for p in plan.works if len(p.together) > 1)


def perform(
    works: Sequence[Work],
    resources: Mapping[str, int],
    plan: Plan,
    truth: Callable[[Work], float],
    *,
    now: float = 1.0,
    again: Callable[[Plan, Sequence[Work], float], Plan] | None = None,
) -> tuple[list[Work], Together]:
    """Begin what is due at every change until all has ended; what runs takes as long as `truth` says.

    Fails where nothing runs, works are left, and nothing is due.
    """
    at = {w.id: w for w in works}
    running: dict[str, float] = {w.id: w.started + truth(w) for w in works if w.started and not w.ended}
    together = set[frozenset[str]]()
    while True:
        state = list(at.values())
        for members in due(plan, state, resources, now):
            seconds = max(truth(at[id]) for id in members)
            for id in members:
                at[id] = replace(at[id], started=now)
                running[id] = now + seconds
            if len(members) > 1:
                together.add(frozenset(members))
        if not running:
            left = [w.id for w in at.values() if not w.ended]
            assert not left, f"nothing runs and nothing is due at {now}; left: {left}"
            return list(at.values()), frozenset(together)
        now = min(running.values())
        for id in [id for id, end in running.items() if end <= now]:
            at[id] = replace(at[id], ended=now)
            del running[id]
        if again is not None:
            plan = again(plan, list(at.values()), now)


def shortest(works: Sequence[Work], resources: Mapping[str, int], bound: float) -> float:
    """The least makespan from 0 there is, by trying everything; `bound` is one that is known to be possible."""
    known = {w.id: w for w in works}
    best = [bound]
    seen: dict[object, float] = {}

    def tail(id: str) -> float:
        return known[id].seconds + max((tail(w.id) for w in works if id in w.after), default=0.0)

    tails = {w.id: tail(w.id) for w in works}

    def free(ended: frozenset[str], running: Mapping[str, float], groups: Mapping[str, int]) -> dict[str, int]:
        left, seen = dict(resources), set[int]()
        for id in running:
            for name in known[id].needs:
                left[name] -= 0 if name in known[id].shared and groups[id] in seen else 1
            seen.add(groups[id])
        for id in ended:
            after = [w.id for w in works if id in w.after]
            if after and not any(a in running or a in ended for a in after):
                for name in known[id].keeps:
                    left[name] -= 1
        return left

    def go(t: float, ended: frozenset[str], running: dict[str, float], groups: dict[str, int], first: int) -> None:
        todo = [w for w in works if w.id not in ended and w.id not in running]
        low = max([*running.values(), *(t + tails[w.id] for w in todo if all(a in ended for a in w.after)),
                   *(running[a] + tails[w.id] for w in todo for a in w.after if a in running)], default=t)  # fmt: skip
        if low >= best[0] - 1e-9:
            return
        if not todo:
            best[0] = low
            return
        state = (ended, tuple(sorted((id, e - t, groups[id]) for id, e in running.items())), first)
        if seen.get(state, math.inf) <= t:
            return
        seen[state] = t
        ready = [w for w in todo if all(a in ended for a in w.after)]
        for k, w in enumerate(ready):
            if k < first:
                continue
            kin = [v for v in ready[k + 1 :] if w.join and v.join == w.join]
            for chosen in range(2 ** len(kin)):
                members = [w, *(v for n, v in enumerate(kin) if chosen >> n & 1)]
                if len(members) > max(w.join_size, 1):
                    continue
                end = t + max(m.seconds for m in members)
                after = running | {m.id: end for m in members}
                now_in = groups | {m.id: k + 1000 * len(running) + round(t) * 100_000 for m in members}
                if min(free(ended, after, now_in).values()) >= 0:
                    go(t, ended, after, now_in, 0)
        if running:
            upto = min(running.values())
            go(upto, ended | {id for id, e in running.items() if e <= upto},
               {id: e for id, e in running.items() if e > upto}, groups, 0)  # fmt: skip

    go(0.0, frozenset(), {}, {}, 0)
    return best[0]


def routes(dice: random.Random, samples: int, *, places: int = 3, stops: int = 3, joins: bool = True) -> list[Work]:
    """Samples carried by one mover from place to place on ways of their own, and kept where they are meanwhile."""
    works = []
    for s in range(samples):
        last: tuple[str, ...] = ()
        way = [dice.randrange(places) for _ in range(stops)]
        way = [p for k, p in enumerate(way) if not k or p != way[k - 1]]
        for k, p in enumerate(way):
            place, id = f"place-{p}", f"{s}.{k}"
            works.append(
                Work(id=f"{id}.move", sample=str(s), needs=("mover", place), seconds=float(dice.randint(1, 3)),
                     after=last, keeps=(place,), arrived=float(s))
            )  # fmt: skip
            heat = joins and p == 0
            works.append(
                Work(id=f"{id}.work", sample=str(s), needs=(place, f"tool-{p}"), seconds=float(dice.randint(2, 9)),
                     after=(f"{id}.move",), keeps=(place,), join=f"heat {dice.randint(1, 2)}" if heat else "",
                     join_size=2 if heat else 1, shared=("tool-0",) if heat else (), arrived=float(s))
            )  # fmt: skip
            last = (f"{id}.work",)
        works.append(Work(id=f"{s}.out", sample=str(s), needs=("mover",), seconds=1.0, after=last, arrived=float(s)))
    return works


def floor(works: Sequence[Work], **capacity: int) -> dict[str, int]:
    """One unit of each resource the works need, but for those given."""
    return {name: capacity.get(name.replace("-", "_"), 1) for w in works for name in w.needs}
