"""Servers that tests of several rooms use."""

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

# Environments of other people's software run few of these tests, and have no Hypothesis.
with contextlib.suppress(ModuleNotFoundError):
    from hypothesis import settings

    # On a busy machine an example takes as long as it takes.
    settings.register_profile("patient", deadline=None)
    settings.load_profile("patient")


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of an S3-like server with a bucket of the name "bucket"."""
    moto = Path(sys.prefix) / "fabric" / "bin" / "moto_server"
    if not moto.exists():
        pytest.skip("there is no environment fabric: make setup-fabric")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        [moto, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT")
        for _ in range(200):
            with contextlib.suppress(OSError), urllib.request.urlopen(request):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
        server.kill()
