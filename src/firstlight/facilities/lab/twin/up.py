"""Start the twin laboratory: its world, one server a device, proxies before them, and the file that a facility reads.

    python -m firstlight.facilities.lab.twin.up --directory DIR --speed 60 --seed 1

It runs until SIGTERM, SIGINT, or the end of whoever started it with `--until-eof`; with it ends all that it started,
also where it is killed: each child ends with its own input.
"""

import argparse
import asyncio
import contextlib
import importlib
import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from . import control
from ._faults import FAULTS
from ._laboratory import BOTTLES, DEAD, PLACES, STARTS, WELLS
from ._proxy import Proxy
from .devices import PROTOCOLS, WorldLink, describe

_PATIENCE = 30.0
"""Seconds for all of it to be up."""
_RESTART = 0.3
"""Seconds that a crashed server stays away."""
BLIND = 20.0
"""Seconds for which an interlock's signal may be unread: a server that crashed takes up to ten to be there again."""
CHAOS: Mapping[str, Mapping[str, float]] = {
    "handler": {"clog": 0.02, "fail": 0.02, "drop": 0.005, "cut": 0.01, "freeze": 0.005},
    "heater": {"fail": 0.02, "cut": 0.05, "drift": 0.05},
    "furnace": {"fail": 0.02, "cut": 0.05, "drift": 0.05, "crash": 0.05},
    "spectrometer": {"fail": 0.02, "freeze": 0.01, "drift": 0.02},
    "mover": {"fail": 0.02, "crash": 0.01, "cut": 0.02, "hang": 0.01},
}  # fmt: skip
"""What `--faults all` arms, with the probability at each operation. Doors, runaways and empty bottles, after which
nothing goes on before somebody has walked there, are armed by their names."""


def read_faults(text: str) -> dict[str, float]:
    """The probability of each fault that "all", "none", or a list such as "handler.clog=0.1,mover.hang" names.

    Raises ValueError, saying what there is.
    """
    if text in ("all", "none"):
        return {f"{d}.{f}": p for d, some in CHAOS.items() for f, p in some.items()} if text == "all" else {}
    wanted: dict[str, float] = {}
    for one in text.split(","):
        name, _, share = (part.strip() for part in one.partition("="))
        device, _, fault = name.partition(".")
        if device not in FAULTS:
            raise ValueError(f"{name!r} befalls nothing: write all, none, or DEVICE.FAULT of {', '.join(FAULTS)}")
        if fault not in FAULTS[device]:
            raise ValueError(f"{device} has no fault {fault!r}; it has: {', '.join(sorted(FAULTS[device]))}")
        try:
            wanted[name] = float(share or 1.0)
        except ValueError:
            wanted[name] = -1.0
        if not 0 <= wanted[name] <= 1:
            raise ValueError(f"{name}: {share!r} is no probability: give a number from 0 to 1")
    return wanted


class LabUp:
    """A twin laboratory that runs, as its files say; see `up`."""

    def __init__(self, directory: Path, process: "subprocess.Popen[bytes]") -> None:
        self.directory, self.process = directory, process
        self.file = directory / "lab.yaml"
        self.description: dict[str, Any] = yaml.safe_load(self.file.read_text())

    def instrument(self, name: str) -> dict[str, Any]:
        """Protocol, address and options of an instrument. Raises KeyError."""
        return dict(self.description["instruments"][name])

    def fault(self, device: str, name: str, **how: Any) -> None:
        """See `control.fault`."""
        control.fault(self.directory, device, name, **how)

    def clear(self, device: str | None = None, name: str | None = None) -> None:
        """See `control.clear`."""
        control.clear(self.directory, device, name)

    def executions(self, after: int = 0) -> list[dict[str, Any]]:
        """See `control.executions`."""
        return control.executions(self.directory, after)

    def state(self) -> dict[str, Any]:
        """See `control.state`."""
        return control.state(self.directory)

    def pids(self) -> dict[str, int]:
        """The processes of the world and of each device's server, as they are now."""
        return dict(json.loads((self.directory / "twin.json").read_text())["pids"])


