"""The wire to one SiLA 2 server: its features read from itself, calls with a deadline, errors told apart."""

import asyncio
import base64
import functools
import hashlib
import ipaddress
import threading
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing, suppress
from types import SimpleNamespace
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from lxml import etree
from lxml.etree import XMLParser
from sila2.features.silaservice import SiLAServiceFeature
from sila2.framework import Feature
from sila2.framework.binary_transfer.client_binary_transfer_handler import ClientBinaryTransferHandler
from sila2.framework.pb2 import SiLAFramework_pb2

from ...core import Unavailable
from ._sila_types import decoded, encoded, is_large

_OPTIONS = (
    # A request is sent once: what came of one that got no answer is the caller's to judge.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # Two instruments at one address are two connections.
    ("grpc.use_local_subchannel_pool", 1),
)
_COMPILING = threading.Lock()


class Answer(Exception):
    """The server answered with an error. `kind` is "validation", "defined", "undefined", "unimplemented", or the name
    of a framework error; `identifier` names a defined one."""

    def __init__(self, kind: str, message: str, identifier: str = "") -> None:
        super().__init__(f"{identifier}: {message}" if identifier else message)
        self.kind, self.identifier = kind, identifier


class Silent(Exception):
    """No answer came: the connection was lost, or the time was up. Whether it was sent is not known."""


def told_apart(error: grpc.RpcError) -> Exception:
    """A gRPC error as what SiLA says of it."""
    code, details = error.code(), error.details() or ""
    if code == grpc.StatusCode.UNIMPLEMENTED:
        return Answer("unimplemented", f"the server does not implement it: {details}")
    if code == grpc.StatusCode.ABORTED:
        try:
            said = SiLAFramework_pb2.SiLAError.FromString(base64.b64decode(details, validate=True))
        except (ValueError, DecodeError):
            return Silent(f"aborted: {details}")
        match said.WhichOneof("error"):
            case "validationError":
                where = said.validationError.parameter.rsplit("/", 1)[-1]
                return Answer("validation", f"{where}: {said.validationError.message}")
            case "definedExecutionError":
                defined = said.definedExecutionError
                return Answer("defined", defined.message, defined.errorIdentifier.rsplit("/", 1)[-1])
            case "undefinedExecutionError":
                return Answer("undefined", said.undefinedExecutionError.message)
            case "frameworkError":
                named = type(said.frameworkError).ErrorType.Name(said.frameworkError.errorType)
                return Answer(named, said.frameworkError.message)
    return Silent(f"{code.name.lower().replace('_', ' ')}: {details}")


def _unlike_any_other(definition: str) -> Feature:
    """A feature whose messages have names that no other has.

    Protobuf knows one set of messages a name in a process, and takes it for any other of that name. Two instruments may
    well have each its own feature of one name, and the arguments of one must not be written in the order of the other.
    """
    root = etree.fromstring(definition.encode(), XMLParser(resolve_entities=False))
    node = root.find("{http://www.sila-standard.org}Identifier")
    name = node.text.strip()
    made = f"{name}X{hashlib.sha256(definition.encode()).hexdigest()[:16]}"
    node.text = made
    feature = Feature(etree.tostring(root, encoding="unicode"))
    for part in (feature, *feature.children_by_fully_qualified_identifier.values()):
        known = part.fully_qualified_identifier
        part.fully_qualified_identifier = type(known)(known.replace(f"/{made}/", f"/{name}/"))
    feature._identifier = name
    return feature


_shared = functools.lru_cache(128)(_unlike_any_other)


def compiled(definition: str) -> Feature:
    """A feature from its XML. Done in a thread: it takes about a tenth of a second."""
    with _COMPILING:  # sila2 imports what it generates by way of sys.path
        # One with binary values refers to its connection, so each connection has its own.
        return _unlike_any_other(definition) if "Binary" in definition else _shared(definition)


def _methods(feature: Feature, channel: grpc.aio.Channel) -> dict[str, Any]:
    """What a feature's service can be called with, by the names that the server has for it."""
    module: Any = feature._pb2_module

    def made(descriptor: Any) -> Any:
        return getattr(module, descriptor.name, None) or getattr(module.SiLAFramework__pb2, descriptor.name)

    service = next(iter(module.DESCRIPTOR.services_by_name.values()))
    path = service.full_name.replace(service.name, feature._identifier)
    path = path.replace(service.name.lower(), feature._identifier.lower())
    return {
        method.name: (channel.unary_stream if method.server_streaming else channel.unary_unary)(
            f"/{path}/{method.name}",
            request_serializer=made(method.input_type).SerializeToString,
            response_deserializer=made(method.output_type).FromString,
        )
        for method in service.methods
    }


