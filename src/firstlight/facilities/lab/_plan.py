"""When each execution should begin: many samples over few instruments, planned, planned again, and compared with none.

A plan is a rule (who goes first, who goes together, who waits) and the course it leads to if everything takes as long
as it should. The rule is what is kept to: `due` asks it what begins now, in the state the laboratory is really in.
"""

import math
import random
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from firstlight import core

from ._course import Course
from ._works import Problem, Rule, Work

__all__ = ["Plan", "Planned", "Rule", "Work", "due", "fifo", "plan"]

PATIENCE = (0.0, 0.5, 1.0)
SHARES = (0.0, 0.5, 0.25, 1.0)
"""How full what is performed together is at first, as a share of what may be."""
Cost = tuple[float, ...]


class Planned(core.Value, frozen=True):
    """When a work is to begin and end, in seconds since 1970 UTC, and which works (itself among them) it joins."""

    id: str
    start: float
    end: float
    together: tuple[str, ...]


class Plan(core.Value, frozen=True):
    """The works not ended yet in order of their start, as they go by `rule` from `made` on.

    `stuck` are works that cannot be planned: what they need is closed for nobody knows how long, is more than there
    is, or is held by what cannot go on.
    """

    made: float
    works: tuple[Planned, ...]
    rule: Rule
    stuck: tuple[str, ...] = ()

    @property
    def makespan(self) -> float:
        """Seconds from the making of the plan to the end of the last work."""
        return max((w.end for w in self.works), default=self.made) - self.made


def plan(
    works: Sequence[Work],
    resources: Mapping[str, int],
    now: float,
    *,
    closed: Mapping[str, float] | None = None,
    last: Plan | None = None,
    tries: int = 200,
    seed: int = 0,
) -> Plan:
    """The best of `tries` courses: those of several rules of precedence, then of the best one changed bit by bit.

    `resources` says how many units there are of each; `closed` until when none of it is to be had (infinity where
    nobody knows). `last` is the plan kept to so far, which the new one starts from. Urgent works go first, whatever
    that costs the others; among equals the last end counts, then the mean end. The same input gives the same plan.
    ValueError where works need what is no resource, or come after one another in a circle.
    """
    problem = Problem(works, resources, closed or {})
    best: Course | None = None
    cost: Cost = (math.inf,)
    taken = 0
    for rule in _starts(problem) if last is None else _again(problem, last, seed):
        if taken == max(tries, 1):
            break
        taken += 1
        course = Course(problem, rule, now)
        if (found := _cost(course)) < cost:
            best, cost = course, found
    assert best is not None
    dice = random.Random(seed)
    moves = _moves(problem)
    for _ in range(tries - taken):
        course = Course(problem, _changed(best.rule, moves, dice), now)
        if (found := _cost(course)) <= cost:
            best, cost = course, found
    return _plan(best)


def due(
    kept: Plan,
    works: Sequence[Work],
    resources: Mapping[str, int],
    now: float,
    *,
    closed: Mapping[str, float] | None = None,
) -> tuple[tuple[str, ...], ...]:
    """What begins now by the plan's rule in the true state of the works; each entry is one execution.

    It is the plan's own next move where all went as planned. Where something is late, what can go before it goes, and
    the plan may be made again. As long as nothing runs and works could, something is due.
    """
    course = Course(Problem(works, resources, closed or {}), kept.rule, now, only_now=True)
    begun = dict.fromkeys(
        course.together.get(i, (i,)) for i, w in enumerate(works) if course.begun[i] and not w.started and not w.ended
    )
    return tuple(tuple(works[i].id for i in members) for members in begun)


def fifo(
    works: Sequence[Work],
    resources: Mapping[str, int],
    now: float,
    *,
    closed: Mapping[str, float] | None = None,
    joining: bool = False,
    one_at_a_time: bool = False,
) -> Plan:
    """First in, first out, the reference: in order of arrival, whatever is ready begins where it fits.

    With `joining`, what is ready at that moment for the same execution goes along, and nobody is waited for. With
    `one_at_a_time`, a sample begins once the one before it has ended.
    """
    problem = Problem(works, resources, closed or {})
    rule = Rule(order=_ids(problem, _by_arrival(problem)), top_up=joining, serial=one_at_a_time)
    return _plan(Course(problem, rule, now))


def _plan(course: Course) -> Plan:
    works = course.p.works
    open_ones = [i for i, w in enumerate(works) if not w.ended]
    planned = [
        Planned(
            id=works[i].id,
            start=course.start[i],
            end=course.end[i],
            together=tuple(works[j].id for j in course.together.get(i, (i,))),
        )
        for i in sorted(open_ones, key=lambda i: (course.start[i], i))
        if course.begun[i]
    ]
    stuck = tuple(works[i].id for i in open_ones if not course.begun[i])
    return Plan(made=course.now, works=tuple(planned), rule=course.rule, stuck=stuck)


