"""The registry of models: versions that never change, what each alias means, and who said so when.

A history a model, of entries that are only ever added: `models/<name>/<number>.json`. The files of a version are in the
catalog under its record's id, and are verified whenever they are loaded.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

import msgspec
from msgspec.structs import replace

from ._family import Item
from ._registry_facts import (
    PRODUCTION,
    Chain,
    Damaged,
    Entry,
    Fact,
    Promoted,
    Refused,
    Registered,
    Restored,
    Revocation,
    RolledBack,
    Shadowed,
    State,
    Version,
    Withdrawn,
    digest_of,
    standing,
)
from ._registry_gate import Check, Compared, Verdict, in_the_shadow, judged
from ._registry_links import Lineage, Touched, Use, before, lineage_of, touched_by
from ._registry_ports import Documents, Kept, Shelf, Shunned
from ._registry_release import check_digest, digest_of_file, family_of, release_files
from ._release import CONFIG, WEIGHTS
from ._report import REPORT, Compute, Curve, Parameters, Report, read_report, write_report
from ._spec import Gate, TrainSpec
from .card import CARD, card, licence_of

__all__ = [
    "CONFIG", "NEWEST", "PRODUCTION", "REPORT", "WEIGHTS", "Check", "Compared", "Compute", "Curve", "Damaged",
    "Documents", "Entry", "Fact", "Gate", "Kept", "Lineage", "Parameters", "Promoted", "Refused", "Registered",
    "Registry", "Report", "Restored", "Revocation", "Revoked", "RolledBack", "Shadowed", "Shelf", "Shunned", "State",
    "Touched", "Use", "Verdict", "Version", "Withdrawn", "read_report", "standing", "write_report",
]  # fmt: skip

NEWEST = "newest"
"""What stands for the newest version that is not revoked, beside the aliases that people give."""
_RECORD = re.compile(r"([^:@/\s]+)@[0-9a-f]{12}")
_ALIAS = re.compile(r"[a-z][a-z0-9_-]*")


class Revoked(LookupError):
    """A version that is not to be used any more."""

    def __init__(self, version: Version, said: Revocation) -> None:
        self.version, self.said = version, said
        when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(said.at))
        super().__init__(f"{version.id} was revoked by {said.by} on {when} UTC: {said.reason}")


class Registry:
    """All models of one catalog. `releases` is a directory of this machine, where versions lie as families load them.

    Several processes may use one at once: of two that write the same entry of a history one is told to look again.
    """

    def __init__(
        self, documents: Documents, shelf: Shelf, releases: Path, clock: Callable[[], float] = time.time
    ) -> None:  # fmt: skip
        self._documents, self.shelf, self._releases, self._clock = documents, shelf, releases, clock
        self._chains = dict[str, Chain]()

    # ------------------------------------------------------------------ what there is

    def names(self) -> list[str]:
        """All models, in order."""
        return sorted({name.split("/")[1] for name in self._documents.names("models")})

    def state(self, name: str) -> State:
        """A model as it stands. Raises LookupError where there is none, Damaged."""
        return self._known(name).state

    def history(self, name: str) -> list[Entry]:
        """All that has happened to a model. Raises LookupError, Damaged."""
        return list(self._known(name).entries)

    def verify(self, name: str) -> str:
        """Read a history again from its first entry; the digest of the last one, which covers all before it.

        Raises LookupError, Damaged.
        """
        self._chains.pop(name, None)
        return self._known(name).head

    def versions(self, name: str) -> list[Version]:
        """All versions of a model, the first one first. Raises LookupError, Damaged."""
        return list(self.state(name).versions.values())

    def every(self) -> Iterator[Version]:
        """All versions of all models. Raises Damaged."""
        for name in self.names():
            yield from self.versions(name)

    def readable(self) -> tuple[list[Version], dict[str, str]]:
        """All versions of the models whose history can be read, and by name why that of the others cannot."""
        found, damaged = list[Version](), dict[str, str]()
        for name in self.names():
            try:
                found += self.versions(name)
            except Damaged as error:
                damaged[name] = str(error)
        return found, damaged

    def resolve(self, text: str) -> Version:
        """The version that is meant: `name:3`, `name@alias`, `name@newest`, or the id of its record.

        A bare name is what is in production, or the newest one that is not revoked while nothing is. Whether it may be
        loaded is another question (`load_checked`). Raises LookupError saying what there is, Damaged.
        """
        if found := _RECORD.fullmatch(text):
            if version := next((v for v in self.versions(found[1]) if v.made.record == text), None):
                return version
            raise LookupError(f"no version of {found[1]} has the record {text}")
        name, mark, which = re.fullmatch(r"([^:@]*)([:@]?)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
        state = self.state(name)
        if mark == ":":
            if not which.isdecimal() or int(which) not in state.versions:
                raise LookupError(f"there is no version {which} of {name}; there are: {_numbers(state)}")
            return state.versions[int(which)]
        alias = which if mark else PRODUCTION
        if (number := state.means(alias)) is not None:
            return state.versions[number]
        if mark and alias != NEWEST:
            said = ", ".join(sorted(state.aliases)) or "none"
            raise LookupError(f"no version of {name} is in {alias}; there are: {said}")
        usable = [v for v in state.versions.values() if v.revoked is None]
        if not usable:
            raise LookupError(f"every version of {name} is revoked")
        return usable[-1]

    def production(self, name: str, alias: str = PRODUCTION) -> Version | None:
        """What an alias of a model means; None where it means nothing yet. Raises LookupError, Damaged."""
        state = self.state(name)
        number = state.means(alias)
        return None if number is None else state.versions[number]

    def at(self, name: str, moment: float, alias: str = PRODUCTION) -> Version | None:
        """Which version an alias meant at a time (seconds since 1970 UTC), as that version stood then; None where it
        meant none. Raises LookupError, Damaged."""
        state = self._known(name).at(moment)
        number = state.means(alias)
        return None if number is None else state.versions[number]

    def lineage(self, version: Version) -> Lineage:
        """From the data to the run, the model, what was made from it, and the campaigns and trials that used it."""
        every, damaged = self.readable()
        return lineage_of(version, every, self.shelf.derived, damaged.values())

    def touched(self, id: str) -> list[Touched]:
        """The versions that something has reached (a dataset, a model): trained on it, or on something made from it, or
        fine-tuned from one that was, however long the chain; each with the way. Of what is damaged it does not tell
        (`readable` does)."""
        return touched_by(id, self.readable()[0], self.shelf.derived)

    # ------------------------------------------------------------------ a version comes into being

    def register(self, folder: Path, spec: TrainSpec, by: str, order: str = "") -> Version:
        """Make a release (model.safetensors, config.json, report.json) the next version, with a card of what is known
        of it, where it has none. The same release again is the version that it was.

        Raises ValueError where the release is not as it should be, or says another name, family or parent than the
        specification, or where the licence in that drops a condition of its data's, of its parent's or of the weights
        that it began with; LookupError for a parent that is not there; Refused where its weights were revoked.
        """
        report = read_report(folder)
        files: dict[str, Path | bytes] = dict(release_files(folder))
        if (said := family_of(folder)) != spec.family or (report.name, report.family) != (spec.name, spec.family):
            raise ValueError(
                f"{folder}: asked for was {spec.name} of the family {spec.family}; the release says "
                f"{report.name} of {report.family}, and its config.json {said}"
            )
        parent = self.resolve(report.parent) if report.parent else None
        spec = replace(spec, licence=licence_of(report, spec, parent))
        verdict = judged(
            spec.gate, report.metric, report.scores, parent=parent.id if parent else "",
            parent_scores=report.parent_scores, baselines=report.baselines, forgetting=report.forgetting,
        )  # fmt: skip
        files.setdefault(CARD, card(report, spec, verdict, parent).encode())
        made = _registered(spec, report, files, verdict, parent, order)
        told = Kept(
            name=spec.name, title=spec.title or spec.name, description=spec.description, licence=made.licence,
            family=spec.family, used=(*made.data, *([parent.made.record] if parent else [])),
            synthetic=any(item.synthetic for item in report.data), software=report.software,
        )  # fmt: skip
        return self.admit(told, made, files, by)

    def admit(self, told: Kept, made: Registered, files: Mapping[str, Path | bytes], by: str) -> Version:
        """Keep a release, and then say that it is a version, under the next number. A crash in between leaves a record
        that nobody calls a version; the next attempt finds it. Raises Refused where its weights were revoked."""
        made = replace(made, record=self.shelf.keep(told, files))
        while True:
            chain = self._chain(told.name)
            if known := next((v for v in chain.state.versions.values() if v.made.record == made.record), None):
                return known
            self._check_weights(made.files.get(WEIGHTS, ""), made.record)
            number = len(chain.state.versions) + 1
            if self._write(chain, replace(made, version=number), by):
                return chain.state.versions[number]

    # ------------------------------------------------------------------ what people say of it

    def verdict(self, version: Version, alias: str = PRODUCTION) -> Verdict:
        """Whether a version may be promoted now: what its gate asked before it was trained, beside the version in
        production, and whether the ones that it was made from are still to be used. Raises Damaged."""
        version = self._fresh(version)
        production = self.production(version.name, alias)
        beside = production.id if production is not None and production.number != version.number else ""
        seen = [s.compared for s in version.shadows if production is not None and s.against == production.number]
        lost = (Check(passed=False, why=why) for why in self.lost(version))
        checks = (*version.made.verdict.checks, *in_the_shadow(version.made.gate, beside, seen), *lost)
        return replace(version.made.verdict, checks=checks)

    def lost(self, version: Version) -> list[str]:
        """Of what a version was made from, however long ago: what is revoked here, or was heard to be, and what may be,
        because its history is damaged; a sentence each."""
        every, damaged = self.readable()
        here = {v.made.record: v for v in every}
        heard = {one.record: one.reason for one in self._heard()}
        found = list[str]()
        for record in before(version, every):
            one = here.get(record)
            if one is not None and one.revoked is not None:
                found.append(f"it was made from {one.id}, which is revoked: {one.revoked.reason}")
            elif one is None and record in heard:
                found.append(f"it was made from {record}, which is revoked: {heard[record]}")
            elif one is None and (why := damaged.get(record.partition("@")[0])):
                found.append(f"it was made from {record}, and whether that is revoked cannot be told: {why}")
        return found

    def promote(
        self, version: Version, by: str, why: str = "", *, alias: str = PRODUCTION, answered: str = "",
        force: bool = False,
    ) -> Version:  # fmt: skip
        """Have an alias mean this version. `answered` is the person who has said yes to what its gate asks. `force`
        promotes it against the verdict, with `why`, and that is recorded as such. What it means already is left as is.

        Raises Refused with every reason, Damaged.
        """
        if alias == NEWEST or not _ALIAS.fullmatch(alias):
            raise ValueError(f"{alias!r} cannot be an alias: small letters, digits, - and _, and not {NEWEST!r}")

        def fact(state: State) -> Fact | None:
            if state.means(alias) == version.number and state.versions[version.number].revoked is None:
                return None
            verdict = self.verdict(state.versions[version.number], alias)
            return Promoted(
                version=version.number, evidence=verdict, alias=alias, why=why, answered=answered,
                forced=force and not verdict.passed,
            )  # fmt: skip

        return self._say(version, fact, by)

    def shadowed(self, version: Version, against: Version, compared: Compared, by: str) -> Version:
        """Note how a candidate predicted trials that another version served. Raises Refused, Damaged."""
        if version.name != against.name or compared.trials < 1:
            raise Refused(f"{version.id} cannot be held against {against.id} on {compared.trials} trials")
        fact = Shadowed(version=version.number, against=against.number, compared=compared)
        return self._say(version, lambda _: fact, by)

    def roll_back(self, name: str, by: str, why: str = "", alias: str = PRODUCTION) -> Version:
        """Have an alias mean again what it meant before, what is revoked left out; that version.

        Raises LookupError, Refused where there is nothing to go back to.
        """
        found = list[int]()

        def fact(state: State) -> Fact:
            left, stack = state.means(alias), state.before(alias)
            if left is None or not stack:
                raise Refused(f"{name}@{alias} has nothing to go back to")
            found[:] = [stack[-1]]
            return RolledBack(version=stack[-1], left=left, alias=alias, why=why)

        self._append(name, fact, by)
        return self.state(name).versions[found[0]]

    def revoke(self, version: Version, reason: str, by: str, said: str = "") -> Version:
        """Say that a version is not to be loaded any more; nothing is deleted. Raises Refused, Damaged."""
        return self._say(version, lambda _: Withdrawn(version=version.number, reason=reason, said=said), by)

    def restore(self, version: Version, reason: str, by: str) -> Version:
        """Take that back. Raises Refused, Damaged."""
        return self._say(version, lambda _: Restored(version=version.number, reason=reason), by)

    # ------------------------------------------------------------------ what is loaded

    def load_checked(self, version: Version) -> Path:
        """The folder of a version for `Family.load`, once it is sure that it is not revoked, and that every file is
        what it was when it was registered. Raises Revoked, Damaged, OSError."""
        version = self._fresh(version)
        if version.revoked is not None:
            raise Revoked(version, version.revoked)
        folder = self._releases / version.made.record
        try:
            kept = self.shelf.files(version.made.record)
        except LookupError as error:
            raise Damaged(f"{version.id}: its record {version.made.record} is not in the catalog") from error
        if wrong := set(kept) ^ set(version.made.files):
            raise Damaged(f"{version.id}: the catalog and the registry disagree about {', '.join(sorted(wrong))}")
        for path, digest in version.made.files.items():
            check_digest(f"{version.id}: {path}", kept[path], digest)
            _link(folder / path, kept[path])
        if extra := {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()} - set(kept):
            raise Damaged(f"{folder} has files that are not of {version.id}: {', '.join(sorted(extra))}")
        return folder

    # ------------------------------------------------------------------ what other sites revoke

    def shun(self, told: Shunned, by: str) -> list[Version]:
        """Hear that another site has revoked something: the versions here that are revoked by it now. What is not here
        is remembered, and refused when it comes. Heard again, it revokes what was restored since. What is damaged here
        is not loaded anyway."""
        name = digest_of(f"{told.record}\n{told.weights}".encode()).removeprefix("sha256:")
        self._documents.create(f"revocations/{name}.json", msgspec.json.encode(told, order="deterministic"))
        hit = list[Version]()
        for version in self.readable()[0]:
            same = told.record == version.made.record or told.weights == version.made.files.get(WEIGHTS)
            if same and version.revoked is None:
                hit.append(self.revoke(version, told.reason, by, said=told.by))
        return hit

    def revoked(self) -> list[Shunned]:
        """All that is revoked here, or was heard to be, once each."""
        own = [
            Shunned(
                record=v.made.record, weights=v.made.files.get(WEIGHTS, ""), reason=v.revoked.reason, by=v.revoked.by,
                at=v.revoked.at,
            )
            for v in self.every() if v.revoked is not None
        ]  # fmt: skip
        known = {(one.record, one.weights) for one in own}
        return [*own, *(one for one in self._heard() if (one.record, one.weights) not in known)]

    def _heard(self) -> Iterator[Shunned]:
        for name in self._documents.names("revocations"):
            yield msgspec.json.decode(self._documents.read(name), type=Shunned)

    def _check_weights(self, weights: str, record: str) -> None:
        """Raises Refused where these weights are revoked, under whatever name."""
        for one in self.revoked():
            if one.record == record or one.weights == weights:
                raise Refused(f"these weights were revoked by {one.by} as {one.record}: {one.reason}")

    # ------------------------------------------------------------------ the histories

    def _known(self, name: str) -> Chain:
        chain = self._chain(name)
        if not chain.entries:
            near = get_close_matches(name, self.names(), 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise LookupError(f"there is no model {name!r}{hint}")
        return chain

    def _chain(self, name: str) -> Chain:
        """The history of a model as far as it goes now."""
        if not name or set(name) & set(":@/\\ \t\n") or name.startswith("."):
            raise LookupError(f"a model cannot be called {name!r}")
        chain = self._chains.get(name)
        if chain is None:
            chain = Chain(name)
            there = self._documents.names(f"models/{name}")
            for number, place in enumerate(there, 1):
                if place != _place(name, number):
                    raise Damaged(f"entry {number} of model {name} is missing")
                chain.take(self._documents.read(place))
            self._chains[name] = chain
        while True:
            try:
                content = self._documents.read(_place(name, len(chain.entries) + 1))
            except FileNotFoundError:
                return chain
            chain.take(content)

    def _write(self, chain: Chain, fact: Fact, by: str) -> bool:
        """Whether the next entry is this one; if not, somebody was quicker. Raises Refused."""
        content = chain.next(fact, self._clock(), by)
        if not self._documents.create(_place(chain.name, len(chain.entries) + 1), content):
            return False
        chain.take(content)
        return True

    def _append(self, name: str, fact: Callable[[State], Fact | None], by: str) -> None:
        while True:
            chain = self._known(name)
            said = fact(chain.state)
            if said is None or self._write(chain, said, by):
                return

    def _say(self, version: Version, fact: Callable[[State], Fact | None], by: str) -> Version:
        self._append(version.name, fact, by)
        return self._fresh(version)

    def _fresh(self, version: Version) -> Version:
        """A version as it stands now."""
        return self.state(version.name).versions[version.number]


def _place(name: str, number: int) -> str:
    return f"models/{name}/{number:08d}.json"


def _numbers(state: State) -> str:
    return ", ".join(map(str, state.versions)) or "none"


def _registered(
    spec: TrainSpec, report: Report, files: Mapping[str, Path | bytes], verdict: Verdict, parent: Version | None,
    order: str,
) -> Registered:  # fmt: skip
    digests = {p: digest_of(f) if isinstance(f, bytes) else digest_of_file(f) for p, f in files.items()}
    return Registered(
        version=0, record="", files=digests, family=spec.family, metric=report.metric, scores=report.scores,
        gate=spec.gate, verdict=verdict, data=tuple(dict.fromkeys(item.dataset for item in report.data)),
        manifest=manifest_digest(report.data), order=order or report.order,
        parent=parent.made.record if parent else "", parent_scores=report.parent_scores, baselines=report.baselines,
        forgetting=report.forgetting, licence=spec.licence, spec=msgspec.to_builtins(spec),
    )  # fmt: skip


def manifest_digest(items: Iterable[Item]) -> str:
    """The digest of a frozen manifest: that of its files' datasets, paths and digests, whatever their order."""
    lines = sorted(f"{item.digest}  {item.dataset}  {item.path}\n" for item in items)
    return digest_of("".join(lines).encode())


def _link(link: Path, to: Path) -> None:
    """Have a path lead to a file; one that leads there already is left."""
    to = to.resolve()
    if link.is_symlink() and link.readlink() == to:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    private = link.with_name(f".{link.name}-{time.time_ns()}")
    private.symlink_to(to)
    private.replace(link)
