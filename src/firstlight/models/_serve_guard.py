"""Who may ask, and how much at once: what every server of models does before it looks at a request."""

import asyncio
import hmac
import json
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import uvicorn
from fastapi import FastAPI, HTTPException, Request

from ._token import is_loopback

_PATIENCE = 30.0
"""Seconds within which a body must have come."""


def bearer(token: str) -> Callable[[Request], Awaitable[None]]:
    """A dependency that lets nobody in without the token. With "" everybody is."""
    wanted = token.encode()

    async def check(request: Request) -> None:
        if not wanted:
            return
        kind, _, told = request.headers.get("authorization", "").partition(" ")
        # Compared in constant time, or the time it takes tells how much of it was right.
        if not hmac.compare_digest(told.strip().encode("utf-8", "replace"), wanted) or kind.lower() != "bearer":
            raise HTTPException(401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})

    return check


async def body_of(request: Request, most: int, media_type: str) -> bytes:
    """The body of a request, read piece by piece and given up once it is more than `most` bytes.

    Raises HTTPException 408, 413 or 415.
    """
    said = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if said != media_type:
        raise HTTPException(415, f"the body must be {media_type}, not {said or 'of no type'}")
    too_long = HTTPException(413, f"a body may have at most {most} bytes")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(_PATIENCE):
            async for piece in request.stream():
                body += piece
                if len(body) > most:
                    raise too_long
    except TimeoutError:
        raise HTTPException(408, f"the body did not come within {_PATIENCE:g} s") from None
    return bytes(body)


def json_of(body: bytes) -> Any:
    """A document of JSON. NaN and the like come as numbers, so that who checks them can say where they are.

    Raises HTTPException 422.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, f"the body is no JSON: {error}") from None


def listen(host: str, port: int, token: str) -> socket.socket:
    """A socket to serve on. Raises ValueError where others could come in without a token, OSError where it is taken."""
    if not token and not is_loopback(host):
        raise ValueError(f"on {host} anybody could ask: give a token, or serve on 127.0.0.1")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except BaseException:
        listening.close()
        raise
    return listening


def run_server(app: FastAPI, host: str, port: int, token: str, started: Callable[[str], None]) -> None:
    """Serve until it is told to end (SIGINT, SIGTERM); `started` is told the address. Raises as `listen` does."""
    with listen(host, port, token) as listening, _ends_well():
        shown = f"[{host}]" if ":" in host else host
        started(f"http://{shown}:{listening.getsockname()[1]}")
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run([listening])


@contextmanager
def _ends_well() -> Iterator[None]:
    """uvicorn raises the signal that ended it once more when all is closed: here that is an end like any other."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
