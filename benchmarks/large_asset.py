"""A large file is added, verified and packed with bounded memory: `large_asset.py [--gigabytes N]`.

The file is CSV with numbers, or zeros with --zeros; each step is a process of its own, whose largest memory is told.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = [sys.executable, "-c", "from firstlight.cli import main; main()"]


def made(file: Path, size: int, zeros: bool) -> None:
    """A file of so many bytes."""
    if zeros:
        with open(file, "wb") as out:
            out.truncate(size)
        return
    r = random.Random(1)
    block = "".join(f"{i},{r.random():.6f},{r.gauss(0, 1):.6f},{r.choice('abc')}\n" for i in range(40_000)).encode()
    with open(file, "wb") as out:
        out.write(b"n,u,g,letter\n")
        while out.tell() < size:
            out.write(block)


def step(words: list[str], home: Path) -> dict[str, object]:
    """A verb of the program: its seconds, and its largest memory in MB."""
    began = time.perf_counter()
    process = subprocess.Popen([*PROGRAM, *words, "--json", "--data-dir", str(home)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{words[1]} failed with {process.returncode}")
    took = time.perf_counter() - began
    return {"step": words[1], "seconds": took, "MB": used.ru_maxrss / 1024, "said": json.loads(said)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--zeros", action="store_true", help="a file that nothing can read as a table")
    parser.add_argument("--scratch", type=Path, help="where the files are (default: a temporary directory)")
    parser.add_argument("--json", action="store_true")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=said.scratch) as scratch:
        place = Path(scratch)
        file = place / ("large.bin" if said.zeros else "large.csv")
        made(file, int(said.gigabytes * 1e9), said.zeros)
        size = file.stat().st_size
        steps = [step(["data", "add", str(file), "--yes", "--name", "large"], place / "home")]
        steps.append(step(["data", "verify", "large"], place / "home"))
        for one in steps:
            assert isinstance(one["seconds"], float)
            one["MB/s"] = size / 1e6 / one["seconds"]
            del one["said"]
    if said.json:
        print(json.dumps({"bytes": size, "steps": steps}))
        return
    print(f"{size / 1e9:.1f} GB")
    for one in steps:
        print(f"{one['step']!s:8}{one['seconds']:8.1f} s{one['MB/s']:9.0f} MB/s{one['MB']:9.0f} MB of memory at most")


if __name__ == "__main__":
    main()
