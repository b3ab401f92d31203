"""Works over shared resources, the rule they go by, and both prepared for playing courses."""

from collections.abc import Iterable, Mapping, Sequence

from firstlight import core


class Work(core.Value, frozen=True):
    """One execution to come, under way or done, for a sample; times in seconds since 1970 UTC, 0 where not yet.

    It reserves all of `needs` at once (one unit of each name; a name twice is two units) once all works in `after`
    have ended, and gives them back at its end, but for `keeps`: those it holds until the first work after it begins,
    which takes them over (a plate stays in the furnace until the mover has come for it). What nothing comes after
    keeps nothing. A work in `after` that is not among the works has ended.

    Works of the same `join` may be performed together in one execution, up to `join_size` of them; that takes the
    resources in `shared` once and not once a work. Higher `priority` goes first. `arrived` orders what came first.
    """

    id: str
    sample: str
    needs: tuple[str, ...]
    seconds: float
    after: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()
    priority: float = 0.0
    join: str = ""
    join_size: int = 1
    shared: tuple[str, ...] = ()
    arrived: float = 0.0
    started: float = 0.0
    ended: float = 0.0


class Rule(core.Value, frozen=True):
    """Who goes first, and who waits for whom.

    `order` ranks works by id; those it does not name come last, as they stand. `batches` are the works that go
    together: none of them begins before all are ready. A ready work stands back for one before it in the order that
    will be ready within `patience` of its own time (a share). With `top_up`, an execution takes along whoever else
    is ready for it. With `serial`, a sample begins once those before it have ended.
    """

    order: tuple[str, ...]
    batches: tuple[tuple[str, ...], ...] = ()
    patience: float = 0.0
    top_up: bool = True
    serial: bool = False


Units = tuple[tuple[int, int], ...]


def _units(names: Iterable[str], index: Mapping[str, int]) -> Units:
    count: dict[int, int] = {}
    for name in names:
        count[index[name]] = count.get(index[name], 0) + 1
    return tuple(count.items())


class Problem:
    """The works by number, with what the playing of a course asks for again and again worked out once."""

    def __init__(self, works: Sequence[Work], resources: Mapping[str, int], closed: Mapping[str, float]) -> None:
        self.works = works
        self.names = list(resources)
        index = {name: i for i, name in enumerate(self.names)}
        if unknown := {n for w in works for n in (*w.needs, *w.keeps, *w.shared) if n not in index}:
            raise ValueError(f"works need {', '.join(sorted(unknown))}, which are no resources; known: {self.names}")
        if wrong := [w.id for w in works if set(w.keeps) - set(w.needs) or set(w.shared) - set(w.needs)]:
            raise ValueError(f"works keep or share what they do not need: {', '.join(wrong)}")
        if wrong := [w.id for w in works if set(w.keeps) & set(w.shared)]:
            raise ValueError(f"works keep what they share, which goes back with the last of them: {', '.join(wrong)}")
        self.number = {w.id: i for i, w in enumerate(works)}
        if len(self.number) < len(works):
            raise ValueError("works have one id each")
        self.capacity = [resources[n] for n in self.names]
        self.closed = [closed.get(n, 0.0) for n in self.names]
        self.needs = [_units(w.needs, index) for w in works]
        self.shared = [_units(w.shared, index) for w in works]
        self.before = [tuple(self.number[a] for a in w.after if a in self.number) for w in works]
        after: list[list[int]] = [[] for _ in works]
        for i, earlier in enumerate(self.before):
            for j in earlier:
                after[j].append(i)
        self.after = [tuple(a) for a in after]
        self.keeps = [_units(w.keeps, index) if self.after[i] else () for i, w in enumerate(works)]
        self.alike = self._alike()
        self.in_order = self._in_order()

    def _in_order(self) -> list[int]:
        """Every work after those that come before it."""
        left = [len(b) for b in self.before]
        found = [i for i, n in enumerate(left) if not n]
        for i in found:
            for j in self.after[i]:
                left[j] -= 1
                if not left[j]:
                    found.append(j)
        if len(found) < len(self.works):
            circle = [self.works[i].id for i, n in enumerate(left) if n]
            raise ValueError(f"works come after one another in a circle: {', '.join(circle)}")
        return found

    def _alike(self) -> list[int]:
        """A number for each work that those share which, once ready, fit into the same room; -1 for one of its own."""
        kinds: dict[tuple[Units, tuple[Units, ...]], int] = {}
        found = []
        for i, earlier in enumerate(self.before):
            certain = all(len(self.after[j]) == 1 for j in earlier)
            handed = tuple(self.keeps[j] for j in earlier)
            found.append(kinds.setdefault((self.needs[i], handed), len(kinds)) if certain else -1)
        return found
