"""A real campaign's dataset, one of files in many places, and the validators that judge what we write of them."""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from firstlight import core
from firstlight.catalog.index import Card, File, Record, Variable, digest_of_files
from firstlight.catalog.library import Library
from firstlight.catalog.packages import Package
from firstlight.catalog.provenance import of_import, trace
from firstlight.journal.sqlite import SqliteJournal

CARD = Card(
    title="Rare earths", description="Recovery of rare earths", licence="CC-BY-4.0", sensitivity="CUI",
    creators=("Lovelace, Ada (https://orcid.org/0000-0002-1825-0097)", "Grace Hopper"), export_control="No",
    publisher="Argonne (https://ror.org/05gvnxz63)", contact="Ada <ada@anl.gov>",
    keywords=("rare earths", "closed loop"),
    citation="https://doi.org/10.1000/xyz.12", agreement="crada-17", agreement_type="CRADA", uses=("benchmark",),
    training="Conditional",
)  # fmt: skip


def file_of(path: str, source: Path) -> File:
    content = source.read_bytes()
    return File(path, f"sha256:{hashlib.sha256(content).hexdigest()}", len(content))


@pytest.fixture(scope="session")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """A campaign that was run by the program itself, with its journal."""
    pytest.importorskip("phreeqc")
    place = tmp_path_factory.mktemp("campaign")
    program = [sys.executable, "-c", "from firstlight.cli import main; main()"]
    words = ["run", "critical-materials", "--trials", "5", "--parallel", "5", "--seed", "1", "--data-dir", str(place)]
    subprocess.run([*program, *words], check=True, capture_output=True, cwd=place, timeout=120)
    journal = place / "journal.jsonl"
    entries = asyncio.run(_entries(place / "journal.sqlite"))
    journal.write_bytes(b"".join(core.encode(entry) + b"\n" for entry in entries))
    with Library(place / "catalog") as library:
        record = library.index.get("critical-materials").record
        (table,) = library.tables(record)
    record = msgspec.structs.replace(record, card=CARD, used=("ores@1",))
    return Package(record, {"trials.parquet": table}, trace(entries, record), journal)


async def _entries(path: Path) -> list[core.Entry]:
    journal = SqliteJournal(path)
    try:
        return [entry async for entry in journal.read("critical-materials")]
    finally:
        await journal.close()


@pytest.fixture
def spectra(tmp_path: Path) -> Package:
    """Data of another facility: a table and files with odd names in sub-directories."""
    place = tmp_path / "spectra-source"
    contents = {
        "tables/peaks.csv": "sample,position [eV],intensity,split\na,531.2,1.5,train\nb,529.9,,test\n",
        "raw/été µ/scan #1 (50%).txt": "1 2 3\n", "raw/empty": "",
    }  # fmt: skip
    sources = dict[str, Path]()
    for number, (path, content) in enumerate(contents.items()):
        sources[path] = place / str(number)
        place.mkdir(exist_ok=True)
        sources[path].write_text(content)
    files = tuple(file_of(path, source) for path, source in sources.items())
    variables = (
        Variable("position", "observable", "eV", 529.9, 531.2, kind="float64", called="position [eV]"),
        Variable("intensity", "observable", kind="float64", missing=1), Variable("split", kind="string"),
    )  # fmt: skip
    digest = digest_of_files(files)
    record = Record(
        id=f"spectra@{digest[7:19]}", name="spectra", digest=digest, files=files, card=CARD, variables=variables,
        provider="beamline 9", address="https://beam.example/spectra/9", retrieved=1.75e9, created=1.7e9,
        software={"scan": "3.1"}, people=("Grace Hopper",), instruments=("XPS",), facilities=("APS",), rows=2,
    )  # fmt: skip
    return Package(record, sources, of_import(record, "ben", {"firstlight": "0.1.0"}))


Run = Callable[[str, Sequence[object]], Any]


@pytest.fixture(scope="session")
def fabric(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a script in the environment of other people's validators: what it prints, as JSON."""
    python = Path(sys.prefix) / "fabric" / "bin" / "python"
    if not python.exists():
        pytest.skip("the environment of validators is not there: make setup-fabric")
    place = tmp_path_factory.mktemp("fabric")

    def run(script: str, words: Sequence[object]) -> Any:
        file = place / "script.py"
        file.write_text(script)
        environment = {**os.environ, "XDG_CACHE_HOME": str(place), "PYTHONPATH": "", "HOME": str(place)}
        done = subprocess.run(
            [str(python), str(file), *map(str, words)], capture_output=True, text=True, env=environment, timeout=120
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run
