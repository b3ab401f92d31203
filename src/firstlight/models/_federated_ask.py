"""How a coordinator asks a site: one answer in time, no longer than it may be, or a reason why there is none."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from ._federated_wire import MEDIA_TYPE, Answer, Ask, Tensors, check_tensors, pack, unpack
from ._token import is_loopback


@dataclass(frozen=True)
class Partner:
    """A site, where it is reached, and the bearer token that it gave us. Raises ValueError where that would travel
    unhidden."""

    name: str
    url: str
    token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        place = urlsplit(self.url)
        if place.scheme not in ("http", "https") or not place.hostname:
            raise ValueError(f"{self.name}: {self.url!r} must be https://HOST, or http:// on this machine")
        if place.scheme == "http" and not is_loopback(place.hostname):
            raise ValueError(f"{self.name}: weights and tokens go over https only, not to {self.url}")


class Away(Exception):
    """The site does not answer; why. `status` is what it said, 0 where it said nothing."""

    def __init__(self, why: str, status: int = 0) -> None:
        super().__init__(why)
        self.why, self.status = why, status


@dataclass(frozen=True)
class Asker:
    """Asks one site."""

    partner: Partner
    client: httpx.AsyncClient
    seconds: float

    async def ask(self, ask: Ask, tensors: Tensors, wanted: Tensors | None, digest: str) -> tuple[Answer, Tensors, int]:
        """What it answers, and how many bytes that was. `wanted` are the tensors that must come, None: any.

        Raises Away, also where what came is not what was asked for.
        """
        body = pack(ask, tensors)
        raw = await self._post(body, most=2 * len(body) + 1_000_000)
        try:
            answer, found = unpack(raw, Answer)
            if wanted is not None:
                check_tensors(found, wanted, "its answer")
        except ValueError as error:
            raise Away(str(error)) from error
        if (answer.run, answer.round, answer.weights) != (ask.terms.run, ask.round, digest):
            raise Away(f"it answered for round {answer.round} of {answer.run}, or for other weights")
        if answer.site != self.partner.name:
            raise Away(f"it is {answer.site!r}, not {self.partner.name!r}")
        if (
            answer.examples < 1
            or answer.groups < 0
            or (ask.terms.clip and ask.what == "gradient" and answer.groups < 1)
        ):
            raise Away("its answer is of no examples or groups")
        return answer, found, len(raw)

    async def _post(self, body: bytes, most: int) -> bytes:
        headers = {"content-type": MEDIA_TYPE}
        if self.partner.token:
            headers["authorization"] = f"Bearer {self.partner.token}"
        got = bytearray()
        try:
            # Over all, not a piece: a late answer is refused, however it trickles.
            async with asyncio.timeout(self.seconds):
                url = f"{self.partner.url.rstrip('/')}/ask"
                async with self.client.stream("POST", url, content=body, headers=headers) as answer:
                    async for piece in answer.aiter_bytes():
                        got += piece
                        if len(got) > most:
                            raise Away(f"its answer is longer than {most} bytes")
                    status = answer.status_code
        except TimeoutError:
            raise Away(f"it did not answer within {self.seconds:g} s") from None
        except httpx.HTTPError as error:
            raise Away(f"it cannot be reached ({type(error).__name__})") from error
        if status != 200:
            raise Away(_detail(bytes(got)) or f"it answered {status}", status)
        return bytes(got)


@asynccontextmanager
async def asker(partner: Partner, seconds: float, transport: httpx.AsyncBaseTransport | None) -> AsyncIterator[Asker]:
    """One that asks this partner, within so many seconds an answer."""
    # A proxy of the environment never sees what goes to this machine itself.
    trust = urlsplit(partner.url).scheme == "https"
    async with httpx.AsyncClient(timeout=seconds, trust_env=trust, transport=transport) as client:
        yield Asker(partner, client, seconds)


def _detail(body: bytes) -> str:
    try:
        told = json.loads(body)
        return str(told["detail"])[:500] if isinstance(told, dict) and "detail" in told else ""
    except ValueError:
        return ""
