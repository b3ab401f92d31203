"""SQLite is kept off network and shared file systems."""

import asyncio
from pathlib import Path

import pytest

from firstlight.journal import SqliteJournal, Unfit

_TABLE = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw
40 27 0:40 / {place} rw,relatime shared:7 - {kind} {source} rw,vers=4.2
41 27 0:41 / {place}x rw - tmpfs tmpfs rw
"""


def mountinfo(directory: Path, place: Path, kind: str, source: str = "srv:/export") -> Path:
    table = directory / "mountinfo"
    table.write_text(_TABLE.format(place=str(place).replace(" ", "\\040"), kind=kind, source=source))
    return table


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "lustre", "gpfs", "beegfs", "cifs", "smb3", "afs", "9p", "fuse.sshfs", "fuse", "ceph"]
)
def test_a_shared_file_system_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    table = mountinfo(tmp_path, tmp_path / "share", kind)
    with pytest.raises(Unfit, match=rf"file system {kind} \(srv:/export mounted on .*share\).*--data-dir.*PostgreSQL"):
        SqliteJournal(tmp_path / "share" / "deep" / "journal.db", mountinfo=table)
    assert not (tmp_path / "share").exists()


def opens(path: Path, table: Path) -> None:
    async def main() -> None:
        await SqliteJournal(path, mountinfo=table).close()

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay"])
def test_a_local_file_system_is_taken(tmp_path: Path, kind: str) -> None:
    opens(tmp_path / "disk" / "journal.db", mountinfo(tmp_path, tmp_path / "disk", kind))


def test_blanks_in_mount_points_are_read(tmp_path: Path) -> None:
    place = tmp_path / "my share"
    with pytest.raises(Unfit, match="my share"):
        SqliteJournal(place / "journal.db", mountinfo=mountinfo(tmp_path, place, "nfs4"))


def test_the_longest_mount_point_counts_and_the_last_of_the_same(tmp_path: Path) -> None:
    table = mountinfo(tmp_path, tmp_path / "share", "nfs4")
    opens(tmp_path / "sharex" / "journal.db", table)
    opens(tmp_path / "shared.db", table)
    table.write_text(table.read_text() + f"50 40 0:50 / {tmp_path}/share/scratch rw - xfs /dev/vdb rw\n")
    opens(tmp_path / "share" / "scratch" / "journal.db", table)
    table.write_text(table.read_text() + f"51 40 0:51 / {tmp_path}/share rw - xfs /dev/vdc rw\n")
    opens(tmp_path / "share" / "journal.db", table)


def test_a_link_into_a_share_is_followed(tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "share")
    with pytest.raises(Unfit, match="nfs4"):
        SqliteJournal(tmp_path / "home" / "journal.db", mountinfo=mountinfo(tmp_path, tmp_path / "share", "nfs4"))


def test_without_a_table_of_mounts_nothing_is_refused(tmp_path: Path) -> None:
    opens(tmp_path / "journal.db", tmp_path / "no such table")
