"""Jobs: processes in a session of their own, which outlive the server that started them."""

import os
import secrets
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ._forms import JobSpec

LIVE = ("new", "queued", "held", "active")
KILL_AFTER = 2.0
"""Seconds between asking a job to end and ending it."""


class Answer(msgspec.Struct):
    """What was asked under an Idempotency-Key, and what was answered."""

    asked: dict[str, Any]
    answer: dict[str, Any]


class Job(msgspec.Struct):
    """One job as it is kept: `began` and `ended` are seconds since 1970 UTC, 0 while it has not."""

    id: str
    resource: str
    spec: dict[str, Any]
    state: str = "queued"
    queued: float = 0.0
    began: float = 0.0
    ended: float = 0.0
    pid: int = 0
    ticks: int = 0
    exit_code: int | None = None
    message: str = ""
    answers: dict[str, Answer] = {}

    @property
    def form(self) -> JobSpec:
        return msgspec.convert(self.spec, JobSpec)

    @property
    def nodes(self) -> int:
        resources = self.form.resources
        return (resources and resources.node_count) or 1

    @property
    def node_hours(self) -> float:
        return self.nodes * ((self.ended or time.time()) - self.began) / 3600 if self.began else 0.0

    def shown(self, with_spec: bool) -> dict[str, Any]:
        """As the specification has it."""
        status = {
            "state": self.state, "time": self.ended or self.began or self.queued, "message": self.message or None,
            "exit_code": self.exit_code, "meta_data": {"node_hours": self.node_hours},
        }  # fmt: skip
        return {"id": self.id, "status": status} | ({"job_spec": self.spec} if with_spec else {})


class Jobs:
    """All jobs, each in a directory of its own. At most `nodes` nodes are busy at once."""

    def __init__(self, root: Path, nodes: int) -> None:
        self.root, self.nodes = root, nodes
        root.mkdir(parents=True, exist_ok=True)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._killing: dict[str, float] = {}
        self.all: dict[str, Job] = {}
        for file in root.glob("*/job.json"):
            job = msgspec.json.decode(file.read_bytes(), type=Job)
            self.all[job.id] = job

    def new(self, resource: str, spec: dict[str, Any]) -> Job:
        """One that is not kept yet."""
        return Job(id=secrets.token_hex(8), resource=resource, spec=spec, queued=time.time())

    def keep(self, job: Job) -> None:
        """Make it, as it is now, durable in one stroke."""
        file = self.root / job.id / "job.json"
        file.parent.mkdir(exist_ok=True)
        private = file.with_name(".job.json")
        private.write_bytes(msgspec.json.encode(job))
        private.replace(file)
        self.all[job.id] = job

    def forget(self) -> None:
        """Lose every job from memory and from disk; their processes go on."""
        for job in self.all.values():
            (self.root / job.id / "job.json").unlink(missing_ok=True)
        self.all.clear()

    def cancel(self, job: Job) -> None:
        if job.state == "active":
            signal_session(job.pid, signal.SIGTERM)
            self._killing[job.id] = time.monotonic() + KILL_AFTER
        if job.state in LIVE:
            self._end(job, "canceled", None, "canceled by its user")

    def tick(self, hold: bool, charge: Callable[[Job], None]) -> None:
        """See which have ended, and begin what there is room for."""
        for job in list(self.all.values()):
            if job.state == "active":
                self._look(job, charge)
        for id, when in list(self._killing.items()):
            if time.monotonic() > when:
                signal_session(self.all[id].pid if id in self.all else 0, signal.SIGKILL)
                del self._killing[id]
        for child in list(self._children.values()):
            child.poll()
        busy = sum(job.nodes for job in self.all.values() if job.state == "active")
        for job in sorted((j for j in self.all.values() if j.state == "queued"), key=lambda j: j.queued):
            if not hold and busy + job.nodes <= max(self.nodes, job.nodes):
                self._begin(job)
                busy += job.nodes

    def _look(self, job: Job, charge: Callable[[Job], None]) -> None:
        if child := self._children.get(job.id):
            child.poll()
        ended = self.root / job.id / "exit"
        running = _ticks(job.pid) == job.ticks
        if ended.exists():
            code = int(ended.read_text())
            limit = code in (124, 137) and time.time() - job.began >= (self._duration(job) or float("inf"))
            words = "reached its time limit" if limit else f"ended with exit code {code}"
            self._end(job, "failed" if code else "completed", code, words if code else "")
            charge(job)
        elif not running:
            self._end(job, "failed", None, "its node was lost")
            charge(job)

    def _begin(self, job: Job) -> None:
        folder = self.root / job.id
        script = folder / "job.sh"
        script.write_text(_script(job.form))
        limit = self._duration(job)
        run = f"timeout -k 2 {limit} sh {shlex.quote(str(script))}" if limit else f"sh {shlex.quote(str(script))}"
        # The exit code must be there in one piece, or not at all.
        outer = f"{run}; echo $? > {shlex.quote(str(folder / '.exit'))}; cd {shlex.quote(str(folder))} && mv .exit exit"
        environment = dict(os.environ) if job.form.inherit_environment else {"PATH": os.defpath}
        with open(folder / "outer.log", "ab") as log:
            child = subprocess.Popen(
                ["sh", "-c", outer], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env=environment,
            )  # fmt: skip
        self._children[job.id] = child
        job.state, job.began, job.pid, job.ticks = "active", time.time(), child.pid, _ticks(child.pid)
        self.keep(job)

    def _end(self, job: Job, state: str, code: int | None, message: str) -> None:
        job.state, job.exit_code, job.message, job.ended = state, code, message, time.time()
        self.keep(job)

    def _duration(self, job: Job) -> int | None:
        attributes = job.form.attributes
        return attributes.duration if attributes else None


def _script(spec: JobSpec) -> str:
    """What runs on the node. One process is started unless a launcher says otherwise."""
    count = str((spec.resources and spec.resources.process_count) or 1)
    launcher = spec.launcher or "single"
    words = {"single": [], "mpirun": ["mpirun", "-n", count], "srun": ["srun", "-n", count]}.get(
        launcher, shlex.split(launcher)
    )
    lines = [f"cd {shlex.quote(spec.directory)} || exit 1"] if spec.directory else []
    lines += [f"export {name}={shlex.quote(value)}" for name, value in spec.environment.items()]
    streams = (("<", spec.stdin_path), (">>", spec.stdout_path), ("2>>", spec.stderr_path or spec.stdout_path))
    lines += [f"exec {sign} {shlex.quote(path)} || exit 1" for sign, path in streams if path]
    lines += [spec.pre_launch or "", shlex.join([*words, spec.executable or "true", *spec.arguments])]
    return "\n".join([*lines, "code=$?", spec.post_launch or "", "exit $code", ""])


def signal_session(leader: int, number: int) -> None:
    """To everything of a session, whose leader's number is that of the job."""
    for name in os.listdir("/proc"):
        if name.isdigit() and leader and _field(int(name), 3) == leader:
            try:
                os.kill(int(name), number)
            except ProcessLookupError:
                continue


def _ticks(pid: int) -> int:
    """When a process began, in ticks since boot; 0 where there is none."""
    return 0 if not pid or _field(pid, 0) in ("Z", "X") else int(_field(pid, 19) or 0)


def _field(pid: int, number: int) -> Any:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    value = text[text.rindex(")") + 2 :].split()[number]
    return int(value) if value.lstrip("-").isdigit() else value
