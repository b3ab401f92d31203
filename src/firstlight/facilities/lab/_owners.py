"""Who a process is, and whether another one still is."""

import os
import secrets
import socket


def owner_here() -> str:
    """This process, as the owner of what it begins: its machine, its number, and a word that no other process has."""
    return f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(4)}"


def is_gone(owner: str) -> bool:
    """Whether a process of this machine has ended, or has let go ("" is nobody); of others nobody can tell."""
    if not owner:
        return True
    host, _, rest = owner.partition(" ")
    number = rest.partition(" ")[0]
    if host != socket.gethostname() or not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
