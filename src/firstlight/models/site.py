"""A site that trains a model together with others: its data stay, and sums of gradients leave, as its policy allows.

It needs fastapi, uvicorn and torch.
"""

import asyncio
import fcntl
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response

from ._family import Family, Item
from ._federated_learn import Learner
from ._federated_log import ChainedLog, keep
from ._federated_privacy import epsilon, noised
from ._federated_wire import MEDIA_TYPE, Answer, Ask, Tensors, Terms, digest_of, norm_of, pack, unpack
from ._release import CONFIG, WEIGHTS
from ._serve_guard import bearer, body_of, run_server
from ._spec import Split
from ._token import read_token
from ._weights import packed

__all__ = ["Ask", "Site", "SiteRules", "Terms", "app", "only_runs", "read_token", "serve"]

_log = logging.getLogger(__name__)
Allow = Callable[[Ask], tuple[bool, str]]


class Refused(Exception):
    """What was asked is not answered: an HTTP status, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


def not_enrolled(ask: Ask) -> tuple[bool, str]:
    """The policy of a site that has taken part in nothing yet."""
    return False, f"this site is not enrolled in the run {ask.terms.run!r}"


def only_runs(*runs: Terms) -> Allow:
    """A policy that allows these runs on these very terms, and nothing else."""

    def allow(ask: Ask) -> tuple[bool, str]:
        known = {t.run: t for t in runs}
        if ask.terms.run not in known:
            return not_enrolled(ask)
        # As they travel: a tuple of options comes as a list.
        if msgspec.json.encode(ask.terms) != msgspec.json.encode(known[ask.terms.run]):
            return False, f"the terms of {ask.terms.run!r} are not those that this site agreed to"
        return True, "enrolled"

    return allow


@dataclass(frozen=True)
class SiteRules:
    """What no policy may allow. A sum over fewer than `least_groups` groups (campaigns) says too much of each of them;
    noise must be at least `least_noise`. `split` keeps examples back for validation and for a test of the site's own.
    """

    least_groups: int = 5
    least_noise: float = 0.0
    split: Split = field(default_factory=Split)


_RULES = SiteRules()


class Site:
    """One organisation's side: its files, the manifest that it chose, its policy, its log.

    `folder` keeps the log (`site.log`), what was answered last, and the secret from which noise is drawn; one process
    at a time has it. `families` are the kinds of models that may be trained here, by name. Raises ValueError where the
    folder is in use, or its log was changed.
    """

    def __init__(
        self, name: str, folder: Path, items: Sequence[Item], files: Sequence[Path],
        families: Mapping[str, Callable[..., Any]], *, allow: Allow = not_enrolled, rules: SiteRules = _RULES,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.name, self._folder, self._items, self._files = name, folder, items, files
        self._families, self._allow, self._rules, self._clock = families, allow, rules, clock
        folder.mkdir(parents=True, exist_ok=True)
        self._held = (folder / "lock").open("w")
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._held.close()
            raise ValueError(f"{folder} is in use by another process") from None
        try:
            self._books = ChainedLog(folder / "site.log")
        except BaseException:
            self._held.close()
            raise
        self._learners: dict[str, Learner] = {}
        self._one = threading.Lock()
        if not (folder / "secret").exists():
            keep(folder / "secret", secrets.token_bytes(32), 0o600)
        self._secret = (folder / "secret").read_bytes()

    def close(self) -> None:
        """Let another process have the folder."""
        self._held.close()

    @property
    def withdrawn(self) -> str:
        """Why the site takes no part any more, "" while it does."""
        path = self._folder / "withdrawn"
        return (path.read_text("utf-8") or "it withdrew") if path.exists() else ""

    def withdraw(self, why: str) -> None:
        """Refuse everything from now on. It is not undone from outside: a person removes the file `withdrawn`."""
        with self._one:
            keep(self._folder / "withdrawn", why.encode())
            self._books.append({"at": self._clock(), "what": "withdraw", "why": why})

    def contributed(self, delta: float = 1e-5) -> dict[str, dict[str, Any]]:
        """By run: the rounds answered, how many examples, the digests of what left, and the epsilon spent (None where
        there was no noise: then nothing is claimed)."""
        made: dict[str, dict[str, Any]] = {}
        for e in self._books.entries:
            if e["what"] == "gradient" and e["answered"] and not e["again"]:
                of = made.setdefault(e["run"], {"rounds": [], "digests": [], "examples": 0, "noise": e["noise"]})
                of["rounds"].append(e["round"])
                of["digests"].append(e["answer"]["digest"])
                of["examples"] = max(of["examples"], e["answer"]["examples"])
        for of in made.values():
            noise = of.pop("noise")
            of["epsilon"], of["delta"] = (epsilon(noise, len(of["rounds"]), delta), delta) if noise else (None, None)
        return made

    def ask(self, body: bytes) -> bytes:
        """The answer to a request. Every one is in the log, with what left, before this returns or raises Refused."""
        with self._one:
            try:
                ask, tensors = unpack(body, Ask)
            except ValueError as error:
                raise Refused(422, str(error)) from error
            told = {
                "at": self._clock(), "what": ask.what, "run": ask.terms.run, "round": ask.round,
                "noise": ask.terms.noise, "clip": ask.terms.clip,
                "request": {"digest": digest_of(tensors), "bytes": len(body)},
            }  # fmt: skip
            try:
                told["allowed"] = self._judge(ask)
                made, again = self._answer(ask, tensors)
            except Refused as refused:
                self._books.append(told | {"answered": False, "why": refused.why})
                raise
            except Exception as error:
                self._books.append(told | {"answered": False, "why": f"{type(error).__name__}: {error}"})
                if isinstance(error, ValueError):
                    # What it says may name columns and values: it stays here.
                    why = "what was asked and the data here do not go together: the site's own log says why"
                    raise Refused(422, why) from error
                raise
            answer, sums = unpack(made, Answer)
            left = {"digest": digest_of(sums), "bytes": len(made), "norm": norm_of(sums)}
            left |= {"examples": answer.examples, "groups": answer.groups, "loss": answer.loss}
            # After a crash the answer may be kept and not yet in the log: then it has not left, and is new.
            again = again and self._logged(ask)
            self._books.append(told | {"answered": True, "again": again, "answer": left})
            return made

    def _judge(self, ask: Ask) -> str:
        """Why it is allowed. Raises Refused."""
        if why := self.withdrawn:
            raise Refused(410, f"{self.name} has withdrawn: {why}")
        if ask.terms.noise < self._rules.least_noise:
            raise Refused(403, f"{self.name} answers with noise of at least {self._rules.least_noise:g} only")
        allowed, why = self._allow(ask)
        if not allowed:
            raise Refused(403, why)
        return why

    def _answer(self, ask: Ask, tensors: Tensors) -> tuple[bytes, bool]:
        """The answer, and whether it is the one that was made before."""
        if ask.what == "join":
            return self._join(ask, tensors), False
        here = self._folder / "runs" / ask.terms.run
        if not (here / "terms.json").exists():
            raise Refused(404, f"{self.name} has not joined the run {ask.terms.run!r}")
        if ask.terms != msgspec.json.decode((here / "terms.json").read_bytes(), type=Terms):
            raise Refused(409, f"the terms of {ask.terms.run!r} are not those with which it began")
        if not 1 <= ask.round <= ask.terms.rounds:
            raise Refused(422, f"round: it must be from 1 to {ask.terms.rounds}, not {ask.round}")
        told = Answer(run=ask.terms.run, round=ask.round, site=self.name, weights=digest_of(tensors))
        if ask.what == "metrics":
            return self._metrics(ask, tensors, told), False
        if (here / "answer.safetensors").exists():
            kept = (here / "answer.safetensors").read_bytes()
            before, _ = unpack(kept, Answer)
            if ask.round < before.round or (ask.round == before.round and told.weights != before.weights):
                raise Refused(
                    409, f"round {before.round} was answered: rounds go forward, each with one set of weights"
                )
            if ask.round == before.round:
                return kept, True
        made = self._gradient(ask.terms, tensors, told)
        keep(here / "answer.safetensors", made)
        return made, False

    def _join(self, ask: Ask, tensors: Tensors) -> bytes:
        here = self._folder / "runs" / ask.terms.run
        start, terms = here / "start", here / "terms.json"
        files = {start / WEIGHTS: packed(tensors), start / CONFIG: ask.config.encode()}
        files[terms] = msgspec.json.encode(ask.terms)
        if terms.exists() and any(path.read_bytes() != data for path, data in files.items()):
            raise Refused(409, f"the run {ask.terms.run!r} began with other terms or another model")
        start.mkdir(parents=True, exist_ok=True)
        if not terms.exists():
            self._learners.pop(ask.terms.run, None)  # Made for a join that was refused.
            for path in (start / WEIGHTS, start / CONFIG):
                keep(path, files[path])
        learner = self._learner(ask.terms)
        self._enough(learner.groups)
        keep(terms, files[terms])
        told = Answer(
            run=ask.terms.run, round=0, site=self.name, weights=digest_of(tensors), examples=learner.examples,
            groups=learner.groups,
        )  # fmt: skip
        return pack(told, learner.trained)

    def _gradient(self, terms: Terms, weights: Tensors, told: Answer) -> bytes:
        made = self._learner(terms).gradient(weights, terms, told.round)
        self._enough(made.groups)
        sums, loss = made.sums, None if terms.noise else made.loss
        if terms.noise:
            # Bound to these very terms, data and weights: the same noise never hides two sums.
            bound = (terms, told.round, told.weights, [(item.path, item.digest) for item in self._items])
            key = self._secret + msgspec.json.encode(bound)
            sums = noised(sums, terms.noise * terms.clip, key)
        told = msgspec.structs.replace(told, examples=made.examples, groups=made.groups, loss=loss)
        return pack(told, {n: t.astype(np.float32) for n, t in sums.items()})

    def _metrics(self, ask: Ask, weights: Tensors, told: Answer) -> bytes:
        if ask.terms.noise:
            raise Refused(403, "where noise hides what a group adds, no figure is told that would show it")
        learner = self._learner(ask.terms)
        self._enough(learner.groups)
        return pack(msgspec.structs.replace(told, examples=learner.held, loss=learner.validate(weights)), {})

    def _learner(self, terms: Terms) -> Learner:
        if terms.run not in self._learners:
            if terms.family not in self._families:
                raise Refused(403, f"{self.name} trains no {terms.family!r}; it has: {', '.join(self._families)}")
            family: Family = self._families[terms.family](**terms.options)
            start = self._folder / "runs" / terms.run / "start"
            self._learners[terms.run] = Learner(
                family, self._items, self._files, self._rules.split, start, terms.seed
            )  # fmt: skip
        return self._learners[terms.run]

    def _enough(self, groups: int) -> None:
        if groups < self._rules.least_groups:
            raise Refused(
                403, f"{groups} groups are too few: {self.name} answers for at least {self._rules.least_groups}"
            )

    def _logged(self, ask: Ask) -> bool:
        return any(
            e["what"] == "gradient" and e["answered"] and (e["run"], e["round"]) == (ask.terms.run, ask.round)
            for e in self._books.entries
            if "answered" in e
        )


def app(site: Site, *, token: str = "", owner_token: str = "", most_bytes: int = 256 * 1024 * 1024) -> FastAPI:
    """The application of a site. The coordinator has `token`; `POST /withdraw` is for who has `owner_token` only, and
    is not there without one."""
    coordinator = APIRouter(dependencies=[Depends(bearer(token))])
    owner = APIRouter(dependencies=[Depends(bearer(owner_token))])

    @coordinator.get("/site", summary="Who this is, and whether it takes part")
    def shown() -> dict[str, str]:
        return {"site": site.name, "withdrawn": site.withdrawn}

    @coordinator.post("/ask", summary="Join a run, or answer for a round: safetensors in and out")
    async def ask(request: Request) -> Response:
        body = await body_of(request, most_bytes, MEDIA_TYPE)
        try:
            return Response(await asyncio.to_thread(site.ask, body), media_type=MEDIA_TYPE)
        except Refused as refused:
            raise HTTPException(refused.status, refused.why) from None
        except Exception:  # noqa: BLE001  What went wrong inside may hold what must not leave.
            _log.exception("a request could not be answered")
            raise HTTPException(500, "the site failed; its own log says why") from None

    @owner.post("/withdraw", summary="Take no part any more", openapi_extra=_WHY)
    async def withdraw(request: Request) -> dict[str, str]:
        why = (await body_of(request, 4096, "text/plain")).decode("utf-8", "replace")
        await asyncio.to_thread(site.withdraw, why)
        return {"withdrawn": why}

    made = FastAPI(title=f"Firstlight: the site {site.name}", docs_url=None, redoc_url=None)
    made.include_router(coordinator)
    if owner_token:
        made.include_router(owner)
    return made


def serve(
    site: Site, host: str = "127.0.0.1", port: int = 0, *, token: str = "", owner_token: str = "",
    started: Callable[[str], None] = print,
) -> None:  # fmt: skip
    """Serve until SIGINT or SIGTERM. Raises ValueError where others could come in without a token, and OSError."""
    run_server(app(site, token=token, owner_token=owner_token), host, port, token, started)


_WHY = {"requestBody": {"required": True, "content": {"text/plain": {"example": "the agreement has ended"}}}}
