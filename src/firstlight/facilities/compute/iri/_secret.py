"""A token by its name: it is read when it is needed, and shown nowhere."""

import os
import re
import stat
from pathlib import Path

from ....core import Unavailable


class Secret:
    """The token in an environment variable, or in a file that only its owner may read (mode 0600).

    `name` is that variable's name or that file's path (it has a slash). It is read anew every time, so that a token
    that was renewed is used at once.
    """

    def __init__(self, name: str) -> None:
        self._file = Path(name).expanduser() if "/" in name else None
        if self._file is None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,39}", name):
            # Whatever it is may be the token itself: it is not repeated.
            raise ValueError("token must be the name of an environment variable or the path of a file, never the token")
        self.name = str(self._file) if self._file else f"${name}"
        self._variable = "" if self._file else name

    def read(self) -> str:
        """The token. Raises Unavailable, saying what to do."""
        token = (self._from_file(self._file) if self._file else os.environ.get(self._variable, "")).strip()
        if not token:
            raise Unavailable(f"there is no token in {self.name}: put one there")
        if not token.isascii() or not token.isprintable() or " " in token:
            raise Unavailable(f"what is in {self.name} is no token: it must be one word")
        return token

    def scrub(self, text: str) -> str:
        """The text without the token, should somebody have put it there."""
        try:
            return text.replace(self.read(), "***")
        except Unavailable:
            return text

    def __repr__(self) -> str:
        return f"Secret({self.name})"

    def _from_file(self, file: Path) -> str:
        try:
            mode = file.stat().st_mode
            if stat.S_IMODE(mode) & 0o077:
                raise Unavailable(f"others may read {file}: chmod 600 {file}")
            return file.read_text(errors="replace")
        except OSError as error:
            raise Unavailable(f"the token in {file} cannot be read: {error.strerror}") from None
