"""A few connections, each used by one thread at a time, so that reading holds up neither the loop nor the writer."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from firstlight import core

from ._database import Database, Session

T = TypeVar("T")


class Readers:
    """Connections that are used again, and the threads that use them."""

    def __init__(self, database: Database, threads: int = 4) -> None:
        self._database = database
        self._idle: list[Session] = []
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=f"journal {database.name}")
        self._closed = False

    async def run(self, work: Callable[[Session], T]) -> T:
        """Do this with a connection, off the event loop. Raises Unavailable."""
        if self._closed:
            raise core.Unavailable(f"the journal {self._database.name} is closed")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, work)

    def close(self) -> None:
        self._closed = True
        self._threads.shutdown()
        while self._idle:
            self._idle.pop().close()

    def _run(self, work: Callable[[Session], T]) -> T:
        try:
            try:
                session = self._idle.pop()
            except IndexError:
                session = self._database.session()
            try:
                result = work(session)
            except BaseException:
                session.close()
                raise
        except self._database.errors as error:
            raise core.Unavailable(f"journal {self._database.name}: {error}".strip()) from error
        self._idle.append(session)
        return result
