"""Serve: python -m firstlight.testing.iri DIRECTORY [--port N] [--nodes N]."""

import argparse
import secrets
import socket
from pathlib import Path

import uvicorn

from ._app import make


def main() -> None:
    """Listen on the loopback interface; the address is written to DIRECTORY/url once it can be reached."""
    parser = argparse.ArgumentParser(prog="python -m firstlight.testing.iri", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--nodes", type=int, default=2, help="how many there are")
    asked = parser.parse_args()
    directory: Path = asked.directory.resolve()
    (directory / "files").mkdir(parents=True, exist_ok=True)
    secret = directory / "token"
    if not secret.exists():
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_urlsafe(24))
    # With its protocol named, asyncio sends what is written at once; an answer takes 40 ms otherwise.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", asked.port))
    listening.listen(128)
    base = f"http://127.0.0.1:{listening.getsockname()[1]}"
    app = make(directory, f"{base}/api/v2", secret.read_text().strip(), asked.nodes)
    (directory / ".url").write_text(base)
    (directory / ".url").replace(directory / "url")
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, http="h11")).run([listening])


if __name__ == "__main__":
    main()
