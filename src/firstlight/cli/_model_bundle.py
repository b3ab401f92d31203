"""Verbs by which versions go to sites without network and come from them: signed, and only from who is trusted."""

import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Group, RenderableType
from rich.prompt import Confirm
from rich.table import Table

from . import _parts as parts
from . import _words as words
from ._model import known, version_document
from ._model_show import card_shown, lines, printable
from ._output import Exit, Here, Problem, columns
from ._verb import open_app, settings

if TYPE_CHECKING:
    from ..models.bundle import Bundle

What = Annotated[
    list[str],
    typer.Argument(metavar="MODEL FILE", help="A version (as for show), and the file to write.", show_default=False),
]
Key = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The key to sign with, if not this site's.", show_default=False)
]
Revocations = Annotated[bool, typer.Option("--revocations", help="All that is revoked here, in place of a version.")]
Bundle_ = Annotated[Path, typer.Argument(metavar="FILE", help="What `model export` has written.", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")]
Check = Annotated[bool, typer.Option("--check", help="Say what is in it, and keep nothing.")]
KeyName = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help="What it is called (default: this machine's name).", show_default=False),
]
Trust = Annotated[
    Path | None,
    typer.Option(metavar="FILE.pub", help="Believe what this key has signed.", show_default=False),
]
List = Annotated[bool, typer.Option("--list", help="List this site's keys, and the trusted ones.")]


def key(here: Here, name: KeyName = None, trust: Trust = None, list_: List = False) -> None:
    """Make the key that this site signs bundles with, or say whose keys are trusted."""
    own, trusted = _places(here)
    with _bundles() as bundle:
        if list_:
            table = columns("name", "whose", "key", "file")
            found = [*(("own", f) for f in sorted(own.glob("*.pub"))), *(("trusted", f) for f in _trusted(trusted))]
            told = [{"name": f.stem, "whose": w, "key": bundle.key_of(f), "file": str(f)} for w, f in found]
            for one in told:
                table.add_row(*one.values())
            here.tell({"keys": told}, table if told else "there is no key yet: `firstlight model key` makes one")
            return
        if trust is not None:
            _trust(here, trusted, trust)
            return
        called = name or socket.gethostname().partition(".")[0]
        if not called or set(called) & set("/\\ \t\n") or called.startswith("."):
            raise Problem(Exit.BAD_INPUT, f"a key cannot be called {called!r}: use letters, digits, - and _")
        own.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            public = bundle.make_key(own / called)
        except FileExistsError as error:
            raise Problem(
                Exit.REFUSED, str(error), hint="`firstlight model key --list` lists what there is."
            ) from error
        here.tell(
            {"name": called, "key": bundle.key_of(public), "private": str(own / called), "public": str(public)},
            f"{public} is for whoever is to trust this site; {own / called} stays here",
        )


def _trust(here: Here, trusted: Path, file: Path) -> None:
    bundle = parts.bundle
    try:
        new = bundle.key_of(file)
    except (OSError, ValueError) as error:
        raise Problem(Exit.BAD_INPUT, str(error)) from error
    kept = trusted / f"{file.stem}.pub"
    known_as = next((f for f in _trusted(trusted) if bundle.key_of(f) == new), None)
    if known_as is None and kept.exists():
        raise Problem(
            Exit.REFUSED, f"another key is trusted as {file.stem} already: {kept}",
            hint="Give the new file another name, or remove the old one if it is not trusted any more.",
        )  # fmt: skip
    if known_as is None:
        trusted.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, kept)
    kept = known_as or kept
    here.tell(
        {"name": kept.stem, "key": new, "file": str(kept)},
        f"what {kept.stem} has signed is believed; remove {kept} to end that",
    )


async def export(here: Here, what: What, key: Key = None, revocations: Revocations = False) -> None:
    """Write a version as one signed file for another site, or with --revocations all that is revoked here."""
    file = _new_file(what, revocations)
    with _bundles() as bundle:
        signing = key or _own_key(here)
        async with open_app(here) as app:
            with app.models() as (_, registry):
                if revocations:
                    gone = bundle.export_revocations(registry, file, signing)
                else:
                    version = known(registry.resolve, what[0])
                    bundle.export(registry, version, file, signing)
                    document = version_document(version, registry.state(version.name))
    told = {"file": str(file), "bytes": _size(file), "signed_by": signing.name}
    if revocations:
        count = words.plural(len(gone), "version")
        here.tell(told | {"revoked": msgspec.to_builtins(gone)}, f"{file} says that {count} must not be used")
    else:
        here.tell(told | document, f"{version.id} is in {file}, signed by {signing.name}")


def _new_file(what: list[str], revocations: bool) -> Path:
    if len(what) != (1 if revocations else 2):
        said = "name the file to write" if revocations else "name a version, and the file to write"
        raise Problem(Exit.BAD_INPUT, said, hint="firstlight model export hardness:3 hardness-3.zip")
    file = Path(what[-1])
    if file.exists():
        raise Problem(Exit.BAD_INPUT, f"{file} is there already", hint="Give another name.")
    return file


def _size(file: Path) -> int:
    return file.stat().st_size


