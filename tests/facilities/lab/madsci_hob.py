"""The hob of the instrument contract as a MADSci node, run by the interpreter of the environment madsci.

Usage: PORT FOLDER, where it logs. What it performs is appended to the file in HOB_LOG.
"""

# mypy: disable-error-code="import-not-found,misc,untyped-decorator"

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any, ClassVar

from madsci.common.types.admin_command_types import AdminCommandResponse
from madsci.common.types.node_types import RestNodeConfig
from madsci.node_module.helpers import action
from madsci.node_module.rest_node_module import RestNode


def performed(operation: str) -> None:
    if path := os.environ.get("HOB_LOG"):
        with Path(path).open("a") as log:
            log.write(f"{operation}\n")


class Hob(RestNode):
    """Heat takes its time, Add is quick, Break fails."""

    config: RestNodeConfig = RestNodeConfig()
    config_model: ClassVar[Any] = RestNodeConfig
    temperature, stopped = 25.0, False

    def state_handler(self) -> None:
        self.node_state = {"Temperature": self.temperature, "Door": False}

    @action(name="Heat")
    def heat(self, Target: Annotated[float, "in degC"], Seconds: float = 0.2) -> float:
        """Heat and hold."""
        performed("Heat")
        self.stopped, until = False, time.monotonic() + Seconds
        while time.monotonic() < until:
            if self.stopped:
                raise RuntimeError("it was stopped")
            time.sleep(0.02)
        self.temperature = Target
        return Target

    @action(name="Add")
    def add(self, Volume: float, To: str, Speed: str = "slow") -> float:
        """Add a liquid to a vessel."""
        performed("Add")
        return Volume

    @action(name="Break")
    def fail(self) -> None:
        """Always faults."""
        performed("Break")
        raise RuntimeError("element is broken")

    def cancel(self) -> Any:
        self.stopped = True
        return self._done()

    def safety_stop(self) -> Any:
        self.stopped = True
        return self._done()

    def _done(self) -> Any:
        return AdminCommandResponse(success=True, errors=[])


if __name__ == "__main__":
    os.environ["EVENT_CLIENT_LOG_DIR"] = sys.argv[2]
    there = f"http://127.0.0.1:{sys.argv[1]}"
    Hob(node_config=RestNodeConfig(node_url=there, enable_registry_resolution=False)).start_node()
