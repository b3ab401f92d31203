"""Know of the end of any process of this machine as soon as it comes."""

import asyncio
import os


class Death:
    """A future that is done once a process has ended, whoever its parent is."""

    def __init__(self, pid: int) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self.ended.set_result(None)
            return
        asyncio.get_running_loop().add_reader(self._descriptor, self._end)

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        if not self.ended.done():
            self.ended.set_result(None)