async def bring(here: Here, file: Bundle_, check: Check = False, yes: Yes = False) -> Exit | None:
    """Take in what another site has exported: a version, or what it has revoked. Who signed it must be trusted here."""
    keys = _trusted(_places(here)[1])
    with _bundles() as bundle:
        if bundle.has_revocations(file):
            return await _bring_revocations(here, file, keys, check)
        told, origin = bundle.look(file, keys)
        card = printable(bundle.read_card(file, keys))
        document = _document(told, origin, card)
        if check or not here.as_json:
            here.tell(document | {"kept": None}, _shown(here, told, origin, card))
        if check:
            return None
        if here.live and sys.stdin.isatty() and not yes and not _agreed(here):
            raise Problem(Exit.REFUSED, f"{told.told.name} of {origin} is not kept")
        async with open_app(here) as app:
            with app.models() as (library, registry):
                library.root.mkdir(parents=True, exist_ok=True)
                version = bundle.bring(registry, file, keys, parts.app.person(), library.root)
                kept = version_document(version, registry.state(version.name))
    if here.as_json:
        here.write(document | {"kept": kept})
    here.say(f"{version.id} is here; it is not used before `firstlight model promote {version.id}`")
    return None


async def _bring_revocations(here: Here, file: Path, keys: list[Path], check: bool) -> Exit | None:
    told, origin = parts.bundle.look_at_revocations(file, keys)
    table = columns("revoked", "why", "by")
    for one in told.revoked:
        table.add_row(one.record, one.reason, one.by)
    document: dict[str, Any] = {"signed_by": origin, "revoked": msgspec.to_builtins(told.revoked)}
    if check:
        here.tell(document | {"hit": [], "hidden": []}, table)
        return None
    async with open_app(here) as app:
        with app.models() as (_, registry):
            hit = parts.bundle.bring_revocations(registry, file, keys, parts.app.person())
            hidden = list(registry.readable()[1].values())
    here.say(table)
    said = f"{', '.join(v.id for v in hit)} must not be used any more" if hit else "none of that is in use here"
    here.tell(document | {"hit": [v.id for v in hit], "hidden": hidden}, said)
    for why in hidden:
        here.warn(f"whether it has others cannot be told: {why}")
    return Exit.DAMAGED if hidden else None


# ------------------------------------------------------------------ keys


def _places(here: Here) -> tuple[Path, Path]:
    """Where this site's keys are, and those that it trusts."""
    home = settings(here).data_dir
    return home / "keys", home / "trusted"


def _trusted(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.pub"))


def _own_key(here: Here) -> Path:
    own, _ = _places(here)
    keys = [f.with_suffix("") for f in sorted(own.glob("*.pub"))]
    if not keys:
        raise Problem(
            Exit.BAD_INPUT, "this site has no key to sign with", hint="`firstlight model key` makes one, and says more."
        )
    if len(keys) > 1:
        raise Problem(Exit.BAD_INPUT, f"say which key signs, with --key; there are: {', '.join(map(str, keys))}")
    return keys[0]


@contextmanager
def _bundles() -> Iterator[Any]:
    """The module of bundles; what goes wrong with one is said with what to do."""
    try:
        bundle = parts.bundle
    except ImportError as error:
        hint = "pip install 'firstlight[models]'"
        raise Problem(Exit.UNAVAILABLE, f"bundles need a package that is not installed: {error}", hint=hint) from error
    try:
        yield bundle
    except bundle.Untrusted as error:
        hint = "`firstlight model key --trust FILE.pub` believes a site whose public key you have from itself."
        raise Problem(Exit.REFUSED, str(error), hint=hint) from error
    except (PermissionError, parts.registry.Refused, parts.registry.Damaged):
        raise
    except FileNotFoundError as error:
        raise Problem(Exit.BAD_INPUT, f"{error.filename} is not there") from error
    except ValueError as error:
        raise Problem(Exit.BAD_INPUT, str(error)) from error


# ------------------------------------------------------------------ what is in a bundle


def _agreed(here: Here) -> bool:
    try:
        return Confirm.ask("keep it", console=here.out, default=False)
    except EOFError:
        return False


def _document(bundle: "Bundle", origin: str, card: str) -> dict[str, Any]:
    made = bundle.made
    return {
        "model": bundle.told.name, "version": made.version, "record": made.record, "family": made.family,
        "metric": made.metric, "scores": made.scores, "passed": made.verdict.passed, "licence": bundle.told.licence,
        "licences": bundle.licences, "parents": list(bundle.parents), "files": msgspec.to_builtins(bundle.files),
        "bytes": sum(file.size for file in bundle.files.values()), "signed_by": origin,
        "history": msgspec.to_builtins(bundle.history), "card": card,
    }  # fmt: skip


def _shown(here: Here, bundle: "Bundle", origin: str, card: str) -> RenderableType:
    made = bundle.made
    table: Table = lines({
        "model": f"{bundle.told.name}, version {made.version} at {origin}", "signed by": origin,
        "licence": bundle.told.licence or "not said", "family": made.family,
        "learned from": ", ".join(f"{d} ({bundle.licences.get(d) or 'licence not said'})" for d in made.data),
        "began with": " < ".join(bundle.parents),
        made.metric: words.number(made.scores[made.metric]),
        "gate": "reached" if made.verdict.passed else "; ".join(made.verdict.reasons),
        "files": words.plural(len(bundle.files), "file"),
    })  # fmt: skip
    return Group(*card_shown(here, card), table)
