"""The server as a process of its own, and what tests turn on it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from ._jobs import signal_session


class IriServer:
    """A context manager. `nodes` is how many jobs of one node run at once.

    `workdir` is a directory on its file system, `url` its address, `token_file` a file (mode 0600) with the bearer
    token. Its one compute resource is "hpc", its one file system "scratch", its one project "m0001".
    """

    def __init__(self, directory: Path, nodes: int = 2, environment: dict[str, str] | None = None) -> None:
        self.directory, self._nodes = directory, nodes
        self._environment = dict(os.environ) if environment is None else environment
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def workdir(self) -> Path:
        return self.directory.resolve() / "files" / "scratch"

    @property
    def token_file(self) -> Path:
        return self.directory / "token"

    def __enter__(self) -> "IriServer":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()
        self.end_jobs()

    def start(self) -> None:
        """Start it, on the same port as before. Raises RuntimeError where it cannot be."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "url").unlink(missing_ok=True)
        with open(self.directory / "server.log", "ab") as log:
            command = [sys.executable, "-m", "firstlight.testing.iri", str(self.directory)]
            self._process = subprocess.Popen(
                [*command, "--port", str(self._port), "--nodes", str(self._nodes)],
                env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while not (self.directory / "url").exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (self.directory / "server.log").read_text()[-2000:]
                self.kill()
                raise RuntimeError(f"the server did not start: {said}")
            time.sleep(0.02)
        self._port = int((self.directory / "url").read_text().rpartition(":")[2])
        self.control({})

    def kill(self) -> None:
        """Kill it as a crash does; its jobs go on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def end_jobs(self) -> None:
        """Kill whatever its jobs have left running."""
        for file in self.directory.glob("jobs/*/job.sh"):
            for pid in _running(str(file)):
                with contextlib.suppress(ProcessLookupError):
                    signal_session(os.getsid(pid), signal.SIGKILL)

    # ------------------------------------------------------------------ knobs

    def control(self, what: dict[str, Any]) -> Any:
        """Turn something; see the methods below."""
        token = self.token_file.read_text()
        request = urllib.request.Request(
            f"{self.url}/control", json.dumps(what).encode(), {"Authorization": f"Bearer {token}"}
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return json.load(answer)
            except ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def status(self, resource: str, status: str) -> None:
        """ "up", "down", "degraded" or "unknown", for "hpc" or "scratch"."""
        self.control({"status": {resource: status}})

    def incident(
        self, description: str, type: str = "unplanned", status: str = "down", hours: float | None = None,
        resource: str = "hpc",
    ) -> str:  # fmt: skip
        """Open an incident that ends after some hours, or has no end yet; its id."""
        incident = {"description": description, "type": type, "status": status, "hours": hours, "resource": resource}
        return str(self.control({"incident": incident}))

    def resolve(self, incident: str) -> None:
        """Say that an incident is over."""
        self.control({"close": incident})

    def allocation(self, granted: float, used: float = 0.0) -> None:
        """Node-hours of the project."""
        self.control({"set": {"granted": granted, "used": used}})

    def hold(self, hold: bool = True) -> None:
        """Begin no job while it holds."""
        self.control({"set": {"hold": hold}})

    def fail(self, how: str, operation: str = "", times: int = 1, seconds: float = 0.0, detail: str = "") -> None:
        """The next requests of an operation (by its operationId, "" for any) go wrong.

        `how` is a status ("503"; `seconds` is its Retry-After), "drop" (done, and the connection ends without an
        answer) or "slow" (answered `seconds` late).
        """
        fault = {"how": how, "operation": operation, "times": times, "seconds": seconds, "detail": detail}
        self.control({"fault": fault})

    def forget_jobs(self) -> None:
        """Lose all jobs, as a facility does whose database was restored; their processes go on."""
        self.control({"forget": True})

    def requests(self, operation: str) -> list[str]:
        """Those of an operation so far: "launchJob 200 /api/v2/compute/job/hpc "."""
        log = self.directory / "requests.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line for line in lines if line.split(" ", 1)[0] == operation]


def _running(word: str) -> list[int]:
    """The processes that have this word in their command line."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if word in Path(f"/proc/{name}/cmdline").read_text(errors="replace"):
                found.append(int(name))
    return found
