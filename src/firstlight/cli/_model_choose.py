"""`firstlight model choose`: what a potential knows least of, and the campaign that has it labelled."""

from pathlib import Path
from typing import Annotated

import typer

from . import _parts as parts
from ._output import Exit, Here, Problem
from ._verb import open_app

Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A version of a potential, or chgnet-0.3.0.", show_default=False),
]  # fmt: skip
Pool = Annotated[list[Path], typer.Argument(metavar="POOL...", help="Structures (extended XYZ).", show_default=False)]
Out = Annotated[Path, typer.Option(metavar="FOLDER", help="A new folder; its name is the campaign's.")]
Count = Annotated[int, typer.Option(help="How many structures.")]
Method = Annotated[str, typer.Option(help="emt, gfn1-xtb, gfn2-xtb or pyscf:FUNCTIONAL/BASIS.")]
Facility = Annotated[str, typer.Option(help="Where they are labelled.")]
Parallel = Annotated[int, typer.Option(help="How many are labelled at once.")]
Without = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="Not these again: asked for before, and failed, say.", show_default=False),
]


async def choose(
    here: Here, model: Model, pool: Pool, out: Out, count: Count = 16, method: Method = "emt",
    facility: Facility = "local", parallel: Parallel = 4, without: Without = None,
) -> None:  # fmt: skip
    """Choose structures whose labels would teach a potential most, and write the campaign that labels them."""
    async with open_app(here) as app:
        try:
            with app.models() as (library, registry):
                file = parts.factory.ask_for_labels(
                    library, registry, model, pool, out, count=count, method=method, facility=facility,
                    parallel=parallel, without=without or (),
                )  # fmt: skip
        except FileExistsError as error:
            raise Problem(Exit.BAD_INPUT, f"{out} is there already: name another folder") from error
        except (ValueError, LookupError) as error:
            raise Problem(Exit.BAD_INPUT, str(error)) from error
    here.tell({"campaign": out.resolve().name, "file": str(file), "chosen": count}, f"{file}: {count} structures")
    here.say(f"firstlight run {file}")
