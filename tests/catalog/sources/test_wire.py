"""HTTP as sources do it: patient with busy servers, and careful with addresses that others name."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from email.utils import formatdate
from typing import Any, TypeVar

import pytest

from firstlight.catalog.sources import Unreachable
from firstlight.catalog.sources._guard import inwardness
from firstlight.catalog.sources._wire import Wire

from .conftest import Houses
from .servers import free_port

T = TypeVar("T")


def run(wire: Wire, what: Callable[[Wire], Awaitable[T]]) -> T:
    async def whole() -> T:
        try:
            return await asyncio.wait_for(what(wire), 20)
        finally:
            await wire.close()

    return asyncio.run(whole())


def asked(houses: Houses, path: str, **options: Any) -> Any:
    return run(Wire("w", houses.url, **options), lambda w: w.json(f"{houses.url}{path}"))


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_is_asked_again(houses: Houses, status: int) -> None:
    assert asked(houses, f"/busy?key=b{status}&times=2&status={status}") == {"dataset": []}
    assert len(houses.asked(f"b{status}")) == 3


@pytest.mark.parametrize("after", ["1", "date"])
def test_a_server_that_asks_for_time_gets_it(houses: Houses, after: str) -> None:
    said = "1" if after == "1" else formatdate(time.time() + 2, usegmt=True).replace(" ", "%20")
    began = time.monotonic()
    asked(houses, f"/busy?key=a{after}&times=1&after={said}")
    assert time.monotonic() - began >= 0.95


def test_a_server_that_asks_for_too_much_time_is_given_up_at_once(houses: Houses) -> None:
    with pytest.raises(Unreachable, match="left alone for 3600 s"):
        asked(houses, "/busy?key=long&after=3600")
    assert len(houses.asked("long")) == 1


def test_patience_ends(houses: Houses) -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1 is busy \(HTTP 503\)"):
        asked(houses, "/busy?key=ends&times=99", tries=2)
    assert len(houses.asked("ends")) == 2
    with pytest.raises(Unreachable, match="cannot be reached"):
        run(Wire("w", f"http://127.0.0.1:{free_port()}", tries=2), lambda w: w.get("/x"))
    with pytest.raises(Unreachable, match="cannot be reached"):
        asked(houses, "/hang?key=h", timeout=0.1, tries=2)
    assert len(houses.asked("h")) == 2


def test_junk_and_answers_without_end_are_refused(houses: Houses) -> None:
    with pytest.raises(Unreachable, match="no JSON"):
        asked(houses, "/junk?key=j")
    with pytest.raises(Unreachable, match="no JSON"):
        asked(houses, "/junk?key=j&deep")
    with pytest.raises(Unreachable, match="more than 1000000 bytes"):
        asked(houses, "/endless", most=1_000_000)
    with pytest.raises(Unreachable, match=r"longer than 0\.3 s"):
        asked(houses, "/endless", most=1 << 40, longest=0.3)
    with pytest.raises(LookupError, match="there is nothing at"):
        asked(houses, "/nowhere?secret=1")


def test_who_asks_is_said_and_a_token_goes_home_only(houses: Houses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_TOKEN", "s3cret")
    said = asked(houses, "/whoami?key=t", token="env:THE_TOKEN")["headers"]
    assert said["authorization"] == "Bearer s3cret" and said["user-agent"].startswith("firstlight/")
    elsewhere = houses.url.replace("127.0.0.1", "localhost")
    to = f"{elsewhere}/whoami?key=t2"
    said = asked(houses, f"/away?key=a&to={to}", token="env:THE_TOKEN")["headers"]
    assert "authorization" not in said and said["host"] == elsewhere.removeprefix("http://")
    said = asked(houses, "/whoami", token="abc", header="X-Api-Key", scheme="")["headers"]
    assert said["x-api-key"] == "abc"


def test_a_token_that_is_missing_is_asked_for(houses: Houses) -> None:
    with pytest.raises(Unreachable, match="set the environment variable NO_SUCH_TOKEN"):
        asked(houses, "/whoami", token="env:NO_SUCH_TOKEN")


def test_errors_tell_no_secrets(houses: Houses) -> None:
    with pytest.raises(Unreachable) as caught:
        asked(houses, "/junk?apikey=abc")
    assert "abc" not in str(caught.value)
    with pytest.raises(ValueError, match="no password"):
        Wire("w", "https://user:abc@example.org")


def test_it_is_led_on_five_times_at_most(houses: Houses) -> None:
    with pytest.raises(Unreachable, match="more than 5 times"):
        asked(houses, "/away?key=round")
    assert len(houses.asked("round")) == 6


def test_a_public_page_does_not_lead_into_a_private_network(houses: Houses) -> None:
    """localhost plays the public host: what it resolves to is what the test says."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        return {"localhost": ["93.184.216.34"], "inside.example.org": ["93.184.216.34", "10.0.0.7"]}.get(host, [host])

    public = houses.url.replace("127.0.0.1", "localhost")
    for target in (f"{houses.url}/whoami?key=ssrf", "http://inside.example.org/x", "http://169.254.169.254/latest"):
        with pytest.raises(Unreachable, match=r"a private network; say private = true"):
            run(Wire("w", public, resolve=resolve), lambda w, t=target: w.get(f"/away?to={t}"))  # type: ignore[misc]
    assert houses.asked("ssrf") == []
    allowed = Wire("w", public, resolve=resolve, private=True)
    run(allowed, lambda w: w.get(f"/away?to={houses.url}/whoami?key=ssrf"))
    assert len(houses.asked("ssrf")) == 1


def test_a_name_is_not_resolved_a_second_time_after_it_was_judged(houses: Houses) -> None:
    """A name that leads elsewhere the second time ("DNS rebinding") is asked at the address that was judged."""
    judged = list[str]()

    async def resolve(host: str, port: int) -> Sequence[str]:
        judged.append(host)
        return ["127.0.0.1"]

    port = houses.url.rpartition(":")[2]
    said = run(Wire("w", houses.url, resolve=resolve), lambda w: w.json(f"http://nowhere.invalid:{port}/whoami?key=re"))
    assert said["headers"]["host"] == f"nowhere.invalid:{port}" and "nowhere.invalid" in judged


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("8.8.8.8", 0), ("2001:4860:4860::8888", 0), ("10.1.2.3", 1), ("172.16.0.1", 1), ("192.168.1.1", 1),
        ("100.64.0.1", 1), ("fd00::1", 1), ("127.0.0.1", 2), ("127.8.8.8", 2), ("::1", 2), ("0.0.0.0", 2), ("::", 2),
        ("::ffff:127.0.0.1", 2), ("::ffff:10.0.0.1", 1), ("64:ff9b::7f00:1", 2), ("2002:7f00:1::", 2),
        ("169.254.169.254", 3), ("fe80::1%eth0", 3), ("224.0.0.1", 3), ("255.255.255.255", 3), ("fec0::1", 1),
    ],
)  # fmt: skip
def test_how_far_inside_an_address_is(address: str, inside: int) -> None:
    assert inwardness(address) == inside


def test_an_encrypted_page_does_not_lead_to_one_that_is_not() -> None:
    wire = Wire("w", "https://example.org")
    with pytest.raises(Unreachable, match="not encrypted"):
        wire._joined("https://example.org/a", "http://other.example.org/b")
    assert str(wire._joined("https://example.org/a", "http://example.org/b")) == "https://example.org/b"
    asyncio.run(wire.close())
