"""A connection to an OPC UA server that notices its own death, and is made anew when it is next needed."""

import asyncio
import contextlib
import datetime
import logging
import stat
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urlparse

from asyncua import Client, ua
from asyncua.client.ua_client import UaClientState
from asyncua.common.node import Node
from asyncua.common.subscription import DataChangeEvent, Subscription
from asyncua.crypto import security_policies
from cryptography import x509

from firstlight.core import InDoubt, Unavailable

LOG = logging.getLogger(__name__)
LOOPBACK = ("localhost", "127.0.0.1", "::1")

Answer = TypeVar("Answer")
Seen = Mapping[ua.NodeId, ua.DataValue] | None
"""What has changed at a server; None once the connection to it is lost."""


@dataclass(frozen=True)
class Access:
    """Who we are to a server. Secrets are in files that only their owner may read; here are the files' names."""

    user: str = ""
    password_file: str = ""
    certificate: str = ""
    key: str = ""
    server_certificate: str = ""
    policy: str = "Basic256Sha256"
    mode: str = "SignAndEncrypt"

    async def prepare(self, client: Client) -> None:
        """Give a client what it needs. Raises Unavailable, saying what to do."""
        if self.certificate:
            policy = getattr(security_policies, f"SecurityPolicy{self.policy}")
            mode = ua.MessageSecurityMode[self.mode]
            private(Path(self.key))
            client.application_uri = (
                await asyncio.to_thread(_application, Path(self.certificate)) or client.application_uri
            )
            await client.set_security(
                policy, self.certificate, self.key, server_certificate=self.server_certificate or None, mode=mode
            )
        if self.user:
            client.set_user(self.user)
            client.set_password(private(Path(self.password_file)) if self.password_file else "")


def private(file: Path) -> str:
    """What a file holds that only its owner may read (mode 0600). Raises Unavailable, saying what to do."""
    try:
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise Unavailable(f"others may read {file}: chmod 600 {file}")
        return file.read_text(errors="replace").strip()
    except OSError as error:
        raise Unavailable(f"{file} cannot be read: {error.strerror}") from None


def _application(certificate: Path) -> str:
    """Our application's URI, which a server compares with that in the certificate."""
    raw = certificate.read_bytes()
    parsed = x509.load_pem_x509_certificate(raw) if b"-----BEGIN" in raw else x509.load_der_x509_certificate(raw)
    with contextlib.suppress(x509.ExtensionNotFound):
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return next(iter(names.get_values_for_type(x509.UniformResourceIdentifier)), "")
    return ""


class Refused(Exception):
    """The server answered, with a status code that is not good. `code` is its number."""

    def __init__(self, code: int, what: str = "", where: str = "") -> None:
        name, said = ua.status_codes.get_name_and_doc(code)
        super().__init__(f"{what + ': ' if what else ''}{name}: {said}{f' ({where})' if where else ''}")
        self.code = code
        self.name = name


