"""The page about the command line says what the program does."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer

from firstlight import core
from firstlight.cli import Exit, _documents, cli
from firstlight.cli._output import MEANING

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "command-line.md").read_text()


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every verb, with its command."""
    for name, sub in getattr(command, "commands", {}).items():
        if hasattr(sub, "commands"):
            yield from commands(sub, (*path, name))
        else:
            yield (*path, name), sub


VERBS = dict(commands(typer.main.get_command(cli)))


def options(command: Any) -> set[str]:
    """Its options, long and short."""
    return {o for p in command.params for o in (*p.opts, *p.secondary_opts) if o.startswith("-")}


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_and_option_is_on_the_page(verb: tuple[str, ...]) -> None:
    assert f"firstlight {' '.join(verb)}" in PAGE
    for option in options(VERBS[verb]):
        assert re.search(rf"`[^`]*{option}\b[^`]*`", PAGE), option
    for shared in ("--json", "--data-dir", "--debug"):
        assert shared in options(VERBS[verb])


def test_the_page_names_no_verb_or_option_that_is_not_there() -> None:
    root = typer.main.get_command(cli)
    known = {"--help", "-h"} | options(root).union(*(options(c) for c in VERBS.values()))
    assert set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", PAGE)) <= known
    groups = "audit|data|facility|lab|model|source"
    named = {tuple(m.split()) for m in re.findall(rf"`firstlight ((?:(?:{groups}) )?[a-z]+)", PAGE)}
    assert named == set(VERBS)


def test_exit_codes_are_those_of_the_program() -> None:
    assert set(MEANING) == set(Exit)
    for code, meaning in MEANING.items():
        assert f"| {int(code)} | {meaning} |" in PAGE


@pytest.mark.parametrize(
    "kind",
    [
        _documents.CampaignDocument,
        _documents.TrialDocument,
        _documents.OpenTrial,
        _documents.JobDocument,
        _documents.Waiting,
        _documents.Spent,
        _documents.OutlookDocument,
        _documents.ExplanationDocument,
        _documents.ReplayDocument,
        core.Decision,
        core.Asked,
        _documents.RequestedPoint,
        _documents.Rejected,
    ],
)
def test_every_field_is_on_the_page(kind: type[msgspec.Struct]) -> None:
    for field in msgspec.structs.fields(kind):
        assert re.search(rf"[`{{ ]{field.name}[`,}} ]", PAGE), field.name
