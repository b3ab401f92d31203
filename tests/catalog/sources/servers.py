"""Servers in processes of their own: other people's, and small ones of ours that misbehave."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest


def program(name: str) -> str:
    """A program of the environment that `make setup-fabric` makes; the test is skipped where there is none."""
    found = Path(sys.prefix) / "fabric" / "bin" / name
    if not found.exists():
        pytest.skip("there is no environment fabric: make setup-fabric")
    return str(found)


def free_port() -> int:
    """A port of the loopback interface that nobody uses now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def start(
    command: Sequence[str], log: Path, port: int, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:  # fmt: skip
    """A server once it listens on its port. Raises RuntimeError with its log."""
    with log.open("ab") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **(env or {})}, process_group=0)
    until = time.monotonic() + 150
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
            return server
        if server.poll() is not None or time.monotonic() > until:
            kill(server)
            raise RuntimeError(f"{command[0]} does not listen on {port}: {log.read_text()[-2000:]}")
        time.sleep(0.02)


def kill(server: subprocess.Popen[bytes]) -> None:
    """At once, with what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


@contextlib.contextmanager
def running(command: Sequence[str], log: Path, port: int, env: Mapping[str, str] | None = None) -> Iterator[None]:
    server = start(command, log, port, env)
    try:
        yield
    finally:
        kill(server)
