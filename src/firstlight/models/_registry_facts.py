"""What can happen to the versions of a model, written down for ever, and what they are then.

Every entry bears the digest of the one before it: one that is altered or taken out of the middle is found.
"""

import hashlib
from collections.abc import Mapping
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from firstlight.core import Value

from ._registry_gate import Compared, Verdict
from ._spec import Gate

PRODUCTION = "production"
"""The alias of the version that is used."""


class Refused(ValueError):
    """Something that cannot follow what has happened to a model; it was not written down."""


class Damaged(OSError):
    """A history or a file that is not what was written."""


class Registered(Value, frozen=True, tag="registered"):
    """A version came into being. Nothing of this changes any more, nor does what it must reach to be promoted.

    `record` is its id in the catalog, `files` the digests of the release by path, `data` the ids of the datasets that
    it has learned from, `manifest` the digest of the frozen list of their files, `order` that of what the facility was
    told. `parent` is the record of the version it began with, which may be one of another model, or of another site;
    `ancestors` are those before that, of a version that was brought from another site.
    `verdict` is what the `gate` said of the scores. `origin` is whose site it comes from, "" for our own.
    """

    version: int
    record: str
    files: dict[str, str]
    family: str
    metric: str
    scores: dict[str, float]
    gate: Gate
    verdict: Verdict
    data: tuple[str, ...] = ()
    manifest: str = ""
    order: str = ""
    parent: str = ""
    ancestors: tuple[str, ...] = ()
    parent_scores: dict[str, float] = {}
    baselines: dict[str, dict[str, float]] = {}
    forgetting: dict[str, float] = {}
    licence: str = ""
    spec: dict[str, object] = {}
    origin: str = ""


class Promoted(Value, frozen=True, tag="promoted"):
    """An alias now means this version. `evidence` is what the gate said then; `forced` where it said no, and somebody
    wanted it nevertheless. `answered` is who answered the question that the gate asks."""

    version: int
    evidence: Verdict
    alias: str = PRODUCTION
    why: str = ""
    forced: bool = False
    answered: str = ""


class Shadowed(Value, frozen=True, tag="shadowed"):
    """A version has predicted trials that another one served."""

    version: int
    against: int
    compared: Compared


class RolledBack(Value, frozen=True, tag="rolled back"):
    """An alias means again what it meant before; what it meant last is `left`."""

    version: int
    left: int
    alias: str = PRODUCTION
    why: str = ""


class Withdrawn(Value, frozen=True, tag="revoked"):
    """A version is not to be loaded any more. `said` is who has said so, where that was at another site."""

    version: int
    reason: str
    said: str = ""


class Restored(Value, frozen=True, tag="restored"):
    """A version that was revoked may be loaded again."""

    version: int
    reason: str


Fact: TypeAlias = Registered | Promoted | Shadowed | RolledBack | Withdrawn | Restored


class Entry(Value, frozen=True):
    """A fact about a model: its number in the history (from 1), when, who recorded it, and the digest of the entry
    before, "" for the first."""

    model: str
    number: int
    before: str
    at: float
    by: str
    fact: Fact


class Revocation(Value, frozen=True):
    """Why a version is not to be used any more, who says so, and since when."""

    reason: str
    by: str
    at: float


class Version(Value, frozen=True):
    """One version of a model, as it stands."""

    name: str
    made: Registered
    at: float
    by: str
    revoked: Revocation | None = None
    shadows: tuple[Shadowed, ...] = ()

    @property
    def number(self) -> int:
        """From 1 on."""
        return self.made.version

    @property
    def id(self) -> str:
        """As people write it: `name:number`."""
        return f"{self.name}:{self.number}"


class State(Value, frozen=True):
    """A model as it stands: its versions by number, and what each alias has meant, last what it means now."""

    versions: dict[int, Version] = {}
    aliases: dict[str, tuple[int, ...]] = {}

    def means(self, alias: str) -> int | None:
        """The version that an alias means; None where it means none yet."""
        return self.aliases[alias][-1] if self.aliases.get(alias) else None

    def before(self, alias: str) -> tuple[int, ...]:
        """What an alias has meant up to the version that it would go back to; () where there is none."""
        stack = self.aliases.get(alias, ())[:-1]
        while stack and self.versions[stack[-1]].revoked is not None:
            stack = stack[:-1]
        return stack


