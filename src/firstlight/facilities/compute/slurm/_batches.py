"""Submissions that come together go together: one sbatch for all jobs of a kind, each remembered before it is asked.

    batches/<name>/list    a line a job: how often its action has now been submitted, and its run directory's name
    batches/<name>/job.sh  the script that sbatch was given
    batches/<name>/<n>.out what Slurm and the script of the n-th job printed; job-<number>.out in its run directory

The name of a batch is the name of its jobs, and its own: with a job's place in it, it is the job's identity.
"""

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Sequence
from pathlib import Path

from ....core import Failure, Permit, Unavailable
from .._rundir import RunDirectory, replace_file
from ._commands import Refused, ask, place_of
from ._script import BadAttribute, Site, body, options, script

AT_ONCE = 2
"""How many sbatch run at once; what comes meanwhile waits for the next."""


class _Asked:
    """An action that is to be submitted, and whether that is known to have been done."""

    def __init__(self, run: RunDirectory, permit: Permit, kind: tuple[tuple[str, ...], str]) -> None:
        self.run, self.action, self.kind = run, permit.action, kind
        self.path: Path | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def forget(self, error: Unavailable | None = None) -> None:
        """It was not asked for after all."""
        if self.path is not None:
            self.path.unlink()
            self.path = None
        if error is not None:
            self.done.set_exception(error)
            self.done.exception()  # Whoever has asked may be gone.


class Batches:
    """Submits actions. `largest` is how many jobs an array has at most; 1 makes none."""

    def __init__(self, site: Site, largest: int) -> None:
        self._site, self._largest = site, largest
        self._waiting: list[_Asked] = []
        self._running = asyncio.Semaphore(AT_ONCE)
        self.prefix = f"fl-{hashlib.sha256(str(site.root).encode()).hexdigest()[:10]}-"

    async def submit(self, run: RunDirectory, permit: Permit) -> None:
        """Have Slurm asked for a job, once; a refusal for good is the action's outcome.

        Raises Unavailable where it was certainly not accepted and may be another time. Where nobody knows, it returns:
        the job is looked for by its name.
        """
        try:
            kind = (tuple(options(self._site, permit.action)), body(self._site, permit.action))
        except BadAttribute as error:
            run.commit(Failure(cause="invalid-input", message=str(error)))
            return
        asked = _Asked(run, permit, kind)
        self._waiting.append(asked)
        try:
            async with self._running:
                if asked in self._waiting:
                    batch = [one for one in self._waiting if one.kind == kind][: self._largest]
                    if asked not in batch:
                        batch = [asked, *batch[:-1]]
                    self._waiting = [one for one in self._waiting if one not in batch]
                    await self._send(batch)
            await asyncio.shield(asked.done)
        finally:
            if asked in self._waiting:
                self._waiting.remove(asked)

    async def _send(self, batch: Sequence[_Asked]) -> None:
        """Submit them; each of them knows afterwards."""
        try:
            await self._sbatch(batch)
        except Refused as error:
            if error.accepted is not None:
                await self._not_accepted(batch, error)
        except (Unavailable, OSError) as error:
            for one in batch:
                one.forget(Unavailable(f"it cannot be submitted: {error}"))
        finally:
            for one in batch:
                if not one.done.done():
                    one.done.set_result(None)

    async def _sbatch(self, batch: Sequence[_Asked]) -> None:
        name = self.prefix + secrets.token_hex(6)
        place, (chosen, rest) = self._site.root / "batches" / name, batch[0].kind
        await asyncio.to_thread(self._write, place, batch, rest)
        # One after the other in a thread each: they wait for the disk.
        await asyncio.gather(
            *(asyncio.to_thread(_remember, one, place_of(name, str(n))) for n, one in enumerate(batch))
        )
        single = len(batch) == 1
        said = batch[0].action.id if single else f"{batch[0].action.id} and {len(batch) - 1} more"
        out = str(place).replace("\\", "\\\\").replace("%", "%%") + ("/0.out" if single else "/%a.out")
        id = await ask(
            "sbatch", "--parsable", f"--job-name={name}", f"--comment=firstlight {said}", "--open-mode=append",
            f"--output={out}", f"--chdir={place}", *chosen, *([] if single else [f"--array=0-{len(batch) - 1}"]),
            str(place / "job.sh"),
        )  # fmt: skip
        native = id.strip().partition(";")[0]
        for n, one in enumerate(batch):
            if one.path is not None:
                await asyncio.to_thread(one.run.submitted, one.path, native if single else f"{native}_{n}")

    def _write(self, place: Path, batch: Sequence[_Asked], rest: str) -> None:
        place.mkdir(parents=True)
        lines = []
        for n, one in enumerate(batch):
            number = len(one.run.submissions()) + 1
            lines.append(f"{number} {one.run.path.name}\n")
            with contextlib.suppress(FileExistsError):
                (one.run.path / f"job-{number}.out").symlink_to(Path("../../batches", place.name, f"{n}.out"))
        replace_file(place / "list", "".join(lines).encode(), fsync=True)
        text = script(self._site, place, len(batch) == 1, rest)
        replace_file(place / "job.sh", text.encode(), fsync=True)

    async def _not_accepted(self, batch: Sequence[_Asked], error: Refused) -> None:
        if len(batch) > 1 and error.fewer:
            half = len(batch) // 2
            for part in (batch[:half], batch[half:]):
                for one in part:
                    one.forget()
                await self._send(part)
            return
        for one in batch:
            if error.never:
                await asyncio.to_thread(one.run.commit, error.failure)
            else:
                one.forget(Unavailable(f"Slurm does not accept it now: {error}"))


def _remember(one: _Asked, place: str) -> None:
    one.path = one.run.submitting(place)
