"""The reference server of OPTIMADE, which others wrote, as somebody else's database: searched and harvested."""

import asyncio
import json
import random
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from arro3.io import read_parquet

from firstlight.catalog.index import Query, Range, Record
from firstlight.catalog.sources import Cache, Merged, Unreachable, search
from firstlight.catalog.sources._optimade_filter import filter_of, reduced
from firstlight.catalog.sources._structures import cell_of, kind_of, seconds_of, tabled
from firstlight.catalog.sources.optimade import Optimade, _licence

from .conftest import Houses
from .servers import free_port, kill, program, start

T = TypeVar("T")
COUNT = 2000
GAP = Range(variable="_gx_band_gap", low=1.0, high=1.5, unit="eV")
ELEMENTS = ("Co", "Fe", "Li", "Ni", "O", "Ti")


def structure(n: int, rng: random.Random) -> dict[str, Any]:
    """A made-up crystal: two elements, three sites, a cell that grows with its number."""
    one, two = sorted(rng.sample(ELEMENTS, 2))
    a = 3 + n / 1000
    formula = f"{one}{two}2"
    species = [{"name": e, "chemical_symbols": [e], "concentration": [1.0]} for e in (one, two)]
    attributes = {
        "last_modified": {"$date": f"202{n % 5}-03-01T00:00:00Z"}, "elements": [one, two], "nelements": 2,
        "elements_ratios": [1 / 3, 2 / 3], "chemical_formula_reduced": formula, "chemical_formula_anonymous": "A2B",
        "chemical_formula_descriptive": formula, "chemical_formula_hill": formula, "dimension_types": [1, 1, 1],
        "nperiodic_dimensions": 3, "lattice_vectors": [[a, 0, 0], [0, a, 0], [0, 0, 2 * a]], "nsites": 3,
        "cartesian_site_positions": [[0, 0, 0], [1, 1, 1], [2, 2, 2]], "species": species,
        "species_at_sites": [one, two, two], "structure_features": [], "band_gap": n / 500,
    }  # fmt: skip
    return {"type": "structures", "id": f"s{n:05}", "attributes": attributes}