class Connection:
    """One session with a server, from its beginning to its loss. What is monitored once is monitored to its end."""

    def __init__(self, client: Client, name: str, sampling: float) -> None:
        self.client = client
        self.lost = asyncio.Event()
        self.began = ""
        """When the server was started, as it says; another time means another server, which may know nothing."""
        self._name, self._sampling = name, sampling
        self._subscription: Subscription | None = None
        self._pump: asyncio.Task[None] | None = None
        self._known: dict[ua.NodeId, deque[ua.DataValue]] = {}
        self._read: dict[ua.NodeId, datetime.datetime] = {}
        self._monitored: dict[ua.NodeId, asyncio.Task[None]] = {}
        self._feeds: dict[asyncio.Queue[Seen], frozenset[ua.NodeId]] = {}

    @property
    def alive(self) -> bool:
        """Whether it can be used, as far as is known."""
        return not self.lost.is_set() and self.client.state is UaClientState.CONNECTED

    def lose(self) -> None:
        """Take note that it is lost."""
        if not self.lost.is_set():
            self.lost.set()
            for feed in self._feeds:
                feed.put_nowait(None)

    async def call(
        self, target: ua.NodeId, method: ua.NodeId, arguments: Sequence[ua.Variant], wait: float
    ) -> list[Any]:
        """Call a method once and return what it gives back.

        Raises Unavailable where nothing was sent, Refused where it answered no, InDoubt where no answer came.
        """
        request = ua.CallMethodRequest(ObjectId=target, MethodId=method, InputArguments=list(arguments))
        async with self._sent(wait):
            result = (await self.client.uaclient.session.call([request]))[0]
        if not result.StatusCode.is_good():
            wrong = [i for i, code in enumerate(result.InputArgumentResults or []) if not code.is_good()]
            where = f"argument {', '.join(str(i + 1) for i in wrong)}" if wrong else ""
            raise Refused(result.StatusCode.value, where=where)
        return [v.Value for v in result.OutputArguments or []]

    async def write(self, node: ua.NodeId, value: ua.Variant, wait: float) -> None:
        """Write a variable once. Raises as `call` does."""
        attribute = ua.WriteValue(NodeId=node, AttributeId=ua.AttributeIds.Value, Value=ua.DataValue(value))
        async with self._sent(wait):
            code = (await self.client.uaclient.session.write(ua.WriteParameters(NodesToWrite=[attribute])))[0]
        if not code.is_good():
            raise Refused(code.value)

    @contextlib.asynccontextmanager
    async def _sent(self, wait: float) -> AsyncIterator[None]:
        if not self.alive:
            raise Unavailable(f"{self._name} is not connected")
        try:
            async with asyncio.timeout(wait):
                yield
        except ua.UaStatusCodeError as error:
            if error.code in NO_SESSION:
                self.lose()
                raise Unavailable(f"{self._name} has no session of ours any more: {words(error)}") from error
            if error.code in OF_THE_LINE or not self.alive:
                raise InDoubt(f"{self._name} did not answer: {words(error)}") from error
            raise Refused(error.code) from error
        except (OSError, TimeoutError, ua.UaError) as error:
            raise InDoubt(f"{self._name} did not answer: {words(error)}") from error

    async def ask(self, question: Awaitable[Answer]) -> Answer:
        """The answer to what changes nothing. Raises Unavailable."""
        with asking(self._name):
            return await question

    async def read(self, nodes: Sequence[ua.NodeId], attribute: ua.AttributeIds = ua.AttributeIds.Value) -> list[Any]:
        """An attribute of many nodes, None for one that has none. Raises Unavailable."""
        found: list[Any] = []
        for some in _chunks(nodes, 500):
            with asking(self._name):
                found += await self.client.uaclient.session.read_attributes(list(some), attribute)
        return [v.Value.Value if v.Value is not None and (v.StatusCode or GOOD).is_good() else None for v in found]

    @contextlib.asynccontextmanager
    async def observe(self, nodes: Iterable[ua.NodeId]) -> AsyncIterator[asyncio.Queue[Seen]]:
        """Changes of variables, first all of them as they are now, then None once the connection is lost.

        Raises Unavailable.
        """
        wanted = frozenset(nodes)
        feed: asyncio.Queue[Seen] = asyncio.Queue()
        try:
            await self.monitor(wanted)
            # What was published last may be older than what the caller knows from an answer: so it is read as well.
            now = await self._look(list(wanted))
            self._read |= {n: v.SourceTimestamp for n, v in now.items() if v.SourceTimestamp is not None}
            self._feeds[feed] = wanted
            feed.put_nowait(now)
            if not self.alive:
                feed.put_nowait(None)
            yield feed
        finally:
            self._feeds.pop(feed, None)

    def history(self, node: ua.NodeId, since: datetime.datetime | None) -> list[ua.DataValue]:
        """What a monitored variable has been, since a time by the server's clock."""
        return [
            v for v in self._known.get(node, ()) if since is None or not v.SourceTimestamp or v.SourceTimestamp >= since
        ]

    async def monitor(self, nodes: Iterable[ua.NodeId]) -> None:
        """Have variables monitored from now on. Raises Unavailable."""
        wanted = frozenset(nodes)
        missing = [n for n in wanted if n not in self._monitored]
        if missing:
            # One task for those that come first, which all who want them await: a caller that gives up stops nobody.
            self._monitored |= dict.fromkeys(missing, asyncio.create_task(self._begin(missing)))
        tasks = {self._monitored[n] for n in wanted}
        try:
            for task in tasks:
                if not task.done() or task.exception() is not None:
                    await asyncio.shield(task)
        except Unavailable:
            self._monitored = {n: t for n, t in self._monitored.items() if t not in tasks}
            raise

    async def _begin(self, nodes: list[ua.NodeId]) -> None:
        with asking(self._name):
            if self._subscription is None:
                count = max(1, round(KEPT_ALIVE / self._sampling))
                wishes = ua.CreateSubscriptionParameters(
                    RequestedPublishingInterval=ua.Double(self._sampling * 1000),
                    RequestedLifetimeCount=ua.UInt32(10 * count),
                    RequestedMaxKeepAliveCount=ua.UInt32(count),
                    PublishingEnabled=cast("Any", True),
                )
                self._subscription = await self.client.create_subscription(wishes)
                self._pump = asyncio.create_task(self._pumping(self._subscription))
            await self._subscription.subscribe_data_change(
                [Node(self.client.uaclient.session, n) for n in nodes], queuesize=50, sampling_interval=ua.Double(0.0)
            )

    async def _look(self, nodes: list[ua.NodeId]) -> dict[ua.NodeId, ua.DataValue]:
        with asking(self._name):
            found = await self.client.uaclient.session.read_attributes(nodes, ua.AttributeIds.Value) if nodes else []
        return dict(zip(nodes, found, strict=True))

    async def _pumping(self, subscription: Subscription) -> None:
        async for event in subscription:
            if isinstance(event, DataChangeEvent):
                node, value = event.node.nodeid, event.data.monitored_item.Value
                self._known.setdefault(node, deque(maxlen=100)).append(value)
                read = self._read.get(node)
                if read is not None and value.SourceTimestamp is not None and value.SourceTimestamp < read:
                    continue  # It was published before it was read, and comes after: what it was is over.
                for feed, wanted in self._feeds.items():
                    if node in wanted:
                        feed.put_nowait({node: value})

    async def close(self, wait: float) -> None:
        """Let go of it, politely while it lives."""
        polite, protocol = self.alive, self.client.uaclient.protocol
        self.lose()
        if self._pump is not None:
            self._pump.cancel()
        with contextlib.suppress(OSError, TimeoutError, ua.UaError, asyncio.CancelledError):
            async with asyncio.timeout(wait if polite else 0.05):
                # The client complains loudly of a session that it cannot close: it is asked for that only where it can.
                await (self.client.disconnect() if polite else self.client.close_session())
        self.client.disconnect_socket()
        if protocol is not None and protocol.transport is not None:
            # A client that has found its server silent takes itself for disconnected, and leaves the socket open.
            protocol.transport.abort()
        await asyncio.sleep(0)  # It is closed in the next turn of the loop, which may be the last.


