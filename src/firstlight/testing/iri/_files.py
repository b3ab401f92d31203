"""The file system: one function an operation, all of them below one directory."""

import base64
import grp
import hashlib
import os
import pwd
import re
import shutil
import stat
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import _forms as forms

LARGEST = 5_242_880
"""Bytes that one request moves, as the specification has it."""
KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
Output = Any


class Refused(Exception):
    """An operation that cannot be; the message says why."""


class Files:
    """Paths are the machine's own, so that jobs know them too, and none leads out of `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.operations: dict[str, tuple[type[Any], Callable[[Any], Output]]] = {
            "ls": (forms.List, self.ls), "stat": (forms.Stat, self.stat), "file": (forms.Path, self.file),
            "head": (forms.Head, self.head), "tail": (forms.Tail, self.tail), "view": (forms.View, self.view),
            "checksum": (forms.Path, self.checksum), "download": (forms.Path, self.download),
            "rm": (forms.Path, self.rm), "mkdir": (forms.MakeDirectory, self.mkdir), "cp": (forms.Copy, self.cp),
            "mv": (forms.Move, self.mv), "symlink": (forms.Symlink, self.symlink), "chmod": (forms.Mode, self.chmod),
            "chown": (forms.Owner, self.chown), "compress": (forms.Compress, self.compress),
            "extract": (forms.Extract, self.extract),
        }  # fmt: skip

    def path(self, name: str | None, follow: bool = True) -> Path:
        """A path below the root. Raises Refused."""
        if not name or "\0" in name:
            raise Refused(f"{name!r} is no path")
        asked = self.root / name
        found = asked.resolve() if follow else asked.parent.resolve() / asked.name
        if not found.is_relative_to(self.root):
            raise Refused(f"{name}: permission denied")
        return found

    def upload(self, name: str, content: bytes) -> Output:
        self.path(name).write_bytes(content)
        return f"{len(content)} bytes"

    def ls(self, asked: forms.List) -> Output:
        path = self.path(asked.path)
        names = path.rglob("*") if asked.recursive else path.iterdir() if path.is_dir() else [path]
        shown = [file for file in names if asked.show_hidden or not file.name.startswith(".")]
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or directory")
        return [self._entry(file, path) for file in sorted(shown)]

    def stat(self, asked: forms.Stat) -> Output:
        found = os.stat(self.path(asked.path)) if asked.dereference else os.lstat(self.path(asked.path, follow=False))
        names = ("mode", "ino", "dev", "nlink", "uid", "gid", "size", "atime", "ctime", "mtime")
        return {name: int(getattr(found, f"st_{name}")) for name in names}

    def file(self, asked: forms.Path) -> Output:
        return self._kind(os.lstat(self.path(asked.path, follow=False)))

    def head(self, asked: forms.Head) -> Output:
        pieces, unit, count = self._pieces(asked.path, asked.bytes, asked.lines)
        chosen = pieces[: max(0, len(pieces) - count)] if asked.skip_trailing else pieces[:count]
        return self._content(chosen, unit, 0)

    def tail(self, asked: forms.Tail) -> Output:
        pieces, unit, count = self._pieces(asked.path, asked.bytes, asked.lines)
        first = count if asked.skip_heading else max(0, len(pieces) - count)
        return self._content(pieces[first:], unit, first)

    def view(self, asked: forms.View) -> Output:
        with open(self.path(asked.path), "rb") as file:
            file.seek(asked.offset)
            return self._content(file.read(min(asked.size or LARGEST, LARGEST)), "bytes", asked.offset)

    def checksum(self, asked: forms.Path) -> Output:
        with open(self.path(asked.path), "rb") as file:
            return {"algorithm": "SHA-256", "checksum": hashlib.file_digest(file, "sha256").hexdigest()}

    def download(self, asked: forms.Path) -> Output:
        path = self.path(asked.path)
        if path.stat().st_size > LARGEST:
            raise Refused(f"{path} has more than {LARGEST} bytes")
        return base64.b64encode(path.read_bytes()).decode()

    def rm(self, asked: forms.Path) -> Output:
        path = self.path(asked.path, follow=False)
        if path == self.root:
            raise Refused("the root itself stays")
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        return None

    def mkdir(self, asked: forms.MakeDirectory) -> Output:
        path = self.path(asked.path)
        path.mkdir(parents=asked.parent, exist_ok=asked.parent)
        return self._entry(path)

    def cp(self, asked: forms.Copy) -> Output:
        source, target = self.path(asked.path), self.path(asked.target_path)
        if source.is_dir():
            if target.is_relative_to(source):
                raise Refused(f"{source} cannot be copied into itself")
            shutil.copytree(source, target, symlinks=not asked.dereference)
        else:
            shutil.copy2(source, target)
        return self._entry(target)

    def mv(self, asked: forms.Move) -> Output:
        target = self.path(asked.target_path)
        self.path(asked.path, follow=False).rename(target)
        return self._entry(target)

    def symlink(self, asked: forms.Symlink) -> Output:
        link = self.path(asked.link_path, follow=False)
        link.symlink_to(self.path(asked.path))
        return self._entry(link)

    def chmod(self, asked: forms.Mode) -> Output:
        path = self.path(asked.path)
        if not re.fullmatch(r"[0-7]{1,4}", asked.mode):
            raise Refused(f"{asked.mode!r} is no mode: it has octal digits")
        if path == self.root:
            raise Refused("the root itself stays as it is")
        path.chmod(int(asked.mode, 8))
        return self._entry(path)

    def chown(self, asked: forms.Owner) -> Output:
        path = self.path(asked.path)
        if asked.owner:
            shutil.chown(path, user=asked.owner)
        if asked.group:
            shutil.chown(path, group=asked.group)
        return self._entry(path)

    def compress(self, asked: forms.Compress) -> Output:
        source, target = self.path(asked.path), self.path(asked.target_path)
        wanted = re.compile(asked.match_pattern or "")
        with tarfile.open(target, _mode("w", asked.compression), dereference=asked.dereference) as archive:
            archive.add(source, source.name, filter=lambda m: m if m.isdir() or wanted.search(m.name) else None)
        return self._entry(target)

    def extract(self, asked: forms.Extract) -> Output:
        target = self.path(asked.target_path)
        with tarfile.open(self.path(asked.path), _mode("r", asked.compression)) as archive:
            archive.extractall(target, filter="data")
        return self._entry(target)

    # ------------------------------------------------------------------

    def _pieces(self, name: str, count: int | None, lines: int | None) -> tuple[Any, str, int]:
        content = self.path(name).read_bytes()
        if count is not None:
            return content, "bytes", max(0, count)
        return content.splitlines(keepends=True), "lines", max(0, 10 if lines is None else lines)

    def _content(self, pieces: Any, unit: str, first: int) -> Output:
        content = pieces if isinstance(pieces, bytes) else b"".join(pieces)
        return {
            "content": content.decode(errors="replace"), "content_type": unit,
            "start_position": first, "end_position": first + len(pieces),
        }  # fmt: skip

    def _entry(self, path: Path, below: Path | None = None) -> dict[str, Any]:
        found = path.lstat()
        return {
            "name": path.relative_to(below).as_posix() if below and path != below else path.name,
            "type": self._kind(found),
            "link_target": os.readlink(path) if stat.S_ISLNK(found.st_mode) else None,
            "user": _name(lambda: pwd.getpwuid(found.st_uid).pw_name, found.st_uid),
            "group": _name(lambda: grp.getgrgid(found.st_gid).gr_name, found.st_gid),
            "permissions": stat.filemode(found.st_mode)[1:],
            "last_modified": datetime.fromtimestamp(found.st_mtime, UTC).isoformat(),
            "size": str(found.st_size),
        }

    def _kind(self, found: os.stat_result) -> str:
        return KINDS.get(stat.S_IFMT(found.st_mode), "other")


def _mode(kind: str, urn: str) -> Any:
    known = {"none": "", "gzip": "gz", "bzip2": "bz2", "xz": "xz"}
    name = urn.rpartition(":")[2]
    if name not in known:
        raise Refused(f"compression {urn} is not known here: use one of {', '.join(known)}")
    return f"{kind}:{known[name]}"


def _name(look: Callable[[], str], number: int) -> str:
    try:
        return look()
    except KeyError:
        return str(number)