def follow(state: State, entry: Entry) -> State:
    """A model after one more entry. Raises Refused where that cannot follow."""
    fact = entry.fact
    if isinstance(fact, Registered):
        return _registered(state, entry, fact)
    version = state.versions.get(fact.version)
    if version is None:
        raise Refused(f"there is no version {fact.version} of {entry.model}")
    match fact:
        case Promoted(alias=alias):
            if version.revoked is not None:
                raise Refused(f"{version.id} is revoked ({version.revoked.reason}), and cannot be promoted")
            if not (fact.evidence.passed or fact.forced):
                raise Refused(f"{version.id} is not promoted: {'; '.join(fact.evidence.reasons)}")
            if fact.forced and not fact.why:
                raise Refused(f"{version.id} is promoted against what was asked of it: say why")
            if fact.evidence.ask and not fact.answered:
                raise Refused(f"{version.id} waits for a person's word: {fact.evidence.ask}")
            return replace(state, aliases=state.aliases | {alias: (*state.aliases.get(alias, ()), fact.version)})
        case RolledBack(alias=alias):
            stack = state.before(alias)
            if (state.means(alias), *stack[-1:]) != (fact.left, fact.version):
                raise Refused(f"{entry.model}@{alias} cannot go back from {fact.left} to {fact.version}")
            return replace(state, aliases=state.aliases | {alias: stack})
        case Shadowed():
            if fact.against not in state.versions or fact.against == fact.version:
                raise Refused(f"{version.id} cannot be held against version {fact.against}")
            return _with(state, replace(version, shadows=(*version.shadows, fact)))
        case Withdrawn(reason=reason, said=said):
            if version.revoked is not None:
                raise Refused(f"{version.id} is revoked already: {version.revoked.reason}")
            if not reason.strip():
                raise Refused(f"{version.id} is not revoked without a reason: whoever used it will read it")
            return _with(state, replace(version, revoked=Revocation(reason=reason, by=said or entry.by, at=entry.at)))
        case Restored(reason=reason):
            if version.revoked is None:
                raise Refused(f"{version.id} is not revoked")
            if not reason.strip():
                raise Refused(f"{version.id} is not restored without a reason")
            return _with(state, replace(version, revoked=None))


def _registered(state: State, entry: Entry, fact: Registered) -> State:
    if fact.version != len(state.versions) + 1:
        raise Refused(f"the next version of {entry.model} is {len(state.versions) + 1}, not {fact.version}")
    if known := [v.id for v in state.versions.values() if v.made.record == fact.record]:
        raise Refused(f"{fact.record} is registered already: {known[0]}")
    return _with(state, Version(name=entry.model, made=fact, at=entry.at, by=entry.by))


def _with(state: State, version: Version) -> State:
    return replace(state, versions=state.versions | {version.number: version})


def encoded(entry: Entry) -> bytes:
    """An entry as it is kept."""
    return msgspec.json.encode(entry, order="deterministic")


def digest_of(content: bytes) -> str:
    """The digest that the next entry bears."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


_decoder = msgspec.json.Decoder(Entry)


class Chain:
    """The history of one model as it is read, entry by entry; what cannot follow is Damaged."""

    def __init__(self, name: str) -> None:
        self.name, self.head, self.state = name, "", State()
        self.entries = list[Entry]()

    def take(self, content: bytes) -> None:
        """One more entry, as it was kept. Raises Damaged; then nothing has changed."""
        place = f"entry {len(self.entries) + 1} of model {self.name}"
        try:
            entry = _decoder.decode(content)
        except msgspec.MsgspecError as error:
            raise Damaged(f"{place} cannot be read: {error}") from error
        if (entry.model, entry.number) != (self.name, len(self.entries) + 1):
            raise Damaged(f"{place} is entry {entry.number} of {entry.model}")
        if entry.before != self.head:
            raise Damaged(f"{place} does not follow the one before it: one of them was altered")
        try:
            self.state = follow(self.state, entry)
        except Refused as error:
            raise Damaged(f"{place} cannot follow: {error}") from error
        self.entries.append(entry)
        self.head = digest_of(content)

    def next(self, fact: Fact, now: float, by: str) -> bytes:
        """One more entry, to be kept. Raises Refused."""
        last = self.entries[-1].at if self.entries else now
        number = len(self.entries) + 1
        entry = Entry(model=self.name, number=number, before=self.head, at=max(now, last), by=by, fact=fact)
        follow(self.state, entry)
        return encoded(entry)

    def at(self, moment: float) -> State:
        """The model as it stood then."""
        state = State()
        for entry in self.entries:
            if entry.at > moment:
                break
            state = follow(state, entry)
        return state


def standing(aliases: Mapping[str, tuple[int, ...]], number: int) -> list[str]:
    """The aliases that mean this version."""
    return sorted(alias for alias, stack in aliases.items() if stack and stack[-1] == number)
