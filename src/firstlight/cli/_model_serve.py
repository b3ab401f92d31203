"""`firstlight model serve`: versions of the registry answer over HTTP until somebody ends it."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import _parts as parts
from ._model import known
from ._model_show import card_of
from ._output import Exit, Here, Problem, columns
from ._verb import open_app

if TYPE_CHECKING:
    from ..models.registry import Registry, Version
    from ..models.serve import Served

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODEL...]", help="Versions, as for show (default: all that are in production).", show_default=False
    ),
]
Host = Annotated[str, typer.Option(help="The address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: one that is free.")]
Open = Annotated[bool, typer.Option("--open", help="Let other machines in: --host is theirs to reach.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token", metavar="FILE", help="Whoever asks must show what is in it (else: $FIRSTLIGHT_TOKEN).",
        show_default=False,
    ),
]  # fmt: skip


def serve(
    here: Here, models: Names = None, host: Host = "127.0.0.1", port: Port = 8470, open_: Open = False,
    token: TokenFile = None,
) -> None:  # fmt: skip
    """Answer over HTTP with models until it is ended, to this machine alone unless --open and a token let others in."""
    server = loaded("serve", "serve")
    secret = admission(host, open_, token)
    with _registry(here) as registry:
        served = _served(here, registry, models)
        lock = threading.Lock()

        def revoked(id: str) -> str:
            with lock:  # Every model asks in a thread of its own.
                version = registry.resolve(id)
            return "" if version.revoked is None else version.revoked.reason

        table = columns("model", "version", "licence")
        for one in served:
            table.add_row(one.name, one.version, one.licence or "not said")

        def started(address: str) -> None:
            told = [{"name": one.name, "version": one.version, "licence": one.licence} for one in served]
            here.tell({"address": address, "models": told}, table)
            here.say(f"{address}/models is there; Ctrl-C ends it")

        try:
            server.serve(served, host, port, token=secret, revoked=revoked, started=started)
        except ValueError as error:
            raise Problem(Exit.BAD_INPUT, str(error)) from error


def loaded(part: str, extra: str) -> Any:
    """A part that needs packages of an extra. Raises Problem saying what to install."""
    try:
        return getattr(parts, part)
    except ImportError as error:
        hint = f"pip install 'firstlight[{extra}]'"
        raise Problem(Exit.UNAVAILABLE, f"this needs a package that is not installed: {error}", hint=hint) from error


def admission(host: str, open_: bool, token: Path | None) -> str:
    """The token of a server. Raises Problem where others could come in, and nobody has said so or without one."""
    server = parts.serve
    try:
        secret: str = server.read_token(token)
    except ValueError as error:
        raise Problem(Exit.BAD_INPUT, str(error)) from error
    if server.is_loopback(host):
        return secret
    if not open_:
        raise Problem(
            Exit.BAD_INPUT, f"on {host} other machines could ask: say so with --open, and give --token FILE",
            hint="On 127.0.0.1 only this machine can.",
        )  # fmt: skip
    if not secret:
        hint = "umask 077; openssl rand -hex 32 > token"
        raise Problem(Exit.BAD_INPUT, f"on {host} anybody could ask: give a token with --token FILE", hint=hint)
    return secret


@contextmanager
def _registry(here: Here) -> "Iterator[Registry]":
    """The registry for as long as the server runs."""
    app = open_app(here)
    try:
        with app.models() as (_, registry):
            yield registry
    finally:
        asyncio.run(app.journal.close())


def _served(here: Here, registry: "Registry", names: Sequence[str] | None) -> "list[Served]":
    """Those that are named; else all in production that answer questions, and what is left out is said."""
    if names:
        chosen = [known(registry.resolve, name) for name in names]
    else:
        every, damaged = registry.readable()
        for why in damaged.values():
            here.warn(f"not served: {why}")
        in_use: Callable[[str], Any] = registry.production
        chosen = [v for v in every if (p := in_use(v.name)) is not None and p.number == v.number]
        if not chosen:
            raise Problem(Exit.BAD_INPUT, "no model is in production", hint="firstlight model promote NAME:N")
    found = list["Served"]()
    for version in chosen:
        try:
            found.append(_one(registry, version))
        except (ValueError, OSError, LookupError) as error:
            if names:
                raise
            here.warn(f"not served: {version.id}: {error}")
    if not found:
        raise Problem(Exit.BAD_INPUT, "none of these can be served")
    return found


def _one(registry: "Registry", version: "Version") -> "Served":
    server = parts.serve
    folder = registry.load_checked(version)
    model = parts.models.family_at(folder).load(folder)
    if not isinstance(model, server.Predicts | server.Embeds):
        kind = version.made.family
        raise Problem(Exit.BAD_INPUT, f"{version.id} answers no questions over HTTP: {kind} is used in another way")
    return server.Served(
        version.name, version.id, model, version.made.licence, card_of(registry, version)[0],
        parts.registry.read_report(folder).limits, server.inputs_of(model),
    )  # fmt: skip
