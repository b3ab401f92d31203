"""What is in the address space of a server, and what its variables say of themselves, in our words."""

import datetime
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from asyncua import ua

from firstlight.core import Argument, ArgumentType, Scalar, Signal

from ._link import Connection, asking, standard

HIERARCHICAL = standard(ua.ObjectIds.HierarchicalReferences)

UNITS = {
    "°C": "degC", "°F": "degF", "K": "kelvin", "µL": "uL", "μL": "uL", "µl": "uL", "μl": "uL", "ml": "mL", "l": "L",
    "µm": "um", "μm": "um", "µg": "ug", "μg": "ug", "Ω": "ohm", "%": "percent", "r/min": "rpm", "mPa.s": "mPa*s",
}  # fmt: skip
"""Ours for units as OPC UA displays them (UNECE recommendation 20), where they differ."""

_WHOLE: ArgumentType = "integer"
NUMBERS: dict[int, ArgumentType] = {
    ua.ObjectIds.Boolean: "boolean", ua.ObjectIds.String: "string", ua.ObjectIds.LocalizedText: "string",
    ua.ObjectIds.Float: "number", ua.ObjectIds.Double: "number", ua.ObjectIds.Number: "number",
    ua.ObjectIds.Duration: "number", ua.ObjectIds.DateTime: "string", ua.ObjectIds.UtcTime: "string",
}  # fmt: skip
NUMBERS |= {
    int(number): _WHOLE
    for number in (
        ua.ObjectIds.SByte, ua.ObjectIds.Byte, ua.ObjectIds.Int16, ua.ObjectIds.UInt16, ua.ObjectIds.Int32,
        ua.ObjectIds.UInt32, ua.ObjectIds.Int64, ua.ObjectIds.UInt64, ua.ObjectIds.Integer, ua.ObjectIds.UInteger,
    )
}  # fmt: skip


@dataclass(frozen=True)
class Tree:
    """A node, what it is, and what is under it by browse name, whatever the namespace."""

    node: ua.NodeId
    name: str
    kind: ua.NodeClass
    namespace: int = 0
    under: dict[str, "Tree"] = field(default_factory=dict)

    def at(self, *path: str) -> "Tree | None":
        """What is at a path under it."""
        found: Tree | None = self
        for name in path:
            found = found.under.get(name) if found else None
        return found

    def walk(self) -> Iterator["Tree"]:
        """It and all that is under it, each once."""
        seen, left = set[ua.NodeId](), [self]
        while left:
            tree = left.pop()
            if tree.node not in seen:
                seen.add(tree.node)
                yield tree
                left += tree.under.values()


async def browse(connection: Connection, root: Tree, depth: int, without: Sequence[str] = ()) -> None:
    """Fill a tree down to a depth, a level a question; nothing under `without`. Raises Unavailable."""
    known, level = {root.node: root}, [root]
    for _ in range(depth):
        below = list[Tree]()
        for tree, references in zip(level, await children(connection, [t.node for t in level]), strict=True):
            for reference in references:
                name = reference.BrowseName.Name or ""
                new = Tree(local(reference.NodeId), name, reference.NodeClass, reference.BrowseName.NamespaceIndex)
                there = known.setdefault(new.node, new)
                tree.under.setdefault(name, there)
                if there is new and name not in without:
                    below.append(new)
        level = below
        if not level:
            return


async def children(
    connection: Connection, nodes: Sequence[ua.NodeId], kind: ua.NodeId = HIERARCHICAL
) -> list[list[ua.ReferenceDescription]]:
    """The forward references of nodes, of a type or of one under it. Raises Unavailable."""
    session, found = connection.client.uaclient.session, list[list[ua.ReferenceDescription]]()
    for at in range(0, len(nodes), 100):
        questions = [
            ua.BrowseDescription(
                NodeId=node, BrowseDirection=ua.BrowseDirection.Forward, ReferenceTypeId=kind, IncludeSubtypes=True,
                NodeClassMask=0, ResultMask=63,
            ) for node in nodes[at : at + 100]
        ]  # fmt: skip
        with asking("the server"):
            results = await session.browse(ua.BrowseParameters(NodesToBrowse=questions))
            for result in results:
                found.append(list(result.References or []))
                point = result.ContinuationPoint
                while point:
                    more = (await session.browse_next(ua.BrowseNextParameters(ContinuationPoints=[point])))[0]
                    found[-1] += more.References or []
                    point = more.ContinuationPoint
    return found


def local(node: ua.NodeId) -> ua.NodeId:
    """A node's id without server and namespace URI, so that it equals that of the node itself."""
    return ua.NodeId(node.Identifier, node.NamespaceIndex, node.NodeIdType)


@dataclass(frozen=True)
class Variable:
    """What a variable says of itself."""

    node: ua.NodeId
    type: ArgumentType
    builtin: ua.VariantType | None
    value: Any
    writable: bool
    array: bool
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    description: str = ""

    def argument(self, name: str, default: Scalar | None = None) -> Argument:
        """As an argument or result of that name."""
        return Argument(
            name=name, type=self.type, unit=self.unit, low=self.low, high=self.high, choices=self.choices,
            default=default, description=self.description,
        )  # fmt: skip

    def signal(self, name: str) -> Signal:
        """As a signal of that name."""
        return Signal(
            name=name, type=self.type, unit=self.unit, low=self.low, high=self.high, description=self.description
        )


