"""The course of works over shared resources, played forward by a rule of precedence, without ever a circular wait."""

import bisect
import heapq
import math
from collections.abc import Sequence

from ._works import Problem, Rule, Units

LATE = 0.1
"""A work that runs longer than it should is expected to take this share of its time yet."""


class Course:
    """How it goes from `now` on under a rule: `start` and `end` of every work, and those begun together.

    Nothing that would lead into a circular wait is begun: after every start there is still an order in which all
    samples that hold something can go on, one by one, until they hold nothing (the banker's algorithm). So however
    long works really take, a lab that begins only what a course begins next never stands still with work to do.
    """

    def __init__(self, problem: Problem, rule: Rule, now: float, *, only_now: bool = False) -> None:
        self.p, self.rule, self.now = problem, rule, now
        n = len(problem.works)
        self.start, self.end = [math.inf] * n, [math.inf] * n
        self.together: dict[int, tuple[int, ...]] = {}
        self.free = list(problem.capacity)
        self.calm = list(problem.capacity)  # what would be free if all that runs had ended
        self.holders: set[int] = set()
        self.left = [len(b) for b in problem.before]
        self.holding = [False] * n
        self.begun, self.done = [False] * n, [False] * n
        self.ready_at = [now] * n
        self._unbegun = [len(b) for b in problem.before]
        self._rank = self._ranks()
        self._batch = self._batches()
        self._shut = {r for r, until in enumerate(problem.closed) if until > now}
        self._ready: list[tuple[int, int]] = []
        self._coming: set[int] = set()
        self._events: list[tuple[float, int]] = [
            (problem.closed[r], -1 - r) for r in self._shut if problem.closed[r] < math.inf
        ]
        heapq.heapify(self._events)
        self._gate = self._gates()
        self._as_it_stands()
        self._play(only_now)

    def _ranks(self) -> list[int]:
        given = {id: i for i, id in enumerate(self.rule.order)}
        last = len(given)
        works = self.p.works
        order = sorted(range(len(works)), key=lambda i: (-works[i].priority, given.get(works[i].id, last), i))
        ranks = [0] * len(works)
        for rank, i in enumerate(order):
            ranks[i] = rank
        return ranks

    def _batches(self) -> dict[int, tuple[int, ...]]:
        found = {}
        for batch in self.rule.batches:
            members = tuple(self.p.number[id] for id in batch if id in self.p.number)
            found.update(dict.fromkeys(members, members))
        return found

    def _gates(self) -> dict[int, set[str]]:
        """For each work the samples that must have ended before, where they go one at a time."""
        if not self.rule.serial:
            return {}
        first = sorted(range(len(self.p.works)), key=lambda i: self._rank[i])
        samples = list(dict.fromkeys(self.p.works[i].sample for i in first))
        place = {s: k for k, s in enumerate(samples)}
        return {i: set(samples[: place[w.sample]]) for i, w in enumerate(self.p.works)}

    def _as_it_stands(self) -> None:
        works, taken = self.p.works, set[tuple[str, float]]()
        for i, w in enumerate(works):
            if w.ended:
                self.start[i], self.end[i] = w.started, w.ended
                self.begun[i] = self.done[i] = True
        for i, w in enumerate(works):
            if w.started and not w.ended:
                self.start[i] = w.started
                self.end[i] = max(w.started + w.seconds, self.now + LATE * w.seconds)
                self.begun[i] = True
                again = bool(w.join) and (w.join, w.started) in taken
                self._take(self.p.needs[i], self.p.shared[i] if again else ())
                taken.add((w.join, w.started))
                heapq.heappush(self._events, (self.end[i], i))
        for i in range(len(works)):
            if self.begun[i] and self.p.keeps[i] and not any(self.begun[j] for j in self.p.after[i]):
                self.holders.add(i)
                for r, k in self.p.keeps[i]:
                    self.calm[r] -= k
                if self.done[i]:
                    self.holding[i] = True
                    self._take(self.p.keeps[i])
            self.left[i] = sum(not self.done[j] for j in self.p.before[i])
            self._unbegun[i] = sum(not self.begun[j] for j in self.p.before[i])
            if not self.begun[i]:
                self._look(i, self.now)

    def _look(self, i: int, at: float) -> None:
        if not self.left[i]:
            self._coming.discard(i)
            self.ready_at[i] = at
            bisect.insort(self._ready, (self._rank[i], i))
        elif not self._unbegun[i]:
            self.ready_at[i] = max(self.end[j] for j in self.p.before[i] if not self.done[j])
            self._coming.add(i)

    def _take(self, units: Units, but: Units = ()) -> None:
        for r, k in units:
            self.free[r] -= k
        for r, k in but:
            self.free[r] += k

    def _play(self, only_now: bool) -> None:
        t = self.now
        while True:
            self._begin_all(t)
            if not self._events:
                if not self._ready or not self._force(t):
                    return
                continue
            if only_now:
                return
            t = max(t, self._events[0][0])
            while self._events and self._events[0][0] <= t:
                _, i = heapq.heappop(self._events)
                if i < 0:
                    self._shut.discard(-1 - i)
                else:
                    self._finish(i, t)

    def _finish(self, i: int, t: float) -> None:
        self.done[i] = True
        # What is shared goes back once, with the last of those who ran together.
        shared = self.p.shared[i] if self.p.shared[i] and self._still(i) else ()
        for r, k in self.p.needs[i]:
            self.free[r] += k
        self._take(shared)
        if self.p.keeps[i]:
            self.holding[i] = True
            self._take(self.p.keeps[i])
        for j in self.p.after[i]:
            self.left[j] -= 1
            if not self.begun[j]:
                self._look(j, t)

    def _still(self, i: int) -> bool:
        """Whether others that run together with it have not ended yet."""
        if i in self.together:
            return any(not self.done[j] for j in self.together[i])
        w = self.p.works[i]
        if not w.join or not w.started:
            return False
        return any(
            v.join == w.join and v.started == w.started and not v.ended and not self.done[j]
            for j, v in enumerate(self.p.works)
        )

    def _begin_all(self, t: float) -> None:
        again = True
        while again:
            again = False
            full: set[int] = set()
            for _, i in list(self._ready):
                # Room only gets less in one round: where one did not fit, nobody like it does.
                kind = self.p.alike[i]
                if kind in full or self.begun[i]:
                    continue
                if not self._fits((i,)):
                    if kind >= 0:
                        full.add(kind)
                    continue
                members = self._members(i)
                if members and self._fits(members) and not self._yields(members, t) and self._safe(members):
                    # Whoever was before in the order may fit now that a place has been left.
                    again = self._begin(members, t) or again
                    if again:
                        break

    def _members(self, i: int) -> tuple[int, ...]:
        """Who would begin with this ready work; nobody while some of them are yet to come."""
        if self._gate and any(not self.done[j] for j, w in enumerate(self.p.works) if w.sample in self._gate[i]):
            return ()
        w = self.p.works[i]
        if not w.join:
            return (i,)
        batch = [j for j in self._batch.get(i, (i,)) if not self.begun[j]]
        if any(self.left[j] for j in batch):
            return ()
        return self._topped(batch)

    def _topped(self, batch: Sequence[int]) -> tuple[int, ...]:
        members, w = list(batch), self.p.works[batch[0]]
        if self.rule.top_up and len(members) < w.join_size and self._fits(members):
            for _, j in self._ready:
                if len(members) == w.join_size:
                    break
                alike = j not in members and not self.begun[j] and self.p.works[j].join == w.join
                if alike and self._fits((*members, j)):
                    members.append(j)
        return tuple(members)

    def _fits(self, members: Sequence[int]) -> bool:
        p, free = self.p, self.free
        if len(members) == 1:
            i = members[0]
            for r, k in p.needs[i]:
                if free[r] < k and free[r] + self._handed(i, r) < k:
                    return False
            return not self._shut or all(r not in self._shut for r, _ in p.needs[i])
        total: dict[int, int] = {}
        for nth, i in enumerate(members):
            for r, k in p.needs[i]:
                total[r] = total.get(r, 0) + k - self._handed(i, r)
            if nth:
                for r, k in p.shared[i]:
                    total[r] -= k
        return all(free[r] >= k and r not in self._shut for r, k in total.items())

    def _handed(self, i: int, resource: int) -> int:
        handed = 0
        for j in self.p.before[i]:
            if self.holding[j]:
                for r, k in self.p.keeps[j]:
                    if r == resource:
                        handed += k
        return handed

    def _yields(self, members: Sequence[int], t: float) -> bool:
        """Whether it stands back for someone before it in the order who comes soon and wants the same."""
        if not self._coming:
            return False
        first = min(members, key=lambda i: self._rank[i])
        w = self.p.works[first]
        for j in self._coming:
            v = self.p.works[j]
            if self._rank[j] > self._rank[first] or j in members:
                continue
            share = 1.0 if v.priority > w.priority else self.rule.patience
            if share and self.ready_at[j] < t + share * w.seconds and self._contend(first, j):
                return True
        return False

    def _contend(self, i: int, j: int) -> bool:
        wanted = dict(self.p.needs[j])
        return any(r in wanted and self.free[r] + self._handed(j, r) < k + wanted[r] for r, k in self.p.needs[i])

    def _begin(self, members: tuple[int, ...], t: float) -> bool:
        """Begin them; whether somebody left a place by it."""
        p, left = self.p, False
        seconds = max(p.works[i].seconds for i in members)
        if len(members) > 1:
            self.together.update(dict.fromkeys(members, members))
        for nth, i in enumerate(members):
            self._ready.remove((self._rank[i], i))
            self.begun[i] = True
            self.start[i], self.end[i] = t, t + seconds
            for j in p.before[i]:
                if self.holding[j]:
                    self.holding[j], left = False, True
                    self.holders.discard(j)
                    for r, k in p.keeps[j]:
                        self.free[r] += k
                        self.calm[r] += k
            if p.keeps[i]:
                self.holders.add(i)
                for r, k in p.keeps[i]:
                    self.calm[r] -= k
            self._take(p.needs[i], p.shared[i] if nth else ())
            heapq.heappush(self._events, (self.end[i], i))
            for j in p.after[i]:
                self._unbegun[j] -= 1
                if not self.begun[j]:
                    self._look(j, t)
        return left

    def _force(self, t: float) -> bool:
        """Nothing runs and nothing begins: a batch goes with those who are there; else what fits, if it is unsafe."""
        for careful in (True, False):
            for _, i in self._ready:
                batch = [j for j in self._batch.get(i, (i,)) if not self.begun[j] and not self.left[j]]
                for members in (self._topped(batch), (i,)):
                    if self._fits(members) and (not careful or self._safe(members)):
                        self._begin(members, t)
                        return True
        return False

    def _safe(self, members: tuple[int, ...]) -> bool:
        """Whether all who hold something could still go on, one after the other, once these have begun and ended."""
        if all(self._holds_no_more(i) for i in members):
            return True
        tried = _Onward(self)
        for i in members:
            tried.begin(i)
        # As it was safe before, it is if those who begin can let go of all first.
        if all(tried.let_go(i) for i in members):
            return True
        while tried.holders:
            if not any(tried.let_go(i) for i in sorted(tried.holders)):
                return False
        return True

    def _holds_no_more(self, i: int) -> bool:
        keeps = self.p.keeps[i]
        return not keeps or all(self._handed(i, r) >= k for r, k in keeps)


