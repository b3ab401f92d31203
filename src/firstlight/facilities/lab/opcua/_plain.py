"""A plain OPC UA server: its methods as operations, its variables as signals and as what can be set."""

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast, get_args

from asyncua import ua

from firstlight.core import Argument, Effect, InstrumentDescription, Operation

from ._link import Connection, standard
from ._space import Tree, Variable, browse, data_type, look

ENCODED = "object"


@dataclass(frozen=True)
class Method:
    """A method as an operation."""

    target: ua.NodeId
    method: ua.NodeId
    inputs: Sequence[tuple[str, ua.VariantType | None, bool]]
    outputs: Sequence[str]
    operation: Operation


@dataclass(frozen=True)
class Setting:
    """A variable that can be written, as an operation."""

    variable: Variable
    operation: Operation


@dataclass(frozen=True)
class Plain:
    """What a server of no companion specification offers."""

    description: InstrumentDescription
    methods: Mapping[str, Method] = field(default_factory=dict)
    settings: Mapping[str, Setting] = field(default_factory=dict)
    signals: Mapping[str, Variable] = field(default_factory=dict)
    stop: Method | None = None


@dataclass(frozen=True)
class Choice:
    """What the options say of a plain server.

    `root` is a node's id, or a path of browse names under Objects; `operations` are more words to a method's or a
    variable's own: `effect`, `seconds`, `description`. Where it is not empty, only those are operations.
    """

    root: str = ""
    operations: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    signals: Sequence[str] = ()
    stop: str = ""
    depth: int = 4


async def offer(connection: Connection, name: str, choice: Choice) -> Plain:
    """What a server offers under a node. Raises Unavailable, and LookupError with what there is."""
    root = await _root(connection, choice.root)
    await browse(connection, root, choice.depth, without=("Server", "Aliases", "Locations"))
    trees = [t for t in root.walk() if t.name != "Server"]
    said = await look(connection, trees)
    methods = {m.operation.name: m for m in _methods(root, said, choice)}
    variables = dict(_variables(root, said))
    stop = methods.pop(choice.stop, None)
    if choice.stop and stop is None:
        raise LookupError(f"{name} has no method {choice.stop!r} to stop it; it has: {', '.join(methods) or 'none'}")
    settings = {s.operation.name: s for n, v in variables.items() if v.writable for s in [_setting(n, v, choice)]}
    if choice.operations:
        missing = [n for n in choice.operations if n not in methods and n not in settings]
        if missing:
            there = ", ".join([*methods, *settings]) or "none"
            raise LookupError(f"{name} has no operation {', '.join(missing)}; it has: {there}")
        methods = {n: m for n, m in methods.items() if n in choice.operations}
        settings = {n: s for n, s in settings.items() if n in choice.operations}
    signals = {n: v for n, v in variables.items() if not choice.signals or n in choice.signals}
    operations = [*(m.operation for m in methods.values()), *(s.operation for s in settings.values())]
    build = await connection.read([standard(i) for i in BUILD])
    description = InstrumentDescription(
        name=name, protocol="opcua", operations=tuple(operations),
        signals=tuple(v.signal(n) for n, v in signals.items()), vendor=str(build[0] or ""), model=str(build[1] or ""),
        version=str(build[2] or ""),
    )  # fmt: skip
    return Plain(description, methods, settings, signals, stop)


BUILD = (
    ua.ObjectIds.Server_ServerStatus_BuildInfo_ManufacturerName,
    ua.ObjectIds.Server_ServerStatus_BuildInfo_ProductName,
    ua.ObjectIds.Server_ServerStatus_BuildInfo_SoftwareVersion,
)


async def _root(connection: Connection, where: str) -> Tree:
    objects = Tree(standard(ua.ObjectIds.ObjectsFolder), "Objects", ua.NodeClass.Object)
    if where.startswith(("ns=", "i=", "s=")):
        return Tree(ua.NodeId.from_string(where), where, ua.NodeClass.Object)
    at = objects
    for name in [n for n in where.split("/") if n and n != "Objects"]:
        await browse(connection, at, 1)
        if name not in at.under:
            raise LookupError(f"there is no {name!r} under {at.name!r}; there are: {', '.join(at.under)}")
        at = at.under[name]
    return at


def _methods(root: Tree, said: Mapping[ua.NodeId, Variable], choice: Choice) -> list[Method]:
    them = [(owner, t) for owner in root.walk() for t in owner.under.values() if t.kind is ua.NodeClass.Method]
    often = Counter(t.name for _, t in them)
    return [_method(o, t, t.name if often[t.name] == 1 else f"{o.name}.{t.name}", said, choice) for o, t in them]


def _method(owner: Tree, tree: Tree, name: str, said: Mapping[ua.NodeId, Variable], choice: Choice) -> Method:
    def told(which: str) -> list[ua.Argument]:
        at = tree.at(which)
        return list(said[at.node].value or []) if at is not None and at.node in said else []

    def argument(told: ua.Argument, number: int, what: str) -> Argument:
        kind, _ = data_type(told.DataType)
        description = (told.Description.Text or "") if told.Description else ""
        return Argument(
            name=told.Name or f"{what}{number}", type="array" if told.ValueRank >= 0 else kind, description=description
        )

    inputs, outputs = told("InputArguments"), told("OutputArguments")
    taken = [argument(a, i, "in") for i, a in enumerate(inputs)]
    given = [argument(a, i, "out") for i, a in enumerate(outputs)]
    types = [(t.name, data_type(a.DataType)[1], a.ValueRank >= 0) for t, a in zip(taken, inputs, strict=True)]
    operation = _operation(name, tuple(taken), tuple(given), choice)
    return Method(owner.node, tree.node, types, [g.name for g in given], operation)


def _operation(name: str, arguments: tuple[Argument, ...], results: tuple[Argument, ...], choice: Choice) -> Operation:
    more: Mapping[str, Any] = choice.operations.get(name, {})
    effect = more.get("effect")
    return Operation(
        name=name, effect=cast("Effect", effect) if effect in get_args(Effect) else "consuming",
        arguments=arguments, results=results, seconds=more.get("seconds"), description=str(more.get("description", "")),
    )  # fmt: skip


def _variables(root: Tree, said: Mapping[ua.NodeId, Variable]) -> list[tuple[str, Variable]]:
    found = list[tuple[str, str, Variable]]()
    for owner in root.walk():
        if owner.kind is ua.NodeClass.Object:
            for tree in owner.under.values():
                variable = said.get(tree.node)
                if variable is not None and variable.type not in ("array", ENCODED):
                    found.append((owner.name, tree.name, variable))
    often = Counter(name for _, name, _ in found)
    return [(name if often[name] == 1 else f"{owner}.{name}", v) for owner, name, v in found]


def _setting(name: str, variable: Variable, choice: Choice) -> Setting:
    before, _, last = name.rpartition(".")
    called = f"{before}.Set{last}" if before else f"Set{last}"
    return Setting(variable, _operation(called, (variable.argument("Value"),), (), choice))


def given(method: Method, outputs: Sequence[object]) -> dict[str, object]:
    """What a method gave back, by name."""
    with contextlib.suppress(ValueError):
        return dict(zip(method.outputs, outputs, strict=True))
    return {f"out{i}": value for i, value in enumerate(outputs)}
