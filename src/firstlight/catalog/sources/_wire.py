"""HTTP as every source needs it: patient with servers that are busy, careful with addresses that others name."""

import asyncio
import math
import os
import random
import re
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from importlib.metadata import version
from typing import Any

import msgspec

from ._answer import Unreachable
from ._guard import Resolve, inwardness, resolve
from ._httpx import httpx
from ._said import UNREADABLE

_BUSY = (429, 502, 503, 504)
_MOVED = (301, 302, 303, 307, 308)
_HOPS = 5
_FIRST_WAIT = 0.25
"""Seconds before a request is sent again, doubled each time."""
Params = Sequence[tuple[str, str]]


class Reply(msgspec.Struct, frozen=True):
    """A whole answer, and the address where it was in the end."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    url: str


class Wire:
    """Requests on behalf of one source, `who`, that lives at `address`.

    `token` (or "env:NAME", the name of an environment variable with it) goes as `scheme` token in `header`, and to
    the origin of `address` only. A request is sent `tries` times in all where the server is busy (429, 502, 503, 504)
    or the connection fails; a server that asks for more than `longest` seconds of patience is given up, as is an
    answer that takes longer or has more than `most` bytes. `timeout` is for connecting and for each silence.

    Other hosts are asked only where they are not further inside than `address` is: a public catalog leads nobody into
    a private network, unless that is allowed (`private`). They are connected to at the very IP address that was
    judged. `resolve` finds those. Proxies and certificates are as the environment says (HTTPS_PROXY, SSL_CERT_FILE).
    """

    def __init__(
        self, who: str, address: str, *, token: str = "", header: str = "Authorization", scheme: str = "Bearer",
        timeout: float = 20.0, tries: int = 4, longest: float = 120.0, most: int = 64 << 20, private: bool = False,
        resolve: Resolve = resolve,
    ) -> None:  # fmt: skip
        if timeout <= 0 or longest <= 0 or tries < 1 or most < 1:
            raise ValueError("timeout and longest must be more than 0 seconds, tries and most at least 1")
        home = _url(address)
        if home is None or home.userinfo:
            raise ValueError(f"{who}: the address must begin with http:// or https:// and have no password in it")
        self.who, self._home, self._token, self._header = who, home, token, header
        self._scheme, self._tries, self._longest, self.most = scheme, tries, longest, most
        self._private, self._resolve, self._inwardness = private, resolve, -1
        agent = {"User-Agent": f"firstlight/{version('firstlight')}"}
        self._timeout = httpx.Timeout(timeout)
        self._client = httpx.AsyncClient(headers=agent, timeout=self._timeout, verify=_tls())

    async def close(self) -> None:
        await self._client.aclose()

    # ------------------------------------------------------------------ whole answers

    async def json(self, url: str, params: Params = (), headers: Mapping[str, str] | None = None) -> Any:
        """What is there as JSON. Raises LookupError where there is nothing (404, 410), else `Unreachable`."""
        reply = await self.get(url, params, {"Accept": "application/json", **(headers or {})})
        try:
            return msgspec.json.decode(reply.content)
        except UNREADABLE as error:
            raise self.fails(f"{shown(reply.url)} answers with what is no JSON ({error})", _TELL) from None

    async def get(self, url: str, params: Params = (), headers: Mapping[str, str] | None = None) -> Reply:
        """What is there. Raises LookupError where there is nothing (404, 410), else `Unreachable`."""
        reply = await self.send("GET", url, params, headers=headers)
        if reply.status in (404, 410):
            raise LookupError(f"{self.who}: there is nothing at {shown(reply.url)}")
        if reply.status >= 400:
            raise self.refused(reply)
        return reply

    async def send(
        self, method: str, url: str, params: Params = (), *, content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:  # fmt: skip
        """Whatever the server answers at last: it may be an error of it. Raises `Unreachable`."""
        try:
            async with (
                asyncio.timeout(self._longest),
                self.stream(method, url, params, content=content, headers=headers) as response,
            ):
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > self.most:
                        raise self.fails(f"{shown(url)} sends more than {self.most} bytes", "ask for less")
                return Reply(response.status_code, response.headers, bytes(body), str(response.url))
        except TimeoutError:
            raise self.fails(f"{shown(url)} takes longer than {self._longest:g} s") from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise self.fails(f"{shown(url)} breaks off ({_said(error)})") from None

    # ------------------------------------------------------------------ one answer, as it comes

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, params: Params = (), *, content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[httpx.Response]:  # fmt: skip
        """The answer once it begins, from where redirects lead. Raises `Unreachable`; reading it what httpx raises."""
        at = self._joined(str(self._home), url)
        if params:
            at = at.copy_merge_params(httpx.QueryParams(list(params)))
        for _ in range(_HOPS + 1):
            response = await self._asked(method, at, content, headers or {})
            try:
                if response.status_code not in _MOVED or "location" not in response.headers:
                    yield response
                    return
                if method not in ("GET", "HEAD"):
                    there = shown(response.headers["location"])
                    raise self.fails(f"{shown(str(at))} has moved to {there}", "use that address")
                at = self._joined(str(at), response.headers["location"])
            finally:
                await response.aclose()
        raise self.fails(f"{shown(url)} leads on more than {_HOPS} times", _TELL)

    async def _asked(
        self, method: str, at: httpx.URL, content: bytes | None, headers: Mapping[str, str]
    ) -> httpx.Response:
        """The beginning of an answer that is neither busy nor a failed connection."""
        why, wait = "", 0.0
        for attempt in range(self._tries):
            await asyncio.sleep(wait)
            wait = _FIRST_WAIT * 2**attempt * random.uniform(0.8, 1.2)
            request = await self._request(method, at, content, headers)
            try:
                response = await self._client.send(request, stream=True, follow_redirects=False)
            except httpx.InvalidURL as error:
                raise self.fails(f"{at.host} leads to what is no address ({error})", _TELL) from None
            except httpx.TransportError as error:
                why = f"cannot be reached ({_said(error)})"
                continue
            if response.status_code not in _BUSY:
                # Where the connection went is not where the answer is: relative addresses are of the latter.
                response.request = httpx.Request(method, at)
                return response
            await response.aclose()
            why = f"is busy (HTTP {response.status_code})"
            asked = _seconds(response.headers.get("retry-after", ""))
            if asked > self._longest:
                raise self.fails(f"{at.host} {why}", f"it asks to be left alone for {asked:g} s")
            wait = max(wait, asked)
        raise self.fails(f"{at.host} {why}")

    async def _request(
        self, method: str, at: httpx.URL, content: bytes | None, headers: Mapping[str, str]
    ) -> httpx.Request:
        own = _origin(at) == _origin(self._home)
        more, extensions = dict(headers), dict[str, Any]()
        if own and self._token:
            more[self._header] = f"{self._scheme} {self._secret()}".strip()
        if not own:
            ip = await self._allowed(at)
            more["Host"], extensions["sni_hostname"] = at.netloc.decode(), at.host
            at = at.copy_with(host=ip, username=None, password=None)
        # Cookies of one answer are nothing for the next request.
        self._client.cookies.clear()
        request = self._client.build_request(method, at, content=content, headers=more, timeout=self._timeout)
        request.extensions.update(extensions)
        return request

    async def _allowed(self, at: httpx.URL) -> str:
        """The IP address at which a foreign host may be asked."""
        try:
            found = await self._resolve(at.host, at.port or _PORTS[at.scheme])
        except (OSError, UnicodeError) as error:
            raise self.fails(f"{at.host} is not known ({error})") from None
        if self._inwardness < 0:
            with suppress(OSError, UnicodeError):
                homes = await self._resolve(self._home.host, self._home.port or _PORTS[self._home.scheme])
                self._inwardness = max(map(inwardness, homes), default=0)
        for ip in found:
            if not self._private and (inwardness(ip) > max(self._inwardness, 0) or inwardness(ip) > 2):
                what = f"{self._home.host} leads to {at.host}, which is {ip}: a private network"
                raise self.fails(what, "say private = true if that is as it should be")
        if not found:
            raise self.fails(f"{at.host} is not known")
        return found[0]

    def _joined(self, base: str, url: str) -> httpx.URL:
        """An address that somebody names, seen from another one."""
        try:
            at = httpx.URL(base).join(url)
        except (httpx.InvalidURL, ValueError) as error:
            raise self.fails(f"{url[:200]!r} is no address ({error})", _TELL) from None
        if at.scheme not in _PORTS or not at.host:
            raise self.fails(f"{shown(str(at))} is neither http:// nor https://", "only those are fetched")
        if at.scheme == "http" and httpx.URL(base).scheme == "https":
            if at.host != httpx.URL(base).host:
                raise self.fails(f"{shown(str(at))} is not encrypted, unlike {self._home.host}", _TELL)
            at = at.copy_with(scheme="https", port=httpx.URL(base).port)
        return at

    def _secret(self) -> str:
        if not self._token.startswith("env:"):
            return self._token
        name = self._token.removeprefix("env:")
        if not (secret := os.environ.get(name, "")):
            raise self.fails("it needs a token", f"set the environment variable {name}")
        return secret

    # ------------------------------------------------------------------ what went wrong

    def fails(self, what: str, remedy: str = "try again later") -> Unreachable:
        return Unreachable(self.who, what, remedy)

    def refused(self, reply: Reply) -> Unreachable:
        """What to make of an error of the server's."""
        said = " ".join(re.sub(r"<[^>]*>", " ", reply.content[:2000].decode(errors="replace")).split())[:300]
        what = f"{shown(reply.url)} answers HTTP {reply.status}" + (f" ({said})" if said else "")
        if reply.status in (401, 403):
            return self.fails(what, "give it a token that may do this, in the option token")
        return self.fails(what, _TELL if reply.status < 500 else "try again later")


_PORTS = {"http": 80, "https": 443}
_TELL = "check the address, and tell the provider"


@cache
def _tls() -> ssl.SSLContext:
    """Reading all certificates takes a while: once is enough."""
    return httpx.create_ssl_context()


def _url(address: str) -> httpx.URL | None:
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL:
        return None
    return url if url.scheme in _PORTS and url.host else None


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or _PORTS[url.scheme]


def shown(url: str) -> str:
    """An address without what may be secret in it."""
    return re.sub(r"//[^/@]*@", "//", url).partition("?")[0][:200]


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _seconds(text: str) -> float:
    """How long a Retry-After asks to wait (RFC 9110, section 10.2.3), 0 where it does not say."""
    try:
        found = float(text)
        return found if math.isfinite(found) and found > 0 else 0.0
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
