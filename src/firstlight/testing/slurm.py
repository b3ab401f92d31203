"""A real Slurm of one's own on this machine: a controller and several virtual nodes.

    with SlurmBox() as box:
        subprocess.run(["sbatch", ...], env={**os.environ, **box.environment})

It needs the programs of Slurm and munge (Debian: slurm-wlm, munge), and neither root, cgroups, systemd nor a database.
Its daemons are children of this process, in a directory and on ports of their own, so that several boxes stand side by
side. Everything is tuned down so that what takes a real Slurm minutes takes it seconds. Without cgroups it enforces no
memory limits, and its nodes claim processors that the machine need not have.

`python -m firstlight.testing.slurm` brings one up for people to try, and says what to export; Ctrl-C takes it down.
"""

import contextlib
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sinfo", "srun")
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
# Below the ports that the kernel gives to outgoing connections: a daemon that is started again finds its own free.
_PORTS = range(20000, 32000)

_CONF = """\
ClusterName=box
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmdParameters=config_overrides
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={d}/munge.socket
SlurmctldPort={port}
StateSaveLocation={d}/state
SlurmdSpoolDir={d}/%n/spool
# Each node its own: two PMIx servers on one machine clash otherwise.
TmpFS={d}/%n/tmp
SlurmctldPidFile={d}/slurmctld.pid
SlurmdPidFile={d}/%n/slurmd.pid
SlurmctldLogFile={d}/slurmctld.log
SlurmdLogFile={d}/%n/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=pmix_v4
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0,defer_batch
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MaxJobCount=20000
MinJobAge={remember}
SlurmdTimeout=10
SlurmctldTimeout=10
MessageTimeout=10
InactiveLimit=0
KillWait=3
UnkillableStepTimeout=20
OverTimeLimit=0
ReturnToService=2
JobRequeue=1
JobCompType=jobcomp/filetxt
JobCompLoc={d}/jobs.log
"""


def available() -> str:
    """Which of the programs that it needs are not installed, "" where all are there."""
    return ", ".join(name for name in PROGRAMS if shutil.which(name, path=_PATH) is None)