class Link:
    """The way to a server: at most one connection at a time, made when it is needed."""

    def __init__(
        self, name: str, address: str, access: Access, timeout: float, keepalive: float, sampling: float,
        answer: float = 0.0,
    ) -> None:  # fmt: skip
        self.name, self.address = name, address
        self.timeout = timeout
        self._answer = answer or timeout
        self._access, self._keepalive, self._sampling = access, keepalive, sampling
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._closing = set[asyncio.Task[None]]()

    async def connection(self) -> Connection:
        """The connection, made now where there is none. Raises Unavailable where none can be made."""
        if self._connection is not None and self._connection.alive:
            return self._connection
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect())
        # Many may wait for one attempt; one of them being cancelled does not end it.
        return await asyncio.shield(self._connecting)

    async def connections(self) -> AsyncGenerator[Connection | None, None]:
        """One connection after the other for ever, None where there is none for now: the next then comes later."""
        pause, last = PAUSES[0], None
        while True:
            connection = None
            try:
                connection = await self.connection()
            except Unavailable as error:
                LOG.info("%s: %s", self.name, error)
            if connection is not None and connection is not last:
                pause, last = PAUSES[0], connection
            yield connection
            if connection is None or connection.alive:  # It lives, and yet was of no use.
                await asyncio.sleep(pause)
                pause = min(2 * pause, PAUSES[1])

    async def _connect(self) -> Connection:
        if self._connection is not None:
            self._let_go(self._connection)
        client = Client(self.address, timeout=self._answer, watchdog_intervall=self._keepalive / 2)
        client.name = client.description = "Firstlight"
        client.session_timeout = 600_000
        connection = Connection(client, self.name, self._sampling)

        async def lost(error: Exception) -> None:
            LOG.info("%s: the connection is lost: %s", self.name, words(error))
            connection.lose()

        client.connection_lost_callback = lost
        try:
            async with asyncio.timeout(self.timeout):
                await self._access.prepare(client)
                await client.connect()
                node = standard(ua.ObjectIds.Server_ServerStatus_StartTime)
                connection.began = str((await connection.read([node]))[0])
        except (OSError, TimeoutError, ua.UaError, ValueError, Unavailable) as error:
            self._let_go(connection)
            raise Unavailable(f"{self.name} at {self.address} cannot be reached: {words(error)}") from error
        except asyncio.CancelledError:
            self._let_go(connection)
            raise
        self._connection = connection
        return connection

    def _let_go(self, connection: Connection) -> None:
        task = asyncio.create_task(connection.close(self.timeout))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Let go of the server."""
        if self._connecting is not None and not self._connecting.done():
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._connection is not None:
            await self._connection.close(self.timeout)
        if self._closing:
            await asyncio.wait(self._closing, timeout=self.timeout)


@contextlib.contextmanager
def asking(name: str) -> Iterator[None]:
    """What only asks and changes nothing: whatever stands in the way, nothing is known. Raises Unavailable."""
    try:
        yield
    except (OSError, TimeoutError, ua.UaError) as error:
        raise Unavailable(f"{name} did not answer: {words(error)}") from error


def words(error: BaseException) -> str:
    """What stood in the way: a status code by its name and text, anything else by what it says."""
    if isinstance(error, ua.UaStatusCodeError):
        return ": ".join(ua.status_codes.get_name_and_doc(error.code))
    if isinstance(error, TimeoutError):
        return "nothing came in time"
    return str(error) or type(error).__name__


def standard(number: int) -> ua.NodeId:
    """A node of the standard address space (namespace 0)."""
    return ua.NodeId(ua.Int32(number))


def on_loopback(address: str) -> bool:
    """Whether a server is on this machine."""
    return urlparse(address).hostname in LOOPBACK


def _chunks(nodes: Sequence[ua.NodeId], size: int) -> Iterable[Sequence[ua.NodeId]]:
    return (nodes[i : i + size] for i in range(0, len(nodes), size))


PAUSES = (0.1, 5.0)
"""Seconds between one attempt to connect and the next, at first and at most."""

KEPT_ALIVE = 2.0
"""Seconds after which a server that has nothing to tell says that it is there."""

GOOD = ua.StatusCode(ua.UInt32(ua.StatusCodes.Good))

NO_SESSION = frozenset((ua.StatusCodes.BadSessionIdInvalid, ua.StatusCodes.BadSessionNotActivated))
"""Status codes of a server that has done nothing, because it does not know our session."""

_CODES: Callable[[str], int] = lambda name: int(getattr(ua.StatusCodes, name))  # noqa: E731

OF_THE_LINE = frozenset(
    map(_CODES, (
        "BadCommunicationError", "BadConnectionClosed", "BadConnectionRejected", "BadNoCommunication",
        "BadNotConnected", "BadServerNotConnected", "BadRequestTimeout", "BadRequestInterrupted",
        "BadRequestCancelledByClient", "BadRequestCancelledByRequest", "BadSecureChannelClosed",
        "BadSecureChannelIdInvalid",
        "BadTimeout", "BadSessionClosed",
        "BadTcpInternalError", "BadTcpNotEnoughResources", "BadEncodingError", "BadDecodingError", "BadShutdown",
        "BadServerHalted", "BadUnknownResponse", "BadResponseTooLarge", "BadSecurityChecksFailed",
    ))
)  # fmt: skip
"""Status codes that tell of the line to the server, or of that behind it, and not whether something was done."""