class _Onward:
    """How things would be if all that runs had ended: who holds what, and who could go on until nothing is held."""

    def __init__(self, course: Course) -> None:
        self.p, self.begun = course.p, course.begun
        self.free, self.passed, self.holders = list(course.calm), set[int](), set(course.holders)

    def begin(self, i: int) -> bool:
        """Let it take over what those before it hold, and keep what it keeps; whether there was room for it."""
        p, free = self.p, self.free
        for j in p.before[i]:
            if j in self.holders:
                self.holders.discard(j)
                for r, k in p.keeps[j]:
                    free[r] += k
        for r, k in p.needs[i]:
            if free[r] < k:
                return False
        self.passed.add(i)
        if p.keeps[i]:
            self.holders.add(i)
            for r, k in p.keeps[i]:
                free[r] -= k
        return True

    def let_go(self, i: int) -> bool:
        """Go on with this one until it holds nothing, and nothing new is held for it; as before where it cannot."""
        if i not in self.holders:
            return True
        before = list(self.free), set(self.passed), set(self.holders)
        others = self.holders - {i}
        while mine := self.holders - others:
            if not self._reach(self.p.after[min(mine)][0]):
                self.free, self.passed, self.holders = before
                return False
        return True

    def _reach(self, i: int) -> bool:
        for j in self.p.before[i]:
            if not self.begun[j] and j not in self.passed and not self._reach(j):
                return False
        return self.begin(i)
