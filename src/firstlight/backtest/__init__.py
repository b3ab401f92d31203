"""Back-test: let strategies run on experiments whose outcomes are known, and say which to choose."""

from ._pool import Pool, hidden
from ._run import Contender, Make, Misbehaved, Run, Settings, archive, key, run, siblings_of
from ._sheet import Fault
from ._sources import Form, Found, find, pools

__all__ = [
    "Contender",
    "Fault",
    "Form",
    "Found",
    "Make",
    "Misbehaved",
    "Pool",
    "Run",
    "Settings",
    "archive",
    "find",
    "hidden",
    "key",
    "pools",
    "run",
    "siblings_of",
]
