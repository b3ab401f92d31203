"""Requests to the API: the token put in, failures made typed, and asked again where that may help."""

import asyncio
import ssl
import time
from collections.abc import Generator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from ....core import Unavailable
from ._secret import Secret

PREFIX = "/api/v2"
AGAIN = (0.2, 1.0)
"""Seconds before a request that failed on its way is sent anew: every one that is sent may be sent twice."""
PATIENCE = 5.0
"""Seconds that a facility may ask us to wait (Retry-After) before we say that it is unavailable."""
LONGEST_TASK = 900.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Refused(Exception):
    """The facility answered, and the answer is no. `status` is HTTP's."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{detail} ({status})")
        self.status, self.detail = status, detail


class Unaccepted(Unavailable):
    """Unavailable, and it is certain that nothing has come of the request."""


class TaskFailed(Exception):
    """An operation on files failed; the message is the facility's."""


class Api:
    """One facility's API. `url` with or without the path "/api/v2"; `ca` is a file of certificates to trust."""

    def __init__(
        self, url: str, secret: Secret, ca: str = "", transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ValueError("url must be the address of the API, as https://api.iri.nersc.gov")
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ValueError(f"{url} would send the token unencrypted: use https")
        if "/api/" in parts.path and not parts.path.rstrip("/").endswith(PREFIX):
            raise ValueError(f"{url} is another version of the API: version 2 ends with {PREFIX}")
        self.url = url.rstrip("/").removesuffix(PREFIX) + PREFIX
        self.secret, self._ca, self._transport = secret, ca, transport
        self._open: httpx.AsyncClient | None = None

    async def close(self) -> None:
        if self._open is not None:
            await self._open.aclose()
            self._open = None

    async def get(self, path: str, **query: str | int) -> Any:
        return await self.ask("GET", path, query=query)

    async def everything(self, path: str, **query: str | int) -> list[Any]:
        """All items of a list, however many pages it has."""
        found: list[Any] = []
        while True:
            page = await self.get(path, limit=1000, offset=len(found), **query)
            if page and page[:1] == found[:1]:  # It knows no pages.
                return found
            found += page
            if len(page) < 1000:
                return found

    async def ask(
        self, method: str, path: str, *, query: Mapping[str, str | int] | None = None, body: Any = None,
        file: bytes | None = None, headers: Mapping[str, str] | None = None,
    ) -> Any:  # fmt: skip
        """The answer's JSON, None where it has none. Raises Refused and Unavailable."""
        how: dict[str, Any] = {"params": query, "headers": headers}
        if body is not None:
            how["json"] = body
        if file is not None:
            how["files"] = {"file": ("file", file, "application/octet-stream")}
        certain, why = True, ""
        for wait in (*AGAIN, None):
            try:
                answer = await self._client().request(method, f"{self.url}/{path}", **how)
            except httpx.TransportError as error:
                certain = certain and isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                why = self._on_its_way(error)
            else:
                retry = self._retry(answer)
                if retry is None:
                    return self._read(answer, certain)
                certain, why = certain and answer.status_code == 429, self._words(answer)
                wait = retry if wait is not None and retry <= PATIENCE else None
            if wait is None:
                break
            await asyncio.sleep(wait)
        kind = Unaccepted if certain else Unavailable
        raise kind(f"{self.url} cannot do it just now: {why}")

    async def task(
        self, operation: str, resource: str, body: Any = None, *, query: Mapping[str, str] | None = None,
        file: bytes | None = None,
    ) -> Any:  # fmt: skip
        """What an operation on files gave, once it has ended. Raises TaskFailed, Refused and Unavailable."""
        for _ in range(3):
            path = f"filesystem/{operation}/{quote(resource, safe='')}"
            id = quote(str((await self.ask("POST", path, query=query, body=body, file=file))["task_id"]), safe="")
            wait, until = 0.01, time.monotonic() + LONGEST_TASK
            while time.monotonic() < until:
                await asyncio.sleep(wait)
                wait = min(1.5 * wait, 2.0)
                try:
                    task = await self.get(f"task/{id}")
                except Refused as error:
                    if error.status == 404:
                        break  # A server that was started again has forgotten it: it is asked anew.
                    raise
                if task.get("status") == "completed":
                    result = task.get("result")
                    return result.get("output", result) if isinstance(result, dict) else result
                if task.get("status") in ("failed", "canceled"):
                    raise TaskFailed(self.secret.scrub(f"{operation} {task['status']}: {_text(task.get('result'))}"))
        raise Unavailable(f"{self.url}: {operation} does not end")

    def _client(self) -> httpx.AsyncClient:
        if self._open is None:
            self._open = httpx.AsyncClient(
                auth=_Bearer(self.secret), timeout=httpx.Timeout(60.0, connect=10.0), transport=self._transport,
                verify=ssl.create_default_context(cafile=self._ca) if self._ca else True,
                headers={"Accept": "application/json, application/problem+json"},
                # To this machine no proxy leads.
                trust_env=urlsplit(self.url).hostname not in LOOPBACK,
            )  # fmt: skip
        return self._open

    def _retry(self, answer: httpx.Response) -> float | None:
        """Seconds after which it may be asked again; None where the answer stands."""
        if answer.status_code == 409 and "Retry-After" not in answer.headers:
            return None
        if (answer.status_code not in (409, 429) and answer.status_code < 500) or answer.status_code == 501:
            return None
        after = answer.headers.get("Retry-After", "1")
        return float(after) if after.isdigit() else PATIENCE

    def _read(self, answer: httpx.Response, certain: bool) -> Any:
        if answer.status_code == 401:
            kind = Unaccepted if certain else Unavailable
            raise kind(f"{self.url} does not accept the token in {self.secret.name}: renew it ({self._words(answer)})")
        if answer.status_code == 403:
            raise Refused(403, f"the token in {self.secret.name} does not allow it: {self._words(answer)}")
        if not answer.is_success:
            raise Refused(answer.status_code, self._words(answer))
        try:
            return answer.json() if answer.content else None
        except ValueError:
            raise Unavailable(f"{self.url} does not answer in JSON: is it the address of an IRI API?") from None

    def _words(self, answer: httpx.Response) -> str:
        """What an error says: its detail (RFC 9457), else whatever there is."""
        try:
            problem = answer.json()
        except ValueError:
            problem = None
        detail = problem.get("detail") or problem.get("title") if isinstance(problem, dict) else None
        text = _text(detail) or answer.reason_phrase or "no reason was given"
        return f"{self.secret.scrub(text)[:500]}, {answer.status_code}"

    def _on_its_way(self, error: httpx.TransportError) -> str:
        text = self.secret.scrub(str(error))
        if "CERTIFICATE_VERIFY" in text:
            return f"its certificate is not trusted ({text}): see the option ca"
        return f"{type(error).__name__}: {text}".removesuffix(": ")


class _Bearer(httpx.Auth):
    """Puts the token in at the last moment, so that it is in nothing that could be printed before."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._secret.read()}"
        yield request


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("error") or value.get("message") or value)
    return "" if value is None else str(value)