def _cost(course: Course) -> Cost:
    """The number of works not planned, the last end of each class of urgency, and the mean end of all."""
    last: dict[float, float] = {}
    stuck, total = 0, 0.0
    for i, w in enumerate(course.p.works):
        if w.ended:
            continue
        if not course.begun[i]:
            stuck += 1
            continue
        total += course.end[i] - course.now
        last[w.priority] = max(last.get(w.priority, 0.0), course.end[i])
    return (float(stuck), *(last[k] for k in sorted(last, reverse=True)), total)


# Where the search starts: rules of precedence by themselves, and how works of one kind are put together.


def _again(problem: Problem, last: Plan, seed: int) -> Iterator[Rule]:
    """What was planned, and one of the starts, another one every time: most tries go into changing the better."""
    yield last.rule
    fresh = list(_starts(problem))
    yield fresh[seed % len(fresh)]


def _starts(problem: Problem) -> Iterator[Rule]:
    # What is first in, first out comes first: no plan, however few its tries, is worse than that.
    orders = [order(problem) for order in (_by_arrival, _interleaved, _by_batch, _drained, _by_bottleneck, _longest)]
    for share in SHARES:
        for order in orders:
            yield Rule(order=_ids(problem, order), batches=_batches(problem, order, share))
    for patience in PATIENCE[1:]:
        yield Rule(order=_ids(problem, orders[1]), batches=_batches(problem, orders[1], 0.5), patience=patience)


def _ids(problem: Problem, order: Sequence[int]) -> tuple[str, ...]:
    return tuple(problem.works[i].id for i in order)


def _arrivals(problem: Problem) -> dict[str, tuple[float, int]]:
    """When each sample came, and its number."""
    found: dict[str, tuple[float, int]] = {}
    for i, w in enumerate(problem.works):
        found[w.sample] = min(found.get(w.sample, (w.arrived, i)), (w.arrived, i))
    return found


def _tails(problem: Problem) -> list[float]:
    """For each work how long it and the longest row of works after it take."""
    tails = [0.0] * len(problem.works)
    for i in reversed(problem.in_order):
        tails[i] = problem.works[i].seconds + max((tails[j] for j in problem.after[i]), default=0.0)
    return tails


def _by_arrival(problem: Problem) -> list[int]:
    came = _arrivals(problem)
    return sorted(range(len(problem.works)), key=lambda i: (came[problem.works[i].sample], i))


def _longest(problem: Problem) -> list[int]:
    tails = _tails(problem)
    return sorted(range(len(tails)), key=lambda i: -tails[i])


def _drained(problem: Problem) -> list[int]:
    """What is nearest to its end first: places come free."""
    tails, came = _tails(problem), _arrivals(problem)
    return sorted(range(len(tails)), key=lambda i: (tails[i], came[problem.works[i].sample]))


def _by_batch(problem: Problem) -> list[int]:
    """Samples that are performed together one after the other, and the longest kind first."""
    tails, came = _tails(problem), _arrivals(problem)
    kind: dict[str, str] = {}
    length: dict[str, float] = {}
    for i, w in enumerate(problem.works):
        if w.join:
            kind.setdefault(w.sample, w.join)
        length[w.sample] = max(length.get(w.sample, 0.0), tails[i])
    weight: dict[str, float] = {}
    for sample, seconds in length.items():
        weight[kind.get(sample, "")] = weight.get(kind.get(sample, ""), 0.0) + seconds

    def key(i: int) -> tuple[float, str, float, tuple[float, int]]:
        sample = problem.works[i].sample
        mine = kind.get(sample, "")
        return (-weight[mine], mine, -length[sample], came[sample])

    return sorted(range(len(tails)), key=key)


def _busiest(problem: Problem) -> int:
    load = [0.0] * len(problem.names)
    for i, w in enumerate(problem.works):
        for r, k in () if w.ended else problem.needs[i]:
            load[r] += w.seconds * k / max(problem.capacity[r], 1) / (w.join_size if w.join else 1)
    return max(range(len(load)), key=lambda r: load[r], default=0)


def _by_bottleneck(problem: Problem) -> list[int]:
    """Those who reach the busiest resource soonest, and have most to do after it, first."""
    came, reach = _arrivals(problem), _reach(problem)
    nowhere = (math.inf, 0.0)
    samples = [w.sample for w in problem.works]
    return sorted(range(len(samples)), key=lambda i: (reach.get(samples[i], nowhere), came[samples[i]]))


