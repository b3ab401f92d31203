"""Models that organisations train together: each keeps its data, and sums of gradients travel.

This is the side of the coordinator, which needs no torch: httpx and numpy. A site's is `firstlight.models.site`.
"""

import asyncio
import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np

from ._federated_ask import Asker, Away, Partner, asker
from ._federated_log import ChainedLog, keep
from ._federated_privacy import epsilon
from ._federated_step import State, Steps, begin_state, load_state, save_state, stepped
from ._federated_wire import Answer, Ask, Tensors, Terms, digest_of, norm_of
from ._release import CONFIG, WEIGHTS
from ._token import read_token
from ._weights import read_weights, write_weights

__all__ = [
    "Contribution", "Partner", "Round", "Steps", "Terms", "TooFew", "contributions", "epsilon", "read_token", "release",
    "train", "without",
]  # fmt: skip


class TooFew(Exception):
    """Fewer sites answered than must for a step; who did not, and why. The run goes on with the same round later."""


@dataclass(frozen=True)
class Round:
    """What a round came to. `loss` is the mean over the examples of the sites that tell it, before the step, and
    `validation` that over what they keep back (None where nobody tells). `away` says who was left out, and why."""

    number: int
    sites: tuple[str, ...]
    examples: int
    loss: float | None
    validation: float | None
    away: Mapping[str, str]


@dataclass(frozen=True)
class Contribution:
    """What a site gave to a run: in which rounds, of how many examples (the most in a round), as which digests."""

    rounds: tuple[int, ...] = ()
    examples: int = 0
    groups: int = 0
    digests: tuple[str, ...] = ()
    withdrew: str = ""


@dataclass
class _Run:
    """A run under way, and what each site is known to train."""

    terms: Terms
    steps: Steps
    start: Tensors
    config: str
    state: State
    books: ChainedLog
    joined: dict[str, Tensors] = field(default_factory=dict)
    withdrawn: dict[str, str] = field(default_factory=dict)


def train(
    terms: Terms, steps: Steps, start: Path, partners: Sequence[Partner], folder: Path, *, least_sites: int = 2,
    seconds: float = 600.0, validate: int = 0, report: Callable[[Round], None] = lambda done: None,
    transport: httpx.AsyncBaseTransport | None = None, clock: Callable[[], float] = time.time,
) -> list[Round]:  # fmt: skip
    """Train to the last round of the terms, and give the rounds done now. What `folder` holds of this run is gone on
    with, so it may be killed at any moment.

    `start` is the folder of a release to begin with, which is sent to every site. A site that does not answer within
    `seconds` is left out of that round; with fewer than `least_sites` answers there is no step. Every `validate`
    rounds the sites are asked how good it is (0: never). Raises TooFew; ValueError where the folder is of another run,
    in use or damaged, or two sites have one name.
    """
    if len({p.name for p in partners}) < len(partners):
        raise ValueError(f"partners: two have one name among {', '.join(p.name for p in partners)}")
    if not 1 <= least_sites <= len(partners):
        raise ValueError(f"least_sites must be from 1 to {len(partners)}, the number of partners, not {least_sites}")
    with _held(folder):
        run = _opened(terms, steps, start, folder, clock)
        return asyncio.run(_rounds(run, partners, folder, least_sites, seconds, validate, report, transport, clock))


def contributions(folder: Path) -> dict[str, Contribution]:
    """By site: what it contributed to the run in this folder. Raises ValueError where the ledger was changed."""
    made: dict[str, Contribution] = {}
    for entry in ChainedLog(folder / "ledger.log", reading=True).entries:
        if entry["what"] == "withdrew":
            made[entry["site"]] = replace(made.get(entry["site"], Contribution()), withdrew=entry["why"])
        for site, gave in entry.get("sites", {}).items():
            was = made.get(site, Contribution())
            made[site] = replace(
                was, rounds=(*was.rounds, entry["round"]), digests=(*was.digests, gave["digest"]),
                examples=max(was.examples, gave["examples"]), groups=max(was.groups, gave["groups"]),
            )  # fmt: skip
    return made