async def look(connection: Connection, trees: Iterable[Tree]) -> dict[ua.NodeId, Variable]:
    """What the variables among trees say of themselves. Raises Unavailable."""
    them = [t for t in trees if t.kind is ua.NodeClass.Variable]
    nodes = [t.node for t in them]
    aspects = [n for t in them for n in (_aspect(t, "EURange"), _aspect(t, "InstrumentRange"),
               _aspect(t, "EngineeringUnits"), _aspect(t, "EnumStrings"))]  # fmt: skip
    said = dict(zip([n for n in aspects if n], await connection.read([n for n in aspects if n]), strict=True))
    values = await connection.read(nodes)
    types = await connection.read(nodes, ua.AttributeIds.DataType)
    access = await connection.read(nodes, ua.AttributeIds.UserAccessLevel)
    ranks = await connection.read(nodes, ua.AttributeIds.ValueRank)
    texts = await connection.read(nodes, ua.AttributeIds.Description)
    found = dict[ua.NodeId, Variable]()
    for i, tree in enumerate(them):
        span, whole, unit, strings = (said.get(n) if n else None for n in aspects[4 * i : 4 * i + 4])
        strings = tuple(t.Text or "" for t in strings or ())
        kind, builtin = data_type(types[i])
        span = span if _sensible(span) else whole if _sensible(whole) else None
        found[tree.node] = Variable(
            node=tree.node, type="string" if strings else "array" if _many(ranks[i]) else kind,
            builtin=builtin, value=values[i], writable=bool((access[i] or 0) & 2), array=_many(ranks[i]),
            unit=unit_of(unit), low=_bound(span, "Low"), high=_bound(span, "High"), choices=strings,
            description=_said(texts[i], tree.name),
        )  # fmt: skip
    return found


def _many(rank: int | None) -> bool:
    """Whether a ValueRank is that of an array."""
    return rank is not None and rank >= 0


def _said(description: Any, name: str) -> str:
    """A description that says more than the name does."""
    text = (description.Text or "") if isinstance(description, ua.LocalizedText) else ""
    return text if text != name else ""


def _aspect(tree: Tree, name: str) -> ua.NodeId | None:
    return tree.under[name].node if name in tree.under else None


def _sensible(span: Any) -> bool:
    """A range that says something: many servers leave 0 to 0."""
    return isinstance(span, ua.Range) and span.Low < span.High


def _bound(span: Any, name: str) -> float | None:
    value = getattr(span, name) if span else None
    return float(value) if value is not None and math.isfinite(value) else None


def unit_of(said: Any) -> str:
    """Our word for an engineering unit."""
    shown = (said.DisplayName.Text or "") if isinstance(said, ua.EUInformation) else ""
    return UNITS.get(shown, shown)


def data_type(node: ua.NodeId | None) -> tuple[ArgumentType, ua.VariantType | None]:
    """The JSON type and the built-in type of a data type; an object where it is of the server's own making."""
    if node is None or node.NamespaceIndex or not isinstance(node.Identifier, int):
        return "object", None
    number = {ua.ObjectIds.Duration: 11, ua.ObjectIds.UtcTime: 13, ua.ObjectIds.Number: 11, ua.ObjectIds.Integer: 8,
              ua.ObjectIds.UInteger: 9}.get(node.Identifier, node.Identifier)  # fmt: skip
    return NUMBERS.get(node.Identifier, "object"), ua.VariantType(number) if number in range(1, 26) else None


def scalar(value: Any, choices: Sequence[str] = ()) -> Scalar | None:
    """A value as a reading: a number or a text, None where it is neither."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int) and 0 <= value < len(choices):
        return choices[value]
    return value if isinstance(value, float | int | str) else _text(value)


def plain(value: Any) -> object:
    """A value as JSON may have it."""
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value if isinstance(value, bool | float | int | str) else _text(value)


def _text(value: Any) -> str | None:
    if isinstance(value, ua.LocalizedText):
        return value.Text or ""
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return None if value is None else str(value)


def variant(value: object, builtin: ua.VariantType | None, array: bool = False) -> ua.Variant:
    """A value as a variable or an argument of that built-in type takes it. Raises ValueError where it cannot."""
    if builtin is None:
        raise ValueError(f"{value!r} is of a type of the server's own")
    if array or isinstance(value, list | tuple):
        items = list(value) if isinstance(value, list | tuple) else [value]
        return ua.Variant([variant(v, builtin).Value for v in items], builtin, is_array=True)
    match builtin:
        case ua.VariantType.Float | ua.VariantType.Double if isinstance(value, int | float):
            return ua.Variant(float(value), builtin)
        case ua.VariantType.Boolean:
            return ua.Variant(bool(value), builtin)
        case ua.VariantType.String:
            return ua.Variant(str(value), builtin)
        case ua.VariantType.LocalizedText:
            return ua.Variant(ua.LocalizedText(str(value)), builtin)
        case ua.VariantType.DateTime:
            return ua.Variant(datetime.datetime.fromisoformat(str(value)), builtin)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise ValueError(f"{value!r} is not a whole number")
    return ua.Variant(int(value), builtin)
