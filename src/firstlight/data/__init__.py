"""What people do with data: find them here and elsewhere, add, describe, pack, unpack, publish and look at them."""

from firstlight.catalog.asked import read_query

from ._card import card_of, choices
from ._packages import add, bring, export, trace
from ._page import page
from ._query import earlier
from ._sources import OURS, fetch, fetch_address, harvest, publish, search, source

__all__ = [
    "OURS",
    "add",
    "bring",
    "card_of",
    "choices",
    "earlier",
    "export",
    "fetch",
    "fetch_address",
    "harvest",
    "page",
    "publish",
    "read_query",
    "search",
    "source",
    "trace",
]