def without(folder: Path, site: str) -> tuple[str, ...]:
    """What must be retrained if what this site contributed is to be in nothing: the digests of the released weights
    that it is in, and "the run, from round N" where the run itself goes on from it. () where it is in nothing.

    Raises ValueError where the ledger was changed.
    """
    rounds = contributions(folder).get(site, Contribution()).rounds
    if not rounds:
        return ()
    made = [f"the run, from round {rounds[0]}"]
    for entry in ChainedLog(folder / "ledger.log", reading=True).entries:
        if entry["what"] == "released" and entry["round"] >= rounds[0]:
            made.append(entry["digest"])
    return tuple(made)


def release(folder: Path, start: Path, out: Path, clock: Callable[[], float] = time.time) -> Path:
    """Write the weights as they stand as a release (model.safetensors, config.json): the start's, with what was trained
    in place of what was. Its digest is in the ledger. Raises ValueError where no round is done, or it began elsewhere.
    """
    with _held(folder):
        books = ChainedLog(folder / "ledger.log")
        if not (folder / "state.safetensors").exists() or not (state := load_state(folder / "state.safetensors")).round:
            raise ValueError(f"{folder}: no round is done, there is nothing to release")
        tensors = read_weights(start / WEIGHTS)
        if digest_of(tensors) != books.entries[0]["start"]:
            raise ValueError(f"{start} is not what this run began with")
        out.mkdir(parents=True, exist_ok=True)
        write_weights(out / WEIGHTS, tensors | state.weights)
        config = json.loads((start / CONFIG).read_bytes())
        gave = contributions(folder)
        together = {
            "run": books.entries[0]["run"],
            "rounds": state.round,
            "sites": {n: c.examples for n, c in gave.items()},
        }
        keep(out / CONFIG, json.dumps(config | {"together": together}, indent=1, allow_nan=False).encode())
        digest = hashlib.sha256((out / WEIGHTS).read_bytes()).hexdigest()
        books.append({"at": clock(), "what": "released", "round": state.round, "digest": f"sha256:{digest}"})
    return out


# ------------------------------------------------------------------ a run


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"{folder} is in use by another process") from None
        yield


def _opened(terms: Terms, steps: Steps, start: Path, folder: Path, clock: Callable[[], float]) -> _Run:
    tensors, config = dict(read_weights(start / WEIGHTS)), (start / CONFIG).read_text("utf-8")
    books = ChainedLog(folder / "ledger.log")
    words = {"run": terms.run, "terms": terms, "steps": steps, "start": digest_of(tensors)}
    told: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(words))  # As it comes back from the ledger.
    if not books.entries:
        books.append({"at": clock(), "what": "begun"} | told)
    begun = books.entries[0]
    if other := [name for name, value in told.items() if begun.get(name) != value]:
        raise ValueError(f"{folder} has a run with other {' and '.join(other)}: give it a folder of its own")
    path = folder / "state.safetensors"
    state = load_state(path) if path.exists() else begin_state({})
    if state.closing and not any(e["what"] == "round" and e["round"] == state.round for e in books.entries):
        books.append(state.closing)  # It was killed between the two.
    withdrawn = {e["site"]: e["why"] for e in books.entries if e["what"] == "withdrew"}
    return _Run(terms, steps, tensors, config, state, books, withdrawn=withdrawn)


async def _rounds(
    run: _Run, partners: Sequence[Partner], folder: Path, least: int, seconds: float, validate: int,
    report: Callable[[Round], None], transport: httpx.AsyncBaseTransport | None, clock: Callable[[], float],
) -> list[Round]:  # fmt: skip
    made: list[Round] = []
    async with AsyncExitStack() as stack:
        askers = [await stack.enter_async_context(asker(p, seconds, transport)) for p in partners]
        while run.state.round < run.terms.rounds:
            done = await _round(run, askers, folder, least, validate, clock)
            made.append(done)
            report(done)
    return made