@contextlib.contextmanager
def up(
    directory: Path, *, speed: float = 60.0, seed: int = 1, faults: str = "none", restart: bool = True,
    only: Sequence[str] = tuple(PROTOCOLS),
) -> Iterator[LabUp]:  # fmt: skip
    """A twin laboratory from when all answers until the end of the block. Raises RuntimeError with its log."""
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "up.log"
    command = [
        sys.executable, "-m", __name__, "--directory", str(directory), "--speed", repr(speed), "--seed", str(seed),
        "--faults", faults, "--only", ",".join(only), "--until-eof", "--json", *([] if restart else ["--no-restart"]),
    ]  # fmt: skip
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out)
    assert process.stdin is not None and process.stdout is not None
    try:
        ready, _, _ = select.select([process.stdout], [], [], _PATIENCE + 5.0)
        if not ready or not process.stdout.readline():
            raise RuntimeError(f"the twin laboratory did not start: {log.read_text()[-3000:]}")
        yield LabUp(directory, process)
    finally:
        process.stdin.close()
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody uses, for TCP and UDP."""
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < count:
            tcp = stack.enter_context(socket.socket())
            tcp.bind(("127.0.0.1", 0))
            udp = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            with contextlib.suppress(OSError):
                udp.bind(("127.0.0.1", tcp.getsockname()[1]))
                ports.append(int(tcp.getsockname()[1]))
        return ports


def lab_file(ports: Mapping[str, int], speed: float) -> dict[str, Any]:
    """What the facility's file says of the laboratory whose devices listen at these ports."""
    operations: dict[str, dict[str, dict[str, Any]]] = {
        "handler": {
            "Dispense": {"at": "deck", "draws": [{"from": "Reagent", "to": "Well", "amount": "Volume"}]},
            "Mix": {"at": "deck", "samples": ["Well"]},
        },
        "heater": {"Heat": {"at": "heater", "whole": True}},
        "furnace": {"Anneal": {"at": "furnace", "whole": True}},
        "spectrometer": {
            "Measure": {"at": "reader", "samples": ["Well"]},
            "MeasureStandard": {"at": "reader", "whole": True},
        },
        "mover": {"Transfer": {"moves": {"what": "Plate", "from": "From", "to": "To"}}},
    }
    instruments: dict[str, Any] = {}
    for name, port in ports.items():
        said = describe(name, speed)
        declared = {
            o.name: {
                "effect": o.effect,
                "seconds": o.seconds,
                "limits": {a.name: {"default": a.default} for a in o.arguments if a.default is not None},
                **operations.get(name, {}).get(o.name, {}),
            }
            for o in said.operations
        }
        known: dict[str, dict[str, Any]] = {"sila": {"insecure": True}, "secop": {"module": name}}
        options = known.get(PROTOCOLS[name], {})
        if PROTOCOLS[name] == "epics":
            options = importlib.import_module(".serve_epics", __package__).options_for(said)
        address = f"opc.tcp://127.0.0.1:{port}/" if PROTOCOLS[name] == "opcua" else f"127.0.0.1:{port}"
        instruments[name] = {"protocol": PROTOCOLS[name], "address": address, "options": options}
        instruments[name] |= {"operations": declared}
    limits = {"heater": 150, "furnace": 270}
    return {
        "name": "cell", "instruments": instruments, "places": dict.fromkeys(PLACES, 1),
        "labware": {plate: {"wells": len(WELLS), "columns": 6, "place": place} for plate, place in STARTS.items()},
        "materials": {
            name: {"amount": f"{amount / 1000:g} mL", "reserve": f"{DEAD / 1000:g} mL", "capacity": "250 mL"}
            for name, (amount, _) in BOTTLES.items()
        },
        "interlocks": [
            {"instrument": name, "signal": "Temperature", "high": high, "unit": "degC", "blind": BLIND, "stop": [name]}
            for name, high in limits.items() if name in ports
        ] + [
            {
                "instrument": name, "signal": "Door", "equals": 0, "blind": BLIND,
                "message": f"the door of {name} is open",
            }
            for name in ports
        ],
    }  # fmt: skip