class Link:
    """A channel to one server with what it implements. `identity` is its UUID, `left_out` what cannot be read."""

    def __init__(
        self, address: str, credentials: grpc.ChannelCredentials | None, certificate_name: str, patience: float,
        metadata: Mapping[str, Any],
    ) -> None:  # fmt: skip
        options = [*_OPTIONS, *([("grpc.ssl_target_name_override", certificate_name)] if certificate_name else [])]
        self._address, self._credentials, self._options = address, credentials, options
        self.channel = (
            grpc.aio.insecure_channel(address, options)
            if credentials is None
            else grpc.aio.secure_channel(address, credentials, options)
        )
        self.patience, self._metadata = patience, {name.lower(): value for name, value in metadata.items()}
        self.features: dict[str, Feature] = {}
        self.left_out: dict[str, str] = {}
        self._closed = False
        self._stubs: dict[str, dict[str, Any]] = {}
        self._needed: dict[str, tuple[tuple[str, bytes], ...]] = {}
        self.identity, self.about = "", dict[str, str]()
        self._blocking: grpc.Channel | None = None

    async def open(self) -> None:
        """Read who the server is and what it implements. Raises Unavailable."""
        self._stub(SiLAServiceFeature)
        try:
            for said in (
                "ServerUUID",
                "ServerName",
                "ServerType",
                "ServerDescription",
                "ServerVersion",
                "ServerVendorURL",
            ):
                self.about[said] = str(await self.read(SiLAServiceFeature._unobservable_properties[said]))
            names = await self.read(SiLAServiceFeature._unobservable_properties["ImplementedFeatures"])
            asked = SiLAServiceFeature._unobservable_commands["GetFeatureDefinition"]
            for name in names if isinstance(names, list) else []:
                message = await self.message(asked, {"FeatureIdentifier": name})
                reply = await self.call(asked, asked._identifier, message, self.patience)
                definition = str(decoded(asked.responses, reply)["FeatureDefinition"])
                try:
                    feature = await asyncio.to_thread(compiled, definition)
                except Exception as error:  # noqa: BLE001 - whatever sila2 makes of what it does not understand
                    # One feature that cannot be read says nothing against the others.
                    self.left_out[str(name)] = f"{type(error).__name__}: {error}"
                    continue
                if "Binary" in feature._feature_definition:
                    feature._binary_transfer_handler = ClientBinaryTransferHandler(self._peer())
                self._stub(feature)
                self.features[feature._identifier] = feature
            self.identity = self.about["ServerUUID"]
            await self._find_needed()
        except (Silent, Answer) as error:
            raise Unavailable(f"{self._address}: {error}") from error

    def _stub(self, feature: Feature) -> None:
        self._stubs[feature.fully_qualified_identifier] = _methods(feature, self.channel)

    def _peer(self) -> Any:
        """What sila2's binary transfer takes for a client: a channel of its own, as it blocks the thread it runs in."""
        if self._blocking is None:
            self._blocking = (
                grpc.insecure_channel(self._address, self._options)
                if self._credentials is None
                else grpc.secure_channel(self._address, self._credentials, self._options)
            )
        return SimpleNamespace(_channel=self._blocking)

    async def _find_needed(self) -> None:
        """Which calls each given piece of SiLA Client Metadata has to accompany."""
        for feature in self.features.values():
            for node in feature.metadata_definitions.values():
                if (given := self._metadata.get(node.fully_qualified_identifier.lower())) is None:
                    continue
                value = encoded([node], {node._identifier: given})
                entry = (node.to_grpc_header_key(), node.to_message(value[node._identifier]))
                name = f"Get_FCPAffectedByMetadata_{node._identifier}"
                reply = await self.call(node, name, node.get_affected_calls_parameters_message(), self.patience)
                for affected in reply.AffectedCalls:
                    whose = affected.value.lower()
                    self._needed[whose] = (*self._needed.get(whose, ()), entry)

    def _accompanied(self, node: Any) -> tuple[tuple[str, bytes], ...]:
        # SiLA's identifiers are the same in whatever case.
        own, whole = (n.fully_qualified_identifier.lower() for n in (node, node.parent_feature))
        return (*self._needed.get(own, ()), *self._needed.get(whole, ()))

    async def message(self, command: Any, given: dict[str, object]) -> Any:
        """A command's request. Raises ValueError where the arguments are not what its feature allows."""
        try:
            if not is_large(command.parameters):
                return command.parameters.to_message(**encoded(command.parameters, given))
            return await asyncio.to_thread(_large, command.parameters, given, _as_sent(self._accompanied(command)))
        except KeyError as error:
            raise ValueError(f"{error.args[0]} is missing") from error
        except Exception as error:
            raise ValueError(str(error)) from error

    async def values(self, nodes: Any, reply: Any) -> dict[str, object]:
        """The plain values of a reply; large ones are fetched."""
        return await asyncio.to_thread(decoded, nodes, reply) if is_large(nodes) else decoded(nodes, reply)

    async def call(self, node: Any, name: str, message: Any, seconds: float | None) -> Any:
        """One request and its reply within so many seconds. Raises Answer or Silent."""
        try:
            return await self.began(node, name, message, seconds)
        except grpc.RpcError as error:
            raise told_apart(error) from error
        except asyncio.CancelledError:
            # gRPC says so, too, where it is not we who are cancelled but the connection that is closed under the call.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise Silent("the connection was closed") from None

    def began(self, node: Any, name: str, message: Any, seconds: float | None = None) -> Any:
        """A call under way, as gRPC has it: of a reply to await, or of a stream to read."""
        if self._closed:
            raise Silent("the connection is closed")
        stub = self._stubs[node.parent_feature.fully_qualified_identifier]
        return stub[name](message, timeout=seconds, metadata=self._accompanied(node) or None)

    async def read(self, node: Any) -> object:
        """A property as it is now. Raises Answer or Silent."""
        message = node.get_parameters_message()
        if node._identifier in node.parent_feature._observable_properties:
            async with aclosing(self.stream(node, f"Subscribe_{node._identifier}", message, self.patience)) as items:
                async for item in items:
                    if item is None:
                        break
                    return (await self.values([node], item))[node._identifier]
            raise Silent("no value came")
        reply = await self.call(node, f"Get_{node._identifier}", message, self.patience)
        return (await self.values([node], reply))[node._identifier]

    async def stream(self, node: Any, name: str, message: Any, quiet: float) -> AsyncGenerator[Any, None]:
        """What a subscription brings, and None whenever nothing came for `quiet` seconds. Raises Answer or Silent."""
        call = self.began(node, name, message)
        reading: asyncio.Future[Any] | None = None
        try:
            while True:
                reading = reading or asyncio.ensure_future(call.read())
                done, _ = await asyncio.wait({reading}, timeout=quiet)
                if not done:
                    yield None
                    continue
                if reading.cancelled():
                    raise Silent("the connection was closed")
                item, reading = reading.result(), None
                if item is grpc.aio.EOF:
                    return
                yield item
        except grpc.RpcError as error:
            raise told_apart(error) from error
        finally:
            call.cancel()
            if reading is not None:
                reading.cancel()
                await asyncio.wait({reading})
                if not reading.cancelled():
                    reading.exception()

    async def alive(self) -> None:
        """Raises Unavailable where the server does not answer within `patience`, or is another one."""
        node = SiLAServiceFeature._unobservable_properties["ServerUUID"]
        try:
            identity = await self.read(node)
        except (Silent, Answer) as error:
            raise Unavailable(f"{self._address} does not answer: {error}") from error
        if identity != self.identity:
            raise Replaced(f"another server answers at {self._address}: {identity}")

    async def close(self) -> None:
        """Let go of the connection; what still uses it hears nothing more."""
        self._closed = True
        await self.channel.close()
        if self._blocking is not None:
            self._blocking.close()


class Replaced(Unavailable):
    """The server is another one, or has taken a new identity as it began anew."""


def _large(nodes: Any, given: dict[str, object], metadata: Any) -> Any:
    return nodes.to_message(**encoded(nodes, given), metadata=metadata)


def _as_sent(entries: tuple[tuple[str, bytes], ...]) -> Any:
    """Metadata as sila2 takes it back from a caller, which packs it itself."""
    return [
        SimpleNamespace(
            metadata=SimpleNamespace(to_grpc_header_key=lambda key=key: key, to_message=lambda value: value),
            value=value,
        )
        for key, value in entries
    ]


def offers(feature: Feature, names: Collection[str]) -> bool:
    """Whether a feature is among those named; where none is, whether it is more than what SiLA itself needs."""
    if names:
        return feature._identifier in names
    return not (feature._originator == "org.silastandard" and feature._category.startswith("core"))


def is_loopback(host: str) -> bool:
    """Whether a host, by name or address, is this machine."""
    with suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host == "localhost"
