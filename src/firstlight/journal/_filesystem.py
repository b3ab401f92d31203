"""Which file system a path lies on, and whether SQLite may trust it."""

import re
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")

SHARED = frozenset({
    "9p", "afs", "auristorfs", "beegfs", "ceph", "cifs", "coda", "dvs", "gfs2",
    "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs",
    "pvfs2", "smb3", "smbfs", "fuse", "vboxsf", "virtiofs", "wekafs",
})  # fmt: skip


class Unfit(OSError):
    """A journal cannot be kept in this place; the message says why, and what to do instead."""


def refuse_shared(path: Path, mountinfo: Path = MOUNTINFO) -> None:
    """Raise Unfit where `path` lies on a network or shared file system.

    SQLite's write-ahead log needs memory shared between the processes that use it, and locks that hold; over
    a network it loses data without a word. Where there is no mountinfo (not Linux) nothing is refused.
    """
    try:
        lines = mountinfo.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return
    mount = _mount(path.resolve(), lines)
    if mount is None:
        return
    point, kind, source = mount
    if kind in SHARED or kind.startswith(("nfs", "fuse.")):
        raise Unfit(
            f"the journal {path} would lie on the shared file system {kind} ({source} mounted on {point}), where "
            "SQLite can lose data. Choose a directory on a disk of this node (--data-dir), or use PostgreSQL."
        )


def _mount(path: Path, lines: list[str]) -> tuple[Path, str, str] | None:
    """The mount point, type and source of the mount that `path` lies on: the longest prefix, the last if several."""
    best = None
    for line in lines:
        mount, _, rest = line.partition(" - ")
        fields = mount.split(" ")
        kind, source, *_ = [*rest.split(" "), "", ""]
        if len(fields) < 5:
            continue
        point = Path(_unescape(fields[4]))
        if path.is_relative_to(point) and (best is None or len(point.parts) >= len(best[0].parts)):
            best = point, kind, _unescape(source)
    return best


def _unescape(text: str) -> str:
    """Mountinfo writes blanks and backslashes in octal: "\\040" is a blank."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
