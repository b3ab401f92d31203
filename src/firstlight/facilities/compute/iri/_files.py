"""Run directories and assets on the facility's file system, with and without a shared one."""

import asyncio
import base64
import contextlib
import hashlib
import secrets
import time
from pathlib import Path
from typing import Any, Protocol

import msgspec

from ....core import Action, Asset, Outcome, Permit, Unavailable
from ...assets import AssetStore, Corrupt
from .. import _staging
from .._rundir import RunDirectory
from ._http import Api, TaskFailed
from ._jobspec import LARGEST, PIECE, Site

AT_ONCE = 4
BELIEVED = 600.0
"""Seconds for which a file that was seen to be there is not looked at again: scratch file systems are purged."""
TRIES = 3
_outcome: msgspec.json.Decoder[Outcome] = msgspec.json.Decoder(Outcome)


class Files(Protocol):
    """What has to be moved and looked at. Every method raises Unavailable where that cannot be done now."""

    async def bring(self, run: RunDirectory, permit: Permit, again: bool) -> None:
        """Have the run directory and the inputs there; `again`: some may be."""
        ...

    async def result(self, run: RunDirectory) -> Outcome | None:
        """The committed outcome; None where it is certain that there is none."""
        ...

    async def trace(self, run: RunDirectory) -> str:
        """Of whoever performs it: "" where nobody has begun, and something else whenever they show that they live."""
        ...

    async def ask_to_end(self, run: RunDirectory) -> None:
        """Have whoever performs it end."""
        ...

    async def log(self, run: RunDirectory, name: str) -> str:
        """The last lines of a file in a run directory, "" where there is none."""
        ...

    async def fetch(self, outcome: Outcome) -> None:
        """Bring what an action left home."""
        ...


class SharedFiles:
    """The facility's file system is this machine's too: `root` here is the working directory there."""

    def __init__(self, root: Path, assets: Path | str | None) -> None:
        self._root, self._assets = root, assets

    async def bring(self, run: RunDirectory, permit: Permit, again: bool) -> None:
        await asyncio.to_thread(_staging.bring, permit.action, self._root, self._assets)

    async def result(self, run: RunDirectory) -> Outcome | None:
        return await asyncio.to_thread(run.result)

    async def trace(self, run: RunDirectory) -> str:
        return " ".join(f"{file.name} {file.stat().st_mtime_ns}" for file in sorted(run.path.glob("attempt-*.l*")))

    async def ask_to_end(self, run: RunDirectory) -> None:
        run.ask_to_end()

    async def log(self, run: RunDirectory, name: str) -> str:
        with contextlib.suppress(FileNotFoundError):
            return "\n".join((run.path / name).read_text(errors="replace").splitlines()[-20:])
        return ""

    async def fetch(self, outcome: Outcome) -> None:
        await asyncio.to_thread(_staging.keep, outcome, self._root, self._assets)


