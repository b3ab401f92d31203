"""Who is gone: by what the kernel knows, and not by a number that others may have by now."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from firstlight.facilities.lab._owners import Owners

OTHER = """
import sys, time
from pathlib import Path
from firstlight.facilities.lab._owners import Owners
print(Owners(Path(sys.argv[1])).here, flush=True)
made = Owners(Path(sys.argv[1]))
print(made.here, flush=True)
time.sleep(600)
"""


def test_a_process_is_there_until_it_is_killed(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", OTHER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        forgotten, there = other.stdout.readline().strip(), other.stdout.readline().strip()
        here = Owners(tmp_path)
        assert here.is_gone(forgotten)
        assert not here.is_gone(there)
        os.kill(other.pid, signal.SIGSTOP)
        assert not here.is_gone(there)
    finally:
        other.kill()
        other.communicate()
    assert here.is_gone(there)
    # Looking does not make it anybody's again.
    assert here.is_gone(there)
    here.leave()
    assert list(tmp_path.iterdir()) == []


def test_whoever_has_the_number_of_one_that_is_gone_is_not_taken_for_it(tmp_path: Path) -> None:
    """After a restart of a container everybody has the number, and often the name, of whoever was there before."""
    before = Owners(tmp_path)
    was = before.here
    before.leave()
    now = Owners(tmp_path)
    assert was.split()[:2] == now.here.split()[:2]
    assert now.is_gone(was)
    assert not now.is_gone(now.here)
    now.leave()
    now.leave()


def test_two_in_one_process_tell_each_other_apart(tmp_path: Path) -> None:
    one, two = Owners(tmp_path), Owners(tmp_path)
    assert not one.is_gone(two.here)
    assert not two.is_gone(one.here)
    two.leave()
    assert one.is_gone(two.here)
    one.leave()


def test_nobody_is_gone(tmp_path: Path) -> None:
    here = Owners(tmp_path)
    assert here.is_gone("")
    here.leave()


def test_what_others_left_behind_is_swept(tmp_path: Path) -> None:
    (tmp_path / "left").touch()
    here = Owners(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [here.here.split()[2]]
    here.leave()
