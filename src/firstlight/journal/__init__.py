"""Remember: the append-only log of facts, in memory, in SQLite, or (`firstlight.journal.postgres`) in PostgreSQL."""

from ._chain import Finding
from ._filesystem import Unfit
from ._verify import verify
from .archive import JournalArchive
from .memory import MemoryJournal
from .sqlite import SqliteJournal

__all__ = ["Finding", "JournalArchive", "MemoryJournal", "SqliteJournal", "Unfit", "verify"]