def _reach(problem: Problem) -> dict[str, tuple[float, float]]:
    """For each sample that needs the busiest resource: how long until then, and (less than 0) how long from then."""
    busiest, tails = _busiest(problem), _tails(problem)
    longest: dict[str, float] = {}
    for i, w in enumerate(problem.works):
        longest[w.sample] = max(longest.get(w.sample, 0.0), tails[i])
    reach: dict[str, tuple[float, float]] = {}
    for i, w in enumerate(problem.works):
        if any(r == busiest for r, _ in problem.needs[i]):
            found = (longest[w.sample] - tails[i], -tails[i])
            reach[w.sample] = min(reach.get(w.sample, found), found)
    return reach


def _interleaved(problem: Problem) -> list[int]:
    """Those who need the busiest resource evenly among the others, who fill the time in which it is taken."""
    came, reach = _arrivals(problem), _reach(problem)
    place: dict[str, float] = {}
    for group in ([s for s in came if s in reach], [s for s in came if s not in reach]):
        group.sort(key=lambda s: came[s])
        # The first of those goes before the first of the others.
        place |= {s: (k + (0.5 if s in reach else 0.6)) / len(group) for k, s in enumerate(group)}
    samples = [w.sample for w in problem.works]
    return sorted(range(len(samples)), key=lambda i: (place[samples[i]], came[samples[i]], i))


def _batches(problem: Problem, order: Sequence[int], share: float) -> tuple[tuple[str, ...], ...]:
    """Works of one kind in their order, as many together as is this share of how many may; evenly."""
    kinds: dict[tuple[str, float], list[int]] = {}
    for i in order:
        w = problem.works[i]
        if w.join and w.join_size > 1 and not w.started and not w.ended:
            kinds.setdefault((w.join, w.priority), []).append(i)
    made = []
    for members in kinds.values():
        size = max(1, round(share * problem.works[members[0]].join_size))
        size = math.ceil(len(members) / math.ceil(len(members) / size))
        made += [_ids(problem, members[k : k + size]) for k in range(0, len(members), size)]
    return tuple(made)


# How a rule is changed a little.

Moves = tuple[dict[str, list[str]], dict[str, tuple[str, int]]]


def _moves(problem: Problem) -> Moves:
    """The works of each sample that are yet to begin, and the kind and size of what can be joined."""
    samples: dict[str, list[str]] = {}
    joins: dict[str, tuple[str, int]] = {}
    for w in problem.works:
        if not w.started and not w.ended:
            samples.setdefault(w.sample, []).append(w.id)
            if w.join and w.join_size > 1:
                joins[w.id] = (f"{w.join} {w.priority}", w.join_size)
    return samples, joins


def _changed(rule: Rule, moves: Moves, dice: random.Random) -> Rule:
    samples, joins = moves
    throw = dice.random()
    if throw < 0.35 and len(samples) > 1:
        return msgspec.structs.replace(rule, order=_samples_swapped(rule.order, samples, dice))
    if throw < 0.6 and len(rule.order) > 1:
        order = list(rule.order)
        moved = order.pop(dice.randrange(len(order)))
        order.insert(dice.randrange(len(order) + 1), moved)
        return msgspec.structs.replace(rule, order=tuple(order))
    if throw < 0.95 and joins:
        return msgspec.structs.replace(rule, batches=_regrouped(rule.batches, joins, dice))
    return msgspec.structs.replace(rule, patience=dice.choice(PATIENCE))


def _samples_swapped(order: tuple[str, ...], samples: Mapping[str, list[str]], dice: random.Random) -> tuple[str, ...]:
    """Two samples' works change places: those of the one take the first of all their places, step by step."""
    one, other = (set(samples[s]) for s in dice.sample(sorted(samples), 2))
    places = [k for k, id in enumerate(order) if id in one or id in other]
    first = [order[k] for k in places if order[k] in one]
    second = [order[k] for k in places if order[k] in other]
    lead = second if order[places[0]] in one else first
    rest = first if lead is second else second
    pattern = [order[k] in one for k in places]
    turned = list(order)
    a, b = iter(lead), iter(rest)
    for k, was in zip(places, pattern, strict=True):
        turned[k] = next(a if was == pattern[0] else b, "") or next(a, "") or next(b)
    return tuple(turned)


def _regrouped(
    batches: tuple[tuple[str, ...], ...], joins: Mapping[str, tuple[str, int]], dice: random.Random
) -> tuple[tuple[str, ...], ...]:
    """One work goes to another batch of its kind, or alone; or two works of a kind change batches."""
    left = [list(id for id in b if id in joins) for b in batches]
    left = [b for b in left if b]
    if not left:
        return batches
    source = dice.choice(left)
    moved = dice.choice(source)
    kind, size = joins[moved]
    others: list[list[str]] = [b for b in left if b is not source and joins[b[0]][0] == kind]
    target = dice.choice([*others, []])
    source.remove(moved)
    if len(target) >= size or (target and dice.random() < 0.5):
        source.append(target.pop(dice.randrange(len(target))))
    target.append(moved)
    if all(b is not target for b in left):
        left.append(target)
    return tuple(tuple(b) for b in left if b)