class RemoteFiles:
    """All goes through the API's operations on files: each at most once, and verified by its digest."""

    def __init__(self, api: Api, filesystem: Any, site: Site, root: Path, assets: Path | str | None) -> None:
        self._api, self._filesystem, self._site, self._root = api, filesystem, site, root
        self._home = None if assets is None else AssetStore(assets)
        self._there: dict[str, float] = {}
        self._moving: dict[str, asyncio.Lock] = {}
        self._room = asyncio.Semaphore(AT_ONCE)

    async def bring(self, run: RunDirectory, permit: Permit, again: bool) -> None:
        there, spec = self._site.actions(run.path.name), msgspec.json.encode(permit)
        inputs = [self._bring(asset) for asset in _known(permit.action)]
        await asyncio.gather(self._bring_spec(there, spec, again), *inputs)

    async def result(self, run: RunDirectory) -> Outcome | None:
        there = self._site.actions(run.path.name)
        try:
            return _outcome.decode(await self._download(f"{there}/result.json"))
        except TaskFailed as error:
            if "result.json" in await self._names(run):
                raise Unavailable(f"result.json is there and cannot be read: {error}") from None
        return None

    async def trace(self, run: RunDirectory) -> str:
        left = {name: at for name, at in (await self._names(run)).items() if name.startswith("attempt-")}
        return " ".join(f"{name} {left[name]}" for name in sorted(left))

    async def ask_to_end(self, run: RunDirectory) -> None:
        try:
            await self._upload(f"{self._site.actions(run.path.name)}/cancel", b"cancel\n")
        except TaskFailed as error:
            raise Unavailable(f"{run.path.name} cannot be told to end: {error}") from None

    async def log(self, run: RunDirectory, name: str) -> str:
        with contextlib.suppress(TaskFailed):
            there = f"{self._site.actions(run.path.name)}/{name}"
            said = await self._do("tail", {"path": there, "lines": 20})
            return str(said.get("content", "") if isinstance(said, dict) else said or "").strip()
        return ""

    async def fetch(self, outcome: Outcome) -> None:
        if self._home is not None:
            await asyncio.gather(*(self._fetch(self._home, asset) for asset in outcome.assets if _named(asset)))

    # ------------------------------------------------------------------ there

    async def _bring_spec(self, there: str, spec: bytes, again: bool) -> None:
        digest = hashlib.sha256(spec).hexdigest()
        if again and await self._digest(f"{there}/spec.json") == digest:
            return
        await self._directory(there)
        await self._put(f"{there}/spec.json", spec, digest)

    async def _bring(self, asset: Asset) -> None:
        """An input, in pieces where it is too large; nothing where it is not to be had at home."""
        async with self._moving.setdefault(asset.digest, asyncio.Lock()):
            if time.monotonic() - self._there.get(asset.digest, -BELIEVED) < BELIEVED:
                return
            path, digest = self._site.asset(asset.digest), asset.digest.partition(":")[2]
            if await self._digest(path) != digest:
                if self._home is None or not self._home.holds(asset.digest):
                    return
                file = await asyncio.to_thread(self._home.check, asset)
                await self._directory(path.rpartition("/")[0])
                if file.stat().st_size <= LARGEST:
                    await self._put(path, await asyncio.to_thread(file.read_bytes), digest)
                else:
                    await self._bring_pieces(asset, file)
            self._there[asset.digest] = time.monotonic()

    async def _bring_pieces(self, asset: Asset, file: Path) -> None:
        """The job puts them together before it begins."""
        await self._directory(f"{self._site.workdir}/pieces")
        for number, path in enumerate(self._site.pieces(asset)):
            piece = await asyncio.to_thread(_read, file, number * PIECE)
            digest = hashlib.sha256(piece).hexdigest()
            if await self._digest(path) != digest:
                await self._put(path, piece, digest)

    async def _put(self, path: str, content: bytes, digest: str) -> None:
        """A file in one stroke: nobody sees half of it."""
        private = f"{path}.{secrets.token_hex(4)}"
        for _ in range(TRIES):
            with contextlib.suppress(TaskFailed):
                await self._upload(private, content)
                if await self._digest(private) == digest:
                    await self._do("mv", {"path": private, "target_path": path})
                    return
            # What was done by a request whose answer was lost is done.
            if await self._digest(path) == digest:
                return
        raise Unavailable(f"{path} cannot be written on {self._site.name}, or not so that it can be read again")

    async def _directory(self, path: str) -> None:
        try:
            await self._do("mkdir", {"path": path, "parent": True})
        except TaskFailed as error:
            raise Unavailable(f"{path} cannot be made on {self._site.name}: {error}") from None

    async def _digest(self, path: str) -> str:
        """ "" where there is no such file."""
        try:
            said = await self._do("checksum", {"path": path})
        except TaskFailed:
            return ""
        return str(said.get("checksum", "") if isinstance(said, dict) else said).lower()

    async def _names(self, run: RunDirectory) -> dict[str, str]:
        """What is in a run directory, and when it was changed: nothing where it is certain that there is none."""
        there = self._site.actions(run.path.name)
        try:
            return _entries(await self._do("ls", {"path": there}))
        except TaskFailed as error:
            with contextlib.suppress(TaskFailed):
                if run.path.name not in _entries(await self._do("ls", {"path": self._site.actions("").rstrip("/")})):
                    return {}
            raise Unavailable(f"{there} cannot be listed: {error}") from None

    # ------------------------------------------------------------------ home

    async def _fetch(self, home: AssetStore, asset: Asset) -> None:
        if home.holds(asset.digest):
            return
        pieces = self._site.pieces(asset) if asset.size > LARGEST else [self._site.asset(asset.digest)]
        why = ""
        for _ in range(TRIES):
            private = self._root / f".coming-{secrets.token_hex(8)}"
            try:
                for path in pieces:
                    await asyncio.to_thread(_append, private, await self._download(path))
                await asyncio.to_thread(home.receive, private, asset)
                return
            except (TaskFailed, Corrupt) as error:
                why = str(error)
            finally:
                private.unlink(missing_ok=True)
        raise Unavailable(f"{asset.uri} ({asset.digest}) cannot be brought home from {self._site.name}: {why}")

    async def _download(self, path: str) -> bytes:
        said = await self._do("download", {"path": path})
        content = said.get("content", "") if isinstance(said, dict) else said
        try:
            return base64.b64decode(str(content), validate=True)
        except ValueError:
            raise TaskFailed(f"download of {path} gave no base64") from None

    async def _upload(self, path: str, content: bytes) -> None:
        async with self._room:
            await self._api.task("upload", await self._filesystem(), query={"path": path}, file=content)

    async def _do(self, operation: str, body: dict[str, Any]) -> Any:
        async with self._room:
            return await self._api.task(operation, await self._filesystem(), body)


def _entries(listed: Any) -> dict[str, str]:
    return {str(entry["name"]).rpartition("/")[2]: str(entry.get("last_modified")) for entry in listed or ()}


def _known(action: Action) -> list[Asset]:
    return list({asset.digest: asset for asset in action.inputs.values() if _named(asset)}.values())


def _named(asset: Asset) -> bool:
    return asset.digest.startswith("sha256:") and len(asset.digest) == 71


def _read(file: Path, offset: int) -> bytes:
    with open(file, "rb") as source:
        source.seek(offset)
        return source.read(PIECE)


def _append(file: Path, piece: bytes) -> None:
    with open(file, "ab") as target:
        target.write(piece)