class SlurmBox:
    """A context manager: a controller, `nodes` nodes named n1, n2, ... of `cpus` processors, and its partitions.

    The default partition is "debug", without a limit. `partitions` adds others: a name and what slurm.conf says of
    it ("MaxTime=1 Nodes=n1"). `remember` is for how many seconds the controller knows a job that has ended, and
    `settings` are further ones of slurm.conf. Entering raises RuntimeError, with what the daemons said, where it does
    not come up.
    """

    def __init__(
        self, nodes: int = 2, cpus: int = 4, partitions: Mapping[str, str] | None = None, remember: int = 300,
        settings: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self._settings = dict(settings or {})
        self._cpus, self._remember, self._partitions = cpus, remember, dict(partitions or {})
        self._nodes = [f"n{n}" for n in range(1, nodes + 1)]
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = contextlib.ExitStack()
        self._directory: Path | None = None

    @property
    def directory(self) -> Path:
        """Its state, logs and sockets; it is short, as sockets need it, and gone when the box is."""
        if self._directory is None:
            raise RuntimeError("the box is not up: enter it first")
        return self._directory

    @property
    def nodes(self) -> Sequence[str]:
        """The names of its nodes."""
        return list(self._nodes)

    @property
    def environment(self) -> dict[str, str]:
        """What makes Slurm's programs talk to it, beside the rest of the environment."""
        # OpenMPI refuses root, which in a container is the only user there is.
        mpi = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        return {"SLURM_CONF": str(self.directory / "slurm.conf"), "PATH": _PATH, **mpi}

    def __enter__(self) -> "SlurmBox":
        if missing := available():
            raise RuntimeError(f"not installed: {missing} (Debian: apt install slurm-wlm munge)")
        with self._stack as stack:
            self._directory = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
            stack.callback(shutil.rmtree, self._directory, ignore_errors=True)
            stack.callback(self._stop)
            self._directory.chmod(0o755)  # munged insists.
            self._configure()
            self._start_munge()
            self.start_controller()
            for node in self._nodes:
                self._start_node(node)
            self.ready()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def run(self, *command: str, check: bool = True) -> str:
        """What one of Slurm's programs prints. Raises RuntimeError, with what it says, where it fails."""
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def ready(self) -> None:
        """Wait until all its nodes take jobs. A controller that was started again hears of them one after another, and
        drains those whose jobs it does not know."""
        self._until(self._all_up, "the nodes do not come up")

    # ------------------------------------------------------------------ what tests do to it

    def kill_controller(self) -> None:
        """Kill slurmctld as a crash does; jobs that run go on."""
        self._kill("slurmctld")

    def forget(self) -> None:
        """Have the controller killed and started again with nothing known of any job; it numbers them from 1 again."""
        self.kill_controller()
        for file in self.directory.glob("state/job_state*"):
            file.unlink()
        self.start_controller()

    def start_controller(self) -> None:
        """Start slurmctld with what it remembers, and wait until it answers; nodes that it drained serve again."""
        self._start("slurmctld", ["slurmctld", "-D", "-f", self.environment["SLURM_CONF"]])
        self._until(lambda: "is UP" in self.run("scontrol", "ping", check=False), "slurmctld does not answer")
        self.resume()

    def lose(self, node: str, tell: bool = True) -> None:
        """Kill all of a node: slurmd, its jobs and whatever they started.

        With `tell` the controller is told at once what it would find out by itself half a minute later.
        """
        self._kill(f"slurmd {node}")
        for pid in self._of(node):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if tell:
            self.run("scontrol", "update", f"nodename={node}", "state=down", "reason=lost")

    def restore(self, node: str) -> None:
        """Bring a lost node back, and wait until it takes jobs."""
        self._start_node(node)
        self.ready()

    def resume(self) -> None:
        """Have nodes serve again that the controller has drained, as one does whose state is older than its jobs."""
        for line in self.run("sinfo", "-hN", "-p", "debug", "-o", "%N %T").splitlines():
            node, state = line.split()
            if state.startswith(("down", "drain")) and f"slurmd {node}" in self._daemons:
                self.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)

    def scancel(self, name: str) -> None:
        """Cancel the jobs of this name."""
        self.run("scancel", f"--jobname={name}")

    def jobs(self) -> list[list[str]]:
        """The id, name and state of all jobs that it remembers, the ended ones too."""
        said = self.run("squeue", "--noheader", "--states=all", "--array", "--format=%i|%j|%T")
        return [line.split("|") for line in said.splitlines()]

    # ------------------------------------------------------------------ its daemons

    def _configure(self) -> None:
        d, host = self.directory, socket.gethostname().partition(".")[0]
        ports = _free_ports(1 + len(self._nodes))
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 - 512
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        lines = [_CONF.format(d=d, host=host, user=user, port=ports[0], remember=self._remember)]
        lines += [f"{name}={value}\n" for name, value in self._settings.items()]
        for node, port in zip(self._nodes, ports[1:], strict=True):
            (d / node / "tmp").mkdir(parents=True)
            (d / node / "spool").mkdir()
            lines.append(
                f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={self._cpus} "
                f"RealMemory={memory} State=UNKNOWN\n"
            )
        lines.append("PartitionName=debug Nodes=ALL Default=YES DefaultTime=60 MaxTime=INFINITE State=UP\n")
        lines += [f"PartitionName={name} {said}\n" for name, said in self._partitions.items()]
        (d / "state").mkdir()
        (d / "slurm.conf").write_text("".join(lines))
        (d / "munge.key").write_bytes(os.urandom(128))
        (d / "munge.key").chmod(0o600)

    def _start_munge(self) -> None:
        paths = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid", "seed-file": "munge.seed"}
        options = [f"--{name}={self.directory / file}" for name, file in paths.items()]
        self._start("munged", ["munged", "--force", "--foreground", *options])
        self._until((self.directory / "munge.socket").exists, "munged does not start")

    def _start_node(self, node: str) -> None:
        # The mark is inherited by slurmstepd, which outlives slurmd and belongs to nobody then.
        command = ["slurmd", "-D", "-f", self.environment["SLURM_CONF"], "-N", node]
        self._start(f"slurmd {node}", command, {_MARK: str(self.directory / node)})

    def _start(self, name: str, command: list[str], environment: Mapping[str, str] | None = None) -> None:
        with open(self.directory / f"{name.replace(' ', '-')}.out", "ab") as out:
            self._daemons[name] = subprocess.Popen(
                command, env={**os.environ, **self.environment, **(environment or {})}, cwd=self.directory,
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip

    def _kill(self, name: str) -> None:
        if (process := self._daemons.pop(name, None)) is not None:
            process.kill()
            process.wait()

    def _stop(self) -> None:
        for node in self._nodes:
            self.lose(node, tell=False)
        for name in list(self._daemons):
            self._kill(name)

    def _all_up(self) -> bool:
        states = self.run("sinfo", "-hN", "-p", "debug", "-o", "%T", check=False).split()
        if any(state.startswith(("down", "drain")) and not state.endswith("*") for state in states):
            self.resume()
        return len(states) == len(self._nodes) and all(s in ("idle", "mixed", "allocated") for s in states)

    def _of(self, node: str) -> list[int]:
        """The processes of a node: its daemons, the jobs' own, and whatever any of them started."""
        marks = {f"{_MARK}={self.directory / node}"}
        job = {f"SLURM_CONF={self.environment['SLURM_CONF']}", f"SLURMD_NODENAME={node}"}
        parents, found = dict(_parents()), set[int]()
        for pid in parents:
            with contextlib.suppress(OSError):
                said = set(Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0"))
                if marks <= said or job <= said:
                    found.add(pid)
        while grown := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
            found |= grown
        return sorted(found)

    def _until(self, condition: Callable[[], bool], message: str, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline or any(p.poll() is not None for p in self._daemons.values()):
                said = [file.read_text(errors="replace")[-1000:] for file in self.directory.glob("*.out")]
                raise RuntimeError("\n".join([message, *said]))
            time.sleep(0.05)


_MARK = "FIRSTLIGHT_SLURM_NODE"


def _parents() -> Iterator[tuple[int, int]]:
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if entry.isdigit():
                stat = Path("/proc", entry, "stat").read_text()
                yield int(entry), int(stat.rpartition(")")[2].split()[1])


def _free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody has, all different."""
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("this machine has no free ports")


def main() -> None:
    """Bring one up, say what makes Slurm's programs talk to it, and take it down when told to end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit())
    with SlurmBox() as box:
        for name, value in box.environment.items():
            print(f"export {name}={shlex.quote(value)}", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
