"""Servers that others wrote, each in a process and a virtual environment of its own."""

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


def python_of(environment: str) -> str:
    """The interpreter of an environment that `make setup-NAME` makes; the test is skipped where there is none."""
    python = Path(sys.prefix) / environment / "bin" / "python"
    if not python.exists():
        pytest.skip(f"there is no environment {environment}: make setup-{environment}")
    return str(python)


def free_port() -> int:
    """A port of the loopback interface that nobody uses now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextlib.contextmanager
def running(
    command: Sequence[str], log: Path, port: int, env: Mapping[str, str] | None = None, patience: float = 120.0
) -> Iterator[subprocess.Popen[bytes]]:
    """A server from when it listens on its port until it is killed, with what it has started. Raises RuntimeError with
    its log."""
    with log.open("ab") as out:
        environment = {**os.environ, **(env or {})}
        server = subprocess.Popen(command, stdout=out, stderr=out, env=environment, process_group=0)
    try:
        until = time.monotonic() + patience
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
                break
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{command[0]} does not listen on {port}: {log.read_text()[-2000:]}")
            time.sleep(0.02)
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