async def _round(
    run: _Run, askers: Sequence[Asker], folder: Path, least: int, validate: int, clock: Callable[[], float]
) -> Round:
    number, away = run.state.round + 1, dict(run.withdrawn)
    asked = [a for a in askers if a.partner.name not in run.withdrawn]
    await _each(run, [a for a in asked if a.partner.name not in run.joined], _join, away, clock)
    _agree(run, away)
    ready = [a for a in asked if a.partner.name in run.joined]
    if run.joined and not run.state.weights:
        run.state = begin_state({n: run.start[n] for n in next(iter(run.joined.values()))})
    found = await _each(run, ready, _gradient, away, clock)
    if len(found) < least:
        who = "; ".join(f"{name}: {why}" for name, why in sorted(away.items()))
        raise TooFew(f"round {number}: {len(found)} of at least {least} sites answered ({who})")
    validation = None
    if validate and (number % validate == 0 or number == run.terms.rounds) and not run.terms.noise:
        # Of the weights before the step, as the loss is; a site that does not tell is left out of this figure only.
        judged = await _each(run, [a for a in ready if a.partner.name in found], _metrics, {}, clock)
        validation = _mean([(a.loss, a.examples) for a, _, _ in judged.values()])
    total = sum(a.groups if run.terms.clip else a.examples for a, _, _ in found.values())
    gradient = {
        n: sum((found[s][1][n].astype(np.float64) for s in sorted(found)), np.zeros(t.shape)) / total
        for n, t in run.state.weights.items()
    }
    state = stepped(run.state, gradient, run.steps, run.terms.rounds)
    loss = _mean([(a.loss, a.examples) for a, _, _ in found.values()])
    state.closing = {
        "at": clock(), "what": "round", "round": number, "loss": loss, "validation": validation,
        "weights": digest_of(run.state.weights), "after": digest_of(state.weights), "away": dict(sorted(away.items())),
        "sites": {
            s: {
                "digest": digest_of(t), "bytes": size, "norm": norm_of(t), "examples": a.examples, "groups": a.groups,
                "loss": a.loss,
            }
            for s, (a, t, size) in sorted(found.items())
        },
    }  # fmt: skip
    save_state(folder / "state.safetensors", state)
    run.books.append(state.closing)
    run.state = state
    return Round(number, tuple(sorted(found)), sum(a.examples for a, _, _ in found.values()), loss, validation, away)


Found = tuple[Answer, Tensors, int]


async def _each(
    run: _Run,
    askers: Sequence[Asker],
    how: Callable[[_Run, Asker], Any],
    away: dict[str, str],
    clock: Callable[[], float],
) -> dict[str, Found]:
    """Ask all of them at once; who does not answer is in `away`, and who has withdrawn is not asked again."""
    found: dict[str, Found] = {}
    for one, told in zip(
        askers, await asyncio.gather(*(how(run, a) for a in askers), return_exceptions=True), strict=True
    ):
        name = one.partner.name
        if isinstance(told, Away):
            away[name] = told.why
            if told.status == 404:
                run.joined.pop(name, None)  # It has lost what it knew: it is asked to join again.
            if told.status == 410:
                run.withdrawn[name] = told.why
                run.books.append({"at": clock(), "what": "withdrew", "site": name, "why": told.why})
        elif isinstance(told, BaseException):
            raise told
        else:
            found[name] = told
    return found


async def _join(run: _Run, one: Asker) -> Found:
    made = await one.ask(Ask(what="join", terms=run.terms, config=run.config), run.start, None, digest_of(run.start))
    run.joined[one.partner.name] = made[1]
    return made


async def _gradient(run: _Run, one: Asker) -> Found:
    ask = Ask(what="gradient", terms=run.terms, round=run.state.round + 1)
    return await one.ask(ask, run.state.weights, run.state.weights, digest_of(run.state.weights))


async def _metrics(run: _Run, one: Asker) -> Found:
    ask = Ask(what="metrics", terms=run.terms, round=run.state.round + 1)
    return await one.ask(ask, run.state.weights, {}, digest_of(run.state.weights))


def _agree(run: _Run, away: dict[str, str]) -> None:
    """Every site must train the same parameters, which the start has; one that does not is left out."""
    wanted = run.state.weights
    for name in sorted(run.joined):
        own = run.joined[name]
        known = all(n in run.start and run.start[n].shape == t.shape for n, t in own.items())
        if not wanted:
            wanted = own if known else {}
        if not known or {n: t.shape for n, t in own.items()} != {n: t.shape for n, t in wanted.items()}:
            away[name] = "it trains other parameters than the start has, or than the other sites"
            del run.joined[name]


def _mean(told: Sequence[tuple[float | None, int]]) -> float | None:
    """The mean of what is told, by number of examples."""
    known = [(value, count) for value, count in told if value is not None and np.isfinite(value)]
    return sum(v * n for v, n in known) / sum(n for _, n in known) if known else None
