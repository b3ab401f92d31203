"""Bytes kept by their digest: what actions need and what they leave, moved once and verified."""

import contextlib
import hashlib
import mimetypes
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from ..core import Asset


class Corrupt(OSError):
    """Bytes that are not those that their digest promises."""


class AssetStore:
    """A directory of files, each under its SHA-256 digest: `sha256/ab/ab12...`.

    What is put into it is never changed. Several processes, on several machines, may use one at once.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def path(self, digest: str) -> Path:
        """Where the bytes of this digest are, or would be. Raises ValueError for what is no digest."""
        kind, _, name = digest.partition(":")
        if kind != "sha256" or len(name) != 64 or not set(name) <= set("0123456789abcdef"):
            raise ValueError(f"{digest!r} is not a digest: sha256: and 64 hexadecimal digits")
        return self.root / kind / name[:2] / name

    def holds(self, digest: str) -> bool:
        return self.path(digest).exists()

    def put(self, file: Path, uri: str = "", media_type: str = "") -> Asset:
        """Copy a file into the store. Raises OSError."""
        return self._put(file, uri, media_type, adopt=False)

    def adopt(self, file: Path, uri: str = "", media_type: str = "") -> Asset:
        """Take a file that nobody will change any more into the store, without copying it where that can be."""
        return self._put(file, uri, media_type, adopt=True)

    def fetch(self, assets: Iterable[Asset], source: "AssetStore") -> int:
        """Bring these from another store, those that are here already excepted; the bytes moved. Raises OSError."""
        moved = 0
        for asset in assets:
            if not self.holds(asset.digest):
                self._keep(source.path(asset.digest), asset.digest, adopt=True)
                moved += asset.size
        return moved

    def receive(self, file: Path, asset: Asset) -> None:
        """Take in a copy of a file that should be this asset. Raises Corrupt where it is not, OSError."""
        if not self.holds(asset.digest):
            self._keep(file, asset.digest, adopt=False)

    def check(self, asset: Asset) -> Path:
        """The file of an asset, its bytes read and compared with the digest. Raises Corrupt or FileNotFoundError."""
        path = self.path(asset.digest)
        if (found := digest_of(path)) != asset.digest:
            raise Corrupt(f"{path} holds {found}, not {asset.digest}: it was changed or damaged; remove it")
        return path

    def _put(self, file: Path, uri: str, media_type: str, adopt: bool) -> Asset:
        digest = digest_of(file)
        if not self.holds(digest):
            self._keep(file, digest, adopt)
        kind = media_type or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        return Asset(uri=uri or file.name, digest=digest, media_type=kind, size=file.stat().st_size)

    def _keep(self, file: Path, digest: str, adopt: bool) -> None:
        path = self.path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        private = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
        try:
            if not (adopt and _linked(file, private)):
                with open(file, "rb") as source, open(private, "xb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
                    target.flush()
                    os.fsync(target.fileno())
            if (found := digest_of(private)) != digest:
                raise Corrupt(f"{file} holds {found}, not {digest}: it was changed or damaged on its way")
            with contextlib.suppress(PermissionError):
                private.chmod(0o444)
            private.replace(path)
        finally:
            private.unlink(missing_ok=True)


def digest_of(file: Path) -> str:
    """The digest of a file's bytes. Raises OSError."""
    with open(file, "rb") as source:
        return f"sha256:{hashlib.file_digest(source, 'sha256').hexdigest()}"


def _linked(file: Path, path: Path) -> bool:
    try:
        os.link(file, path)
    except OSError:
        return False  # Another file system, or one without hard links: it is copied.
    return True