class Facility:
    """The server, which can be killed and started again where it was."""

    def __init__(self, directory: Path, licence: str) -> None:
        self.directory, self.port, rng = directory, free_port(), random.Random(1)
        self.url = f"http://127.0.0.1:{self.port}"
        meta = {"x-optimade": {"meta": {"api_version": "1.1.0"}}}
        head = [meta, {"type": "info", "id": "structures", "properties": {}}]
        lines = [*head, *(structure(n, rng) for n in range(COUNT))]
        (directory / "structures.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        field = {"name": "band_gap", "type": "float", "unit": "eV", "description": "Band gap"}
        config = {
            "insert_test_data": False, "insert_from_jsonl": str(directory / "structures.jsonl"),
            "database_backend": "mongomock", "log_dir": str(directory), "base_url": self.url, "license": licence,
            "provider": {"prefix": "gx", "name": "Groundstate", "description": "x", "homepage": "https://example.org"},
            "provider_fields": {"structures": [field]},
        }  # fmt: skip
        (directory / "config.json").write_text(json.dumps(config))
        self.server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [program("uvicorn"), "optimade.server.main:app", "--port", str(self.port), "--log-level", "warning"]
        env = {"OPTIMADE_CONFIG_FILE": str(self.directory / "config.json")}
        self.server = start(command, self.directory / "log", self.port, env)

    def kill(self) -> None:
        if self.server is not None:
            kill(self.server)
            self.server = None


@pytest.fixture(scope="module")
def facility(tmp_path_factory: pytest.TempPathFactory, houses: Houses) -> Iterator[Facility]:
    facility = Facility(tmp_path_factory.mktemp("optimade"), f"{houses.url}/page")
    facility.start()
    try:
        yield facility
    finally:
        facility.kill()


@pytest.fixture(scope="module")
def whole(facility: Facility, tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, Path]:
    """A harvest of everything that nobody interrupts, and where it is."""
    to = tmp_path_factory.mktemp("whole")
    return run(facility, lambda s: s.harvest(Query(), to)), to


def run(facility: Facility, what: Callable[[Optimade], Awaitable[T]], **options: Any) -> T:
    async def asked() -> T:
        source = Optimade("gx", facility.url, **{"page": 500, **options})
        try:
            return await asyncio.wait_for(what(source), 60)
        finally:
            await source.close()

    return asyncio.run(asked())


def expected(keep: Callable[[dict[str, Any]], bool]) -> list[str]:
    rng = random.Random(1)
    made = [structure(n, rng) for n in range(COUNT)]
    return [s["id"] for s in made if keep(s["attributes"])]


@pytest.mark.parametrize(
    ("query", "keep"),
    [
        (Query(), lambda a: True),
        (Query(text="Fe O"), lambda a: set(a["elements"]) == {"Fe", "O"}),
        (Query(text="O4Fe2"), lambda a: a["chemical_formula_reduced"] == "FeO2"),
        (Query(text="ternary"), lambda a: False),
        (Query(where={"element": ("Li", "Ti")}), lambda a: bool({"Li", "Ti"} & set(a["elements"]))),
        (Query(ranges=(GAP,)), lambda a: 1 <= a["band_gap"] <= 1.5),
        (Query(ranges=(Range(variable="nsites", high=2),)), lambda a: False),
        (Query(since=1_640_995_200.0, until=1_704_067_200.0), lambda a: a["last_modified"]["$date"][3] in "23"),
    ],
)
def test_what_is_asked_is_found_and_nothing_else(
    facility: Facility, query: Query, keep: Callable[[dict[str, Any]], bool]
) -> None:
    answer = run(facility, lambda s: s.search(query, 7))
    assert answer.left == Query()
    assert answer.total == len(expected(keep))
    assert {r.id.removeprefix("gx/") for r in answer.records} <= set(expected(keep))
    assert len(answer.records) == min(7, len(expected(keep)))


def test_a_record_says_whose_it_is_and_what_it_has(facility: Facility, houses: Houses, tmp_path: Path) -> None:
    answer = run(facility, lambda s: s.search(Query(), 3))
    second = run(facility, lambda s: s.search(Query(), 3, answer.cursor))
    assert len({r.id for r in (*answer.records, *second.records)}) == 6
    record = answer.records[0]
    assert record.id == "gx/s00000" and record.address == f"{facility.url}/v1/structures/s00000"
    assert record.provider == "gx" and record.card.publisher == "Groundstate" and record.retrieved > 0
    assert record.card.licence == f"{houses.url}/page" and record.created == 1_583_020_800.0
    units = {v.name: (v.low, v.unit) for v in record.variables}
    assert units["_gx_band_gap"] == (0.0, "eV") and units["nsites"] == (3.0, "") and units["c"] == (6.0, "angstrom")
    fetched = run(facility, lambda s: s.fetch(record.id, tmp_path))
    said = json.loads((tmp_path / "structure.json").read_text())
    assert said["id"] == "s00000" and fetched.files[0].size == (tmp_path / "structure.json").stat().st_size
    with pytest.raises(LookupError):
        run(facility, lambda s: s.fetch("gx/nope", tmp_path))


def test_a_harvest_has_everything_once_as_it_came_and_as_a_table(whole: tuple[Record, Path]) -> None:
    record, to = whole
    lines = [json.loads(line) for line in (to / "structures.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == expected(lambda a: True)
    table = read_parquet(to / "structures.parquet").read_all()
    assert table.num_rows == record.rows == COUNT
    assert table["_gx_band_gap"].to_pylist() == [n / 500 for n in range(COUNT)]
    assert table["a"].to_pylist()[1000] == pytest.approx(4.0) and table["alpha"].to_pylist()[5] == pytest.approx(90.0)
    assert table["volume"].to_pylist()[0] == pytest.approx(54.0) and table["elements"].to_pylist()[0].count(",") == 1
    assert table.schema.field("_gx_band_gap").metadata_str == {"unit": "eV"}
    assert record.elements == ELEMENTS and record.created == 1_709_251_200.0
    assert {v.name: (v.low, v.high, v.unit) for v in record.variables}["_gx_band_gap"] == (0.0, 3.998, "eV")
    assert {f.path: f.size for f in record.files} == {
        name: (to / name).stat().st_size for name in ("structures.jsonl", "structures.parquet")
    }
    assert sorted(p.name for p in to.iterdir()) == [".lock", "record.json", "structures.jsonl", "structures.parquet"]


def test_a_server_killed_halfway_loses_nothing(facility: Facility, whole: tuple[Record, Path], tmp_path: Path) -> None:
    def killing(done: int, total: int) -> None:
        if done >= COUNT // 2:
            facility.kill()

    cache = Cache(tmp_path / "cache", clock=lambda: 1_795_600_000.0)

    def asked(source: Optimade) -> Awaitable[Merged]:
        return search({"gx": source}, Query(text="Fe O"), 5, 10.0, cache)

    before = run(facility, asked)
    with pytest.raises(Unreachable, match="gx: 127"):
        run(facility, lambda s: s.harvest(Query(), tmp_path, killing), tries=2)
    assert not (tmp_path / "structures.jsonl").exists()
    after = run(facility, asked, tries=1)
    assert after.hits == before.hits and len(after.hits) == 5 and before.failed == {}
    assert after.notes == ("gx: as of 2026-11-25",) and "cannot be reached" in after.failed["gx"]
    facility.start()
    told = list[int]()
    record = run(facility, lambda s: s.harvest(Query(), tmp_path, lambda done, total: told.append(done)))
    assert told[0] == COUNT // 2 + 500, "it began where it stood"
    assert (record.digest, record.files) == (whole[0].digest, whole[0].files)


def test_a_harvest_killed_halfway_loses_nothing(facility: Facility, whole: tuple[Record, Path], tmp_path: Path) -> None:
    code = f"""
import asyncio, os, signal
from pathlib import Path
from firstlight.catalog.index import Query
from firstlight.catalog.sources.optimade import Optimade
def die(done, total):
    if done >= 1000: os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(Optimade("gx", {facility.url!r}, page=500).harvest(Query(), Path({str(tmp_path)!r}), die))
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == -signal.SIGKILL
    with (tmp_path / "pages.jsonl").open("ab") as file:
        file.write(b'{"structures":[{"id":"torn')
    told = list[int]()
    record = run(facility, lambda s: s.harvest(Query(), tmp_path, lambda done, total: told.append(done)))
    assert told[0] == 1500 and record.digest == whole[0].digest
    assert run(facility, lambda s: s.harvest(Query(), tmp_path)) == record, "what is finished is not brought again"


def test_a_directory_with_another_harvest_is_refused(
    facility: Facility, whole: tuple[Record, Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="another harvest"):
        run(facility, lambda s: s.harvest(Query(text="Fe O"), whole[1]))
    with pytest.raises(ValueError, match="cannot search by all of this"):
        run(facility, lambda s: s.harvest(Query(text="perovskite"), tmp_path))

    async def both() -> None:
        source = Optimade("gx", facility.url, page=50)
        results = await asyncio.gather(
            *(source.harvest(Query(text="Fe O"), tmp_path / "one") for _ in range(2)), return_exceptions=True
        )
        await source.close()
        assert sorted(type(r).__name__ for r in results) == ["Record", "ValueError"]

    asyncio.run(both())


def test_a_provider_that_gives_fewer_than_asked_for_is_harvested(facility: Facility, tmp_path: Path) -> None:
    query = Query(text="Fe O")
    record = run(facility, lambda s: s.harvest(query, tmp_path), page=100_000)
    assert record.rows == len(expected(lambda a: set(a["elements"]) == {"Fe", "O"}))
    assert record.card.title == 'Structures of Groundstate with elements HAS ALL "Fe", "O"'


def test_what_is_no_optimade_is_said(houses: Houses) -> None:
    async def asked(url: str) -> None:
        source = Optimade("gx", url)
        try:
            await source.search(Query(), 1)
        finally:
            await source.close()

    with pytest.raises(Unreachable, match="this is not OPTIMADE"):
        asyncio.run(asked(houses.url))
    with pytest.raises(Unreachable, match="this is not OPTIMADE"):
        asyncio.run(asked(f"{houses.url}/v1"))


MILLI = Query(ranges=(Range(variable="_x_gap", low=1.0, unit="meV"),))
NAMES = Query(ranges=(Range(variable="_x_name", low=1.0),))
PROPERTIES = {"nsites": {"type": "integer"}, "_x_gap": {"type": "float", "unit": "eV"}, "_x_name": {"type": "string"}}


@pytest.mark.parametrize(
    ("query", "filter", "left"),
    [
        (Query(text="rock salt"), "", Query(text="rock salt")),
        (Query(text="Fe layered"), 'elements HAS ALL "Fe"', Query(text="layered")),
        (Query(where={"element": ('F"e',)}), 'elements HAS ANY "F\\"e"', Query()),
        (Query(where={"observable": ("_x_gap",)}), "_x_gap IS KNOWN", Query()),
        (Query(where={"licence": ("CC0",)}), "", Query(where={"licence": ("CC0",)})),
        (MILLI, "", MILLI),
        (NAMES, "", NAMES),
        (Query(ranges=(Range(variable="_x_gap", low=1e-3, unit="eV"),)), "_x_gap>=0.001", Query()),
        (Query(since=5.0), "", Query(since=5.0)),
    ],
)  # fmt: skip
def test_what_a_filter_does_not_say_is_left(query: Query, filter: str, left: Query) -> None:
    assert filter_of(query, PROPERTIES) == (filter, left)


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("Fe4O6", "Fe2O3"), ("O", "O"), ("NaCl", "ClNa"), ("iron", ""), ("Fe2O3x", ""),
        ("", ""), ("Xx2", ""), ("OH2", "H2O"),
    ],
)  # fmt: skip
def test_formulae_are_reduced(formula: str, expected: str) -> None:
    assert reduced(formula) == expected


def test_damaged_numbers_are_missing_and_not_invented() -> None:
    said = {"nsites": "three", "lattice_vectors": [[1, 0], [0, 1]], "_x_gap": None, "_x_l": [1]}
    entry = {"id": "x", "attributes": said}
    table = tabled([json.dumps(entry).encode()], {"_x_gap": {"type": "float"}, "_x_l": {"type": "list"}})
    missing = {v.name: (v.missing, v.low) for v in table.variables}
    assert missing["nsites"] == (1, None) and missing["a"] == (1, None) and missing["_x_gap"] == (1, None)
    assert missing["_x_l"] == (0, None) and table.rows == 1
    with pytest.raises(msgspec.ValidationError):
        tabled([b'{"no":"id"}'], {})


def test_cells_times_kinds_and_licences() -> None:
    hexagonal = [[2.0, 0.0, 0.0], [-1.0, 3**0.5, 0.0], [0.0, 0.0, 5.0]]
    found = {name: value for (name, _), value in cell_of(hexagonal).items()}
    assert [found[k] for k in ("a", "b", "c", "alpha", "beta", "gamma")] == pytest.approx([2, 2, 5, 90, 90, 120])
    assert found["volume"] == pytest.approx(10 * 3**0.5)
    assert seconds_of("1970-01-01T00:01:00Z") == seconds_of("1970-01-01T00:01:00") == 60.0
    assert seconds_of("yesterday") is None and seconds_of(7) is None
    assert kind_of({"type": "float"}) == "float64" and kind_of({"type": ["float", "null"]}) == "string"
    assert _licence({"available_licenses": ["CC-BY-4.0", "CC0-1.0"], "license": "https://x"}) == "CC-BY-4.0 OR CC0-1.0"
    assert _licence({"license": {"href": "https://spdx.org/licenses/CC0-1.0"}}) == "CC0-1.0" and _licence({}) == ""