class _Starter:
    """The processes and proxies, and what befalls them."""

    def __init__(self, directory: Path, speed: float, seed: int, only: Sequence[str], restart: bool) -> None:
        self.directory, self.speed, self.seed, self.restart = directory, speed, seed, restart
        self.token = secrets.token_hex(16)
        ports = free_ports(1 + 2 * len(only))
        self.world_port = ports[0]
        self.servers = dict(zip(only, ports[1::2], strict=True))
        self.proxies = {
            name: Proxy(port, self.servers[name])
            for name, port in zip(only, ports[2::2], strict=True)
            if "drop" in FAULTS[name]
        }
        self.ports = {name: self.proxies[name].port if name in self.proxies else self.servers[name] for name in only}
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self._kept: set[asyncio.Task[None]] = set()
        self._link: WorldLink | None = None
        self._closing = False
        self.over = asyncio.Event()
        """Set when the world has ended: without it there is nothing left to serve."""

    async def start(self) -> None:
        """Bring all up. Raises TimeoutError, and RuntimeError where one died."""
        self.directory.mkdir(parents=True, exist_ok=True)
        await self._run("world", str(self.world_port), repr(self.speed), str(self.seed))
        # Servers load their libraries while the world does, and wait for it to listen.
        for name in self.servers:
            await self._serve(name)
        await self._listens("world", self.world_port)
        self._link = await WorldLink.open(self.world_port, self.token)
        self._link.pushed = self._befall
        await self._link.ask("listen", name="starter")
        for proxy in self.proxies.values():
            await proxy.start()
        for name, port in self.servers.items():
            await self._listens(name, port)
        for name in ("world", *self.servers):
            self._keep(self._watch(name))
        self._write()
        written = yaml.safe_dump(lab_file(self.ports, self.speed), sort_keys=False, width=120)
        (self.directory / "lab.yaml").write_text(written)

    async def arm(self, faults: str) -> None:
        """Arm what `read_faults` reads. Raises ValueError."""
        wanted = read_faults(faults)
        assert self._link is not None
        for name, probability in wanted.items():
            device, _, fault = name.partition(".")
            if device in self.servers:
                said = {"device": device, "fault": fault, "probability": probability, "times": 0}
                await self._link.ask("fault", fault=said)

    async def close(self) -> None:
        """End all, the world last."""
        self._closing = True
        for task in self._kept:
            task.cancel()
        for proxy in self.proxies.values():
            proxy.close()
        if self._link is not None:
            self._link.close()
        for name in reversed(list(self.processes)):
            process = self.processes[name]
            if process.stdin is not None:
                process.stdin.close()
        waits = {asyncio.create_task(process.wait()) for process in self.processes.values()}
        if waits:
            await asyncio.wait(waits, timeout=3.0)
        for process in self.processes.values():
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _serve(self, name: str) -> None:
        await self._run("devices", name, str(self.servers[name]), str(self.world_port), repr(self.speed), as_=name)

    async def _run(self, module: str, *arguments: str, as_: str = "") -> None:
        name = as_ or module
        with (self.directory / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", f"{__package__}.{module}", *arguments,
                stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(f"{self.token}\n".encode())
        self.processes[name] = process

    async def _listens(self, name: str, port: int) -> None:
        until = time.monotonic() + _PATIENCE
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            if self.processes[name].returncode is not None:
                said = (self.directory / f"{name}.log").read_text()[-2000:]
                raise RuntimeError(f"{name} ended before it listened: {said}")
            if time.monotonic() > until:
                raise TimeoutError(f"{name} does not listen on {port}")
            await asyncio.sleep(0.03)

    async def _watch(self, name: str) -> None:
        """A server that died is started again; the world is not, as nothing would be as it was."""
        while True:
            await self.processes[name].wait()
            if name == "world":
                self.over.set()
            if self._closing or self.over.is_set() or not self.restart:
                return
            await asyncio.sleep(_RESTART)
            await self._serve(name)
            self._write()

    def _befall(self, line: dict[str, Any]) -> None:
        name, seconds = line["device"], float(line["seconds"])
        if name not in self.servers:
            return
        match line["push"]:
            case "crash":
                self._signal(name, signal.SIGKILL)
            case "freeze":
                self._signal(name, signal.SIGSTOP)
                asyncio.get_running_loop().call_later(seconds, self._signal, name, signal.SIGCONT)
            case "hold":
                self.proxies[name].hold(seconds)
            case "drop":
                self.proxies[name].drop(seconds)
            case "cut":
                self.proxies[name].cut()

    def _signal(self, name: str, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.processes[name].send_signal(number)

    def _keep(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)

    def _write(self) -> None:
        """What the control needs, for our own eyes."""
        known = {
            "world": self.world_port, "token": self.token, "starter": os.getpid(),
            "pids": {name: process.pid for name, process in self.processes.items()},
        }  # fmt: skip
        path = self.directory / "twin.json"
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(known, file)


async def _main(given: argparse.Namespace) -> None:
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, done.set)
    if given.until_eof:
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        ended = asyncio.create_task(reader.read())
        ended.add_done_callback(lambda _: done.set())
    only = [name for name in given.only.split(",") if name]
    starter = _Starter(given.directory, given.speed, given.seed, only, not given.no_restart)
    try:
        await starter.start()
        await starter.arm(given.faults)
        where = {name: f"127.0.0.1:{port}" for name, port in starter.ports.items()}
        if given.json:
            print(json.dumps({"file": str(given.directory / "lab.yaml"), "instruments": where}), flush=True)
        else:
            for name, address in where.items():
                print(f"{name:14}{PROTOCOLS[name]:8}{address}", flush=True)
            print(f"The laboratory is up: {given.directory / 'lab.yaml'}", flush=True)
        ends = [asyncio.create_task(event.wait()) for event in (done, starter.over)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await starter.close()


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m firstlight.facilities.lab.twin.up")
    parser.add_argument("--directory", type=Path, required=True, help="for its files and logs")
    parser.add_argument("--speed", type=float, default=60.0, help="how many times as fast as ours its time runs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", default="none", help='all, none, or such as "handler.clog=0.1,mover.hang=0.01"')
    parser.add_argument("--only", default=",".join(PROTOCOLS), help="which devices")
    parser.add_argument("--no-restart", action="store_true", help="leave crashed servers dead")
    parser.add_argument("--until-eof", action="store_true", help="end when our input does")
    parser.add_argument("--json", action="store_true", help="say where all is as one line of JSON")
    asyncio.run(_main(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
