"""What a device of OPC 30500 (LADS) can do: programs and control functions as operations, sensors as signals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from asyncua import ua

from firstlight.core import Argument, Effect, InstrumentDescription, Operation

from ._link import Connection, Refused, standard
from ._space import Tree, Variable, browse, children, look, plain

SETS = ("ResultSet", "FileSet", "Maintenance", "MachineryBuildingBlocks", "Lock", "NodeVersion")
"""What is not looked into to describe a device: it grows without end, or says nothing of operations."""


@dataclass(frozen=True)
class Machine:
    """A state machine of LADS: its state, that of its Running state, and its methods by name."""

    node: ua.NodeId
    state: ua.NodeId
    running: ua.NodeId | None
    methods: Mapping[str, ua.NodeId]

    @property
    def states(self) -> list[ua.NodeId]:
        """The variables that tell its state."""
        return [self.state, *([self.running] if self.running else [])]


@dataclass(frozen=True)
class Unit:
    """A functional unit: one program at a time."""

    name: str
    machine: Machine
    active: Mapping[str, ua.NodeId]
    results: ua.NodeId
    version: ua.NodeId | None
    given: tuple[str, ...]
    """The input arguments of StartProgram, in its order."""
    encodings: Mapping[str, ua.NodeId]
    """The binary encodings of those that are structures."""
    namespace: int
    """That of the names in its result set."""
    said: dict[str, Argument] = field(default_factory=dict)
    """What its programs say of their results, by name."""

    @property
    def watched(self) -> list[ua.NodeId]:
        """The variables whose changes may tell of a run."""
        named = ("DeviceProgramRunId", "CurrentRuntime", "EstimatedRuntime", "CurrentStepName")
        said = [self.active[n] for n in named if n in self.active]
        return [*self.machine.states, *said, *([self.version] if self.version else [])]


@dataclass(frozen=True)
class Program:
    """A program template of a functional unit."""

    unit: Unit
    template: str
    operation: Operation


@dataclass(frozen=True)
class Function:
    """A control function: a value that is set, and waited for."""

    name: str
    machine: Machine
    target: Variable
    current: Variable
    tolerance: float
    operation: Operation


@dataclass(frozen=True)
class Model:
    """All that a device can do, and where."""

    description: InstrumentDescription
    units: Mapping[str, Unit] = field(default_factory=dict)
    programs: Mapping[str, Program] = field(default_factory=dict)
    functions: Mapping[str, Function] = field(default_factory=dict)
    signals: Mapping[str, Variable] = field(default_factory=dict)
    machines: Sequence[Machine] = ()


@dataclass(frozen=True)
class Wishes:
    """What the options say of a device, where it does not say it itself."""

    device: str = ""
    tolerance: float = 0.01
    tolerances: Mapping[str, float] = field(default_factory=dict)


async def model(connection: Connection, name: str, wishes: Wishes) -> Model | None:
    """The device of a LADS server; None where it has none. Raises Unavailable, and LookupError with what there is."""
    objects = Tree(standard(ua.ObjectIds.ObjectsFolder), "Objects", ua.NodeClass.Object)
    await browse(connection, objects, 2, without=("Server", "Aliases", "Locations"))
    devices = {n: t for n, t in (objects.under["DeviceSet"].under if "DeviceSet" in objects.under else {}).items()
               if t.kind is ua.NodeClass.Object and n != "DeviceFeatures"}  # fmt: skip
    device = devices.get(wishes.device) if wishes.device else next(iter(devices.values()), None)
    if device is None or (not wishes.device and len(devices) > 1):
        if wishes.device or devices:
            raise LookupError(f"{name}: name one of its devices in the option device: {', '.join(devices) or 'none'}")
        return None
    await browse(connection, device, 10, without=SETS)
    units = device.at("FunctionalUnitSet")
    if units is None:
        return None
    said = await look(connection, device.walk())
    return await _Reading(connection, name, wishes, device, units, said).model()


@dataclass
class _Reading:
    connection: Connection
    name: str
    wishes: Wishes
    device: Tree
    sets: Tree
    said: Mapping[ua.NodeId, Variable]

    async def model(self) -> Model:
        units, programs, functions = dict[str, Unit](), dict[str, Program](), dict[str, Function]()
        signals, machines = dict[str, Variable](), list[Machine]()
        them = {n: t for n, t in self.sets.under.items() if t.kind is ua.NodeClass.Object}
        for name, tree in them.items():
            before = f"{name}." if len(them) > 1 else ""
            if (unit := await self._unit(name, tree)) is not None:
                units[name] = unit
                machines.append(unit.machine)
                for template in (tree.at("ProgramManager", "ProgramTemplateSet") or tree).under.values():
                    if template.kind is ua.NodeClass.Object and "ProgramManager" in tree.under:
                        programs[before + template.name] = self._program(before, unit, tree, template)
            for label, function in self._functions(before, tree.at("FunctionSet")):
                if (machine := _machine(function.at("ControlFunctionState"))) is not None:
                    machines.append(machine)
                    if (made := self._function(label, function, machine)) is not None:
                        functions[made.operation.name] = made
                signals |= self._signals(label, function)
        operations = [*(p.operation for p in programs.values()), *(f.operation for f in functions.values())]
        return Model(self._described(operations, signals, len(units)), units, programs, functions, signals, machines)

    def _described(
        self, operations: list[Operation], signals: Mapping[str, Variable], slots: int
    ) -> InstrumentDescription:
        def text(*names: str) -> str:
            for under in (self.device.at("Identification"), self.device):
                for name in names:
                    value = self._value(under.at(name)) if under else None
                    if value:
                        return str(plain(value))
            return ""

        return InstrumentDescription(
            name=self.name, protocol="opcua", operations=tuple(operations),
            signals=tuple(v.signal(n) for n, v in signals.items()), vendor=text("Manufacturer"), model=text("Model"),
            serial=text("SerialNumber"), version=text("SoftwareRevision", "DeviceRevision", "HardwareRevision"),
            slots=max(1, slots),
        )  # fmt: skip

    def _value(self, tree: Tree | None) -> Any:
        return self.said[tree.node].value if tree is not None and tree.node in self.said else None

    async def _unit(self, name: str, tree: Tree) -> Unit | None:
        machine = _machine(tree.at("FunctionalUnitState") or tree.at("StateMachine"))
        results = tree.at("ProgramManager", "ResultSet")
        if machine is None or results is None or "StartProgram" not in machine.methods:
            return None
        state = tree.at("FunctionalUnitState") or tree.at("StateMachine")
        told = self._value(state.at("StartProgram", "InputArguments") if state else None) or []
        structures = {a.Name: a.DataType for a in told if a.DataType.NamespaceIndex}
        below = await children(self.connection, list(structures.values()), standard(ua.ObjectIds.HasEncoding))
        encodings = {
            argument: ua.NodeId(r.NodeId.Identifier, r.NodeId.NamespaceIndex, r.NodeId.NodeIdType)
            for argument, references in zip(structures, below, strict=True)
            for r in references
            if (r.BrowseName.Name or "").endswith("Binary")
        }
        active = tree.at("ProgramManager", "ActiveProgram")
        version = results.at("NodeVersion")
        return Unit(
            name, machine, {n: t.node for n, t in active.under.items()} if active else {}, results.node,
            version.node if version else None, tuple(a.Name for a in told), encodings, results.namespace,
        )  # fmt: skip

    def _program(self, before: str, unit: Unit, tree: Tree, template: Tree) -> Program:
        own = template.at("SupportedPropertiesSet")
        shared = own or tree.at("SupportedPropertiesSet")
        arguments = []
        for key, alias in shared.under.items() if shared else ():
            if alias.kind is ua.NodeClass.Object and (variable := self._aliased(alias)) is not None:
                # A property of the whole unit may be left out: what it is now stays. A template's own says so itself.
                default = variable.value if own is None else self._value(alias.at("DefaultValue"))
                arguments.append(variable.argument(key, _default(variable, default)))
        outcome = template.at("VariableSet")
        results = [self.said[t.node].argument(n) for n, t in (outcome.under if outcome else {}).items()
                   if t.node in self.said and n != "NodeVersion"]  # fmt: skip
        effect, seconds = self._value(template.at("Effect")), self._value(template.at("EstimatedRuntime"))
        operation = Operation(
            name=before + template.name, effect=effect if effect in get_args(Effect) else "consuming",
            arguments=tuple(arguments), results=tuple(results),
            seconds=float(seconds) / 1000 if isinstance(seconds, int | float) else None,
            description=str(plain(self._value(template.at("Description"))) or ""),
        )  # fmt: skip
        unit.said.update({r.name: r for r in operation.results})
        return Program(unit, template.name, operation)

    def _aliased(self, alias: Tree) -> Variable | None:
        return next(
            (self.said[t.node] for n, t in alias.under.items() if t.node in self.said and n != "DefaultValue"), None
        )

    def _functions(self, before: str, tree: Tree | None) -> list[tuple[str, Tree]]:
        found = list[tuple[str, Tree]]()
        for name, function in (tree.under if tree else {}).items():
            if function.kind is ua.NodeClass.Object:
                found.append((before + name, function))
                found += self._functions(f"{before}{name}.", function.at("FunctionSet"))
        return found

    def _function(self, name: str, tree: Tree, machine: Machine) -> Function | None:
        target, current = tree.at("TargetValue"), tree.at("CurrentValue")
        if target is None or current is None or target.node not in self.said or current.node not in self.said:
            return None
        wanted, now = self.said[target.node], self.said[current.node]
        span = (wanted.high - wanted.low) if wanted.low is not None and wanted.high is not None else 0.0
        tolerance = self.wishes.tolerances.get(name, self.wishes.tolerance * span)
        operation = Operation(
            name=f"Set{name}" if "." not in name else f"{name}.Set", arguments=(wanted.argument("Target"),),
            results=(now.argument("Reached"),),
            description=f"Set {name}, and wait until it is there" + (f" to {tolerance:g}" if tolerance else ""),
        )  # fmt: skip
        return Function(name, machine, wanted, now, tolerance, operation)

    def _signals(self, name: str, tree: Tree) -> dict[str, Variable]:
        called = {"SensorValue": name, "CurrentValue": name, "TargetValue": f"{name}.Target"}
        called |= {"TotalizedValue": f"{name}.Total"}
        found = {called[n]: self.said[t.node] for n, t in tree.under.items() if n in called and t.node in self.said}
        return {n: v for n, v in found.items() if v.type not in ("array", "object")}


def _machine(tree: Tree | None) -> Machine | None:
    state = tree.at("CurrentState") if tree else None
    if tree is None or state is None:
        return None
    running = tree.at("RunningStateMachine", "CurrentState")
    methods = {n: t.node for n, t in tree.under.items() if t.kind is ua.NodeClass.Method}
    return Machine(tree.node, state.node, running.node if running else None, methods)


def _default(variable: Variable, value: Any) -> Any:
    if value is None or isinstance(value, list):
        return None
    if variable.choices:
        return variable.choices[value] if isinstance(value, int) and value < len(variable.choices) else value
    return value if isinstance(value, bool) else plain(value)


async def stop(connection: Connection, machine: Machine, wait: float, ways: Sequence[str] = ("Stop", "Abort")) -> None:
    """Bring a state machine to a stop, in the first of the ways that it takes.

    Raises InDoubt, Unavailable, and Refused where it runs on.
    """
    last: Refused | None = None
    for method in ways:
        if method in machine.methods:
            try:
                await connection.call(machine.node, machine.methods[method], (), wait)
                return
            except Refused as error:
                last = error
    state = (await connection.read([machine.state]))[0]
    if last is not None and state_name(state) not in STILL:
        raise last


def state_name(value: Any) -> str:
    """The state that a CurrentState tells."""
    return str(plain(value) or "").rpartition(":")[2].strip()


STILL = ("Stopped", "Aborted", "Stopping", "Aborting", "Clearing", "Off")
"""States in which nothing moves, or which lead there."""
