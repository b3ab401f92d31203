"""Tiled's side of the benchmark of catalogs: `python _tiled.py RECORDS SCRATCH`, in the environment that has Tiled.

A real `tiled serve catalog` on this machine, asked by its own client over HTTP, with its own files and database below
SCRATCH. Prints lines of JSON: how many records are written, and what came of it all at the end.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FACETS = ("licence", "sensitivity", "keyword", "campaign")


def main(file: str, scratch: str) -> None:
    from tiled.client import from_uri  # type: ignore[import-not-found]

    key = secrets.token_hex(16)
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        port = some.getsockname()[1]
    place = Path(scratch)
    (place / "data").mkdir(parents=True)
    command = [str(Path(sys.executable).with_name("tiled")), "serve", "catalog", str(place / "catalog.db"), "-w",
               str(place / "data"), "--init", "--api-key", key, "--port", str(port)]  # fmt: skip
    with (
        (place / "log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True) as server,
    ):
        try:
            client = reached(lambda: from_uri(f"http://127.0.0.1:{port}/api/v1", api_key=key), server)
            print(json.dumps({"result": measured(client, Path(file))}), flush=True)
        finally:
            os.killpg(server.pid, signal.SIGTERM)  # It has processes of its own.


def reached(connect: Callable[[], Any], server: "subprocess.Popen[bytes]") -> Any:
    until = time.monotonic() + 60
    while True:
        try:
            return connect()
        except Exception:  # Whatever it is, it may be there in a moment.
            if time.monotonic() > until or server.poll() is not None:
                raise
            time.sleep(0.2)


def measured(client: Any, file: Path) -> dict[str, Any]:
    from tiled.queries import Contains, FullText, In, Key  # type: ignore[import-not-found]

    records = [json.loads(line) for line in file.read_text().splitlines()]
    seconds = list[float]()
    for n, record in enumerate(records, 1):
        began = time.perf_counter()
        client.write_table(record["table"], key=record["name"], metadata=record["metadata"])
        seconds.append(time.perf_counter() - began)
        if n % 20 == 0 or n == len(records):
            print(json.dumps({"written": n}), flush=True)
    queries: dict[str, Callable[[], Any]] = {
        "two facets": lambda: client.search(Contains("elements", "Li")).search(In("licence", ["MIT", "CC0-1.0"])),
        "a word": lambda: client.search(FullText("word17")),
        "a range": lambda: client.search(Key("temperature_low") <= 395.0).search(Key("temperature_high") >= 390.0),
    }
    found = dict[str, dict[str, Any]]()
    for name, ask in queries.items():
        times, counts = list[float](), list[float]()
        total = 0
        for _ in range(9):
            began = time.perf_counter()
            some = ask()
            total = len(some)
            first = [node.metadata for node in some.values()[:20]]
            times.append(1000 * (time.perf_counter() - began))
            assert len(first) == min(20, total)
            began = time.perf_counter()
            some.distinct(*FACETS, counts=True)
            counts.append(times[-1] + 1000 * (time.perf_counter() - began))
        found[name] = {"found": total, "ms": times, "with facets": counts}
    return {"seconds": seconds, "queries": found}


if __name__ == "__main__":
    main(*sys.argv[1:])
