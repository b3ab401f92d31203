"""Bearer tokens, and where they may travel."""

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path

SHORTEST_TOKEN = 16


def read_token(
    file: Path | None = None, variable: str = "FIRSTLIGHT_TOKEN", environ: Mapping[str, str] = os.environ
) -> str:
    """The bearer token in a file, or else in a variable of the environment; "" where neither is told.

    Raises ValueError where the file can be read by others, or the token is short or has odd characters.
    """
    where, token = f"the variable {variable}", environ.get(variable, "")
    if file is not None:
        try:
            mode, token = file.stat().st_mode, file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"the token cannot be read from {file}: {error}") from error
        if mode & 0o077:
            raise ValueError(f"{file} can be read by others: chmod 600 {file}")
        where = str(file)
        if not token:
            raise ValueError(f"{file} is empty")
    if token and (len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token):
        raise ValueError(f"the token in {where} must be at least {SHORTEST_TOKEN} letters, digits or signs")
    return token


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that host."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
