"""Verbs for data: files are added and judged, packages go out and come in, others' data are searched with ours."""

import contextlib
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from firstlight.cli import cli

CELLS = """id,Temperature (°C),x_Li [%],solvent,capacity [mAh/g],split
1,25,10,DMF,120.5,train
2,35,20,DMSO,130.1,train
3,45,,DMF,128.8,train
4,25,10,DMF,120.5,test
5,55,30,DMSO,9999,test
6,65,35,DMSO,141,train
7,60,25,DMSO,140,train
8,61,26,DMSO,139,train
"""


class Desk:
    def __init__(self, home: Path) -> None:
        self.home, self.runner = home, CliRunner()

    def done(self, *words: str) -> Any:
        return self.runner.invoke(cli, [*words, "--data-dir", str(self.home)])

    def do(self, *words: str) -> str:
        done = self.done(*words)
        assert done.exit_code == 0, done.output
        return str(done.output)

    def read(self, *words: str) -> Any:
        return json.loads(self.do(*words, "--json").splitlines()[-1 if "--json" in words else 0])

    def fails(self, *words: str) -> str:
        done = self.done(*words)
        assert done.exit_code == 2, done.output
        assert "Traceback" not in done.output
        return str(done.stderr)

    def kept(self) -> list[Path]:
        """Every file below the catalog, but for the index."""
        catalog = self.home / "catalog"
        return [p for p in catalog.rglob("*") if p.is_file() and not p.name.startswith("index.db")]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "home")


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    file = tmp_path / "cells.csv"
    file.write_text(CELLS, encoding="utf-8")
    return file


def test_a_file_is_added_described_and_judged(desk: Desk, cells: Path, tmp_path: Path) -> None:
    (tmp_path / "card.yaml").write_text("creators: [Ada Lovelace]\nlicence: MIT\nsensitivity: Public\n")
    made = desk.read(
        "data", "add", str(cells), "--card", str(tmp_path / "card.yaml"), "--set", "licence=CC-BY-4.0",
        "--role", "capacity=observable", "--role", "temperature=parameter", "--name", "cells-2025",
    )  # fmt: skip
    assert (made["name"], made["rows"], made["files"]) == ("cells-2025", 8, ["cells.csv", "cells.parquet"])
    assert made["unsaid"] == ["title", "description", "export_control", "training"]
    told = " ".join(made["quality"]["problems"])
    for said in ("test (50.0%) occur in train", "of 8 rows occur twice", "x_Li is missing in 1", "capacity has"):
        assert said in told
    shown = desk.read("data", "show", "cells-2025")
    assert shown["card"]["creators"] == ["Ada Lovelace"]
    assert (shown["card"]["licence"], shown["card"]["sensitivity"]) == ("CC-BY-4.0", "Public")
    units = {v["name"]: (v["unit"], v["role"]) for v in shown["variables"]}
    assert units["temperature"] == ("degC", "parameter")
    assert units["capacity"] == ("mAh/g", "observable")
    assert not shown["synthetic"]
    found = desk.read("data", "search", "--where", "observable=capacity", "--range", "temperature=330..340 K")
    assert [f["id"] for f in found["found"]] == [made["id"]]
    # The same again is the same dataset, and other content another version of it.
    assert desk.read("data", "add", str(cells), "--name", "cells-2025")["version"] == 1
    cells.write_text(CELLS + "9,30,5,DMF,121,train\n", encoding="utf-8")
    assert desk.read("data", "add", str(cells), "--name", "cells-2025")["version"] == 2
    assert desk.read("data", "verify") == {"verified": 2, "wrong": {}}


def test_a_directory_is_added_and_what_cannot_be_read_is_named(desk: Desk, cells: Path, tmp_path: Path) -> None:
    place = tmp_path / "run 7"
    (place / "raw").mkdir(parents=True)
    shutil.copy(cells, place / "raw" / "cells.csv")
    (place / "notes.txt").write_text("it rained")
    (place / ".hidden").write_text("x")
    (place / "link").symlink_to("/etc/passwd")
    (place / "broken.json").write_text('[{"a": 1}, {"a":')
    (place / "ragged.csv").write_text("a,b\n1,2\n3,4,5\n")
    said = desk.fails("data", "add", str(place))
    assert "broken.json" in said
    assert "ragged.csv" in said
    assert "Nothing was kept" in said
    assert desk.kept() == []
    made = desk.read("data", "add", str(place), "--as-is")
    assert made["files"] == [
        "broken.json", "notes.txt", "ragged.csv", "raw/cells.csv", "tables/raw/cells.csv.parquet",
    ]  # fmt: skip
    assert any("link" in note and "left out" in note for note in made["notes"])
    assert made["name"] == "run-7"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("nowhere.csv",), "nowhere.csv is not there"),
        (("{cells}", "--set", "licence"), "'licence' is not FIELD=VALUE"),
        (("{cells}", "--set", "colour=red"), "a data card has no colour"),
        (("{cells}", "--set", "sensitivity=secret"), "sensitivity: use one of Public, Unclassified_Uncontrolled"),
        (("{cells}", "--role", "capacity=target"), "is not VARIABLE=ROLE"),
        (("{cells}", "--role", "colour=observable"), "there is no variable colour"),
        (("{cells}", "--card", "none.yaml"), "none.yaml: it cannot be read"),
        (("http://127.0.0.1:9/x.csv",), "web:"),
        (("{empty}",), "there is no file in it"),
    ],
)
def test_what_cannot_be_added_is_said_and_leaves_nothing(
    desk: Desk, cells: Path, tmp_path: Path, words: tuple[str, ...], why: str
) -> None:
    (tmp_path / "empty").mkdir()
    done = desk.done("data", "add", *(w.format(cells=cells, empty=tmp_path / "empty") for w in words))
    assert done.exit_code in (2, 3, 5, 6, 7), done.output
    assert why in done.stderr
    assert desk.kept() == []


def test_a_person_is_asked_for_the_card(desk: Desk, cells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ["Cells", "of 2025", "Ada; Ben", "CC0-1.0", "", "secret", "Public", "No", "", "Yes", "y"]
    master, terminal = os.openpty()
    with subprocess.Popen(
        [*PROGRAM, "data", "add", str(cells), "--data-dir", str(desk.home)],
        stdin=terminal, stdout=terminal, stderr=terminal, close_fds=True, env={**os.environ, "COLUMNS": "120"},
    ) as asked:  # fmt: skip
        os.close(terminal)
        os.write(master, "".join(f"{answer}\n" for answer in answers).encode())
        said = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(master, 65536):
                said += chunk
        assert asked.wait(60) == 0, said.decode()
    os.close(master)
    card = desk.read("data", "show", "cells")["card"]
    assert (card["title"], card["creators"], card["licence"]) == ("Cells", ["Ada", "Ben"], "CC0-1.0")
    assert (card["sensitivity"], card["training"], card["agreement"]) == ("Public", "Yes", "")
    assert b"use one of Public" in said


def test_an_address_is_fetched_and_added(desk: Desk, cells: Path, tmp_path: Path) -> None:
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/cells.csv"
        made = desk.read("data", "add", address)
        server.shutdown()
    shown = desk.read("data", "show", made["id"])
    assert shown["address"] == address
    assert shown["provider"] == "web"
    assert (made["rows"], made["name"]) == (8, "cells")
    assert list((desk.home / "catalog" / "incoming").rglob("*")) == []


def test_a_package_comes_back_bit_by_bit(desk: Desk, cells: Path, tmp_path: Path) -> None:
    made = desk.read("data", "add", str(cells), "--set", "title=Cells", "--set", "licence=CC0-1.0")
    there = tmp_path / "crate"
    assert desk.read("data", "export", "cells", "--output", str(there))["path"] == str(there)
    assert "is there already" in desk.fails("data", "export", "cells", "--output", str(there))
    other = Desk(tmp_path / "other")
    brought = other.read("data", "import", str(there))
    assert (brought["id"], brought["digest"]) == (made["id"], made["digest"])
    record, again = (d.read("data", "show", "cells") for d in (desk, other))
    assert {k: v for k, v in record.items() if k != "added"} == {k: v for k, v in again.items() if k != "added"}
    one, two = (d.read("data", "trace", "cells")["provenance"] for d in (desk, other))
    assert one == two
    assert other.read("data", "verify", "cells")["wrong"] == {}
    blobs = {p.name: p.read_bytes() for p in (desk.home / "catalog" / "sha256").rglob("*") if p.is_file()}
    assert blobs == {p.name: p.read_bytes() for p in (other.home / "catalog" / "sha256").rglob("*") if p.is_file()}
    # A flipped byte is found, and nothing of it stays.
    table = next(there.rglob("cells.parquet"))
    table.write_bytes(table.read_bytes()[:-1] + b"!")
    third = Desk(tmp_path / "third")
    assert "is damaged" in third.fails("data", "import", str(there))
    assert third.kept() == []
    assert "is not there" in third.fails("data", "import", str(tmp_path / "nowhere"))
    # And as one file.
    desk.do("data", "export", "cells", "--zip", "--output", str(tmp_path / "cells.zip"))
    assert zipfile.is_zipfile(tmp_path / "cells.zip")
    assert third.read("data", "import", str(tmp_path / "cells.zip"))["id"] == made["id"]


@pytest.mark.parametrize("form", ["croissant", "datacite", "prov", "csv", "parquet"])
def test_a_dataset_goes_out_in_every_form(desk: Desk, cells: Path, tmp_path: Path, form: str) -> None:
    desk.do("data", "add", str(cells), "--set", "title=Cells", "--set", "licence=CC0-1.0", "--set", "creators=Ada",
            "--set", "publisher=Argonne", "--set", "description=Cells of 2025", "--yes")  # fmt: skip
    path = Path(desk.read("data", "export", "cells", "--as", form, "--output", str(tmp_path / "out"))["path"])
    assert path.exists()
    if form == "csv":
        assert path.read_text().splitlines()[0] == "id,temperature [degC],x_Li [percent],solvent,capacity [mAh/g],split"


def test_what_a_form_wants_is_said(desk: Desk, cells: Path, tmp_path: Path) -> None:
    desk.do("data", "add", str(cells), "--yes")
    said = desk.fails("data", "export", "cells", "--as", "dcat-us", "--output", str(tmp_path / "x.json"))
    assert "DCAT-US demands" in said
    assert not (tmp_path / "x.json").exists()


def test_data_are_asked_in_sql(desk: Desk, cells: Path) -> None:
    assert "no dataset has a table" in desk.fails("data", "query", "SELECT 1")
    desk.do("data", "add", str(cells), "--yes")
    answer = desk.read("data", "query", "SELECT solvent, count(*) n FROM cells GROUP BY ALL ORDER BY 1")
    assert (answer["columns"], answer["rows"]) == (["solvent", "n"], [["DMF", 3], ["DMSO", 5]])
    assert desk.read("data", "query", "SELECT count(*) FROM everything", "cells")["rows"] == [[8]]
    assert "DMF" in desk.do("data", "query", "SELECT DISTINCT solvent FROM cells")
    assert "colour" in desk.fails("data", "query", "SELECT colour FROM cells")
    assert "only read" in desk.fails("data", "query", "DROP VIEW cells")


def test_a_page_shows_a_dataset(desk: Desk, cells: Path, tmp_path: Path) -> None:
    cells.write_text(CELLS.replace("DMF", "<script>alert(1)</script>"), encoding="utf-8")
    desk.do("data", "add", str(cells), "--set", "title=Cells & co <b>", "--role", "capacity=observable", "--yes")
    page = tmp_path / "page.html"
    desk.do("data", "page", "cells", "--output", str(page))
    text = page.read_text("utf-8")
    assert "Cells &amp; co &lt;b&gt;" in text
    assert "<script>alert(1)" not in text
    assert "mAh/g" in text
    assert 'class="lineage"' in text
    assert "occur in train" in text


def test_damage_is_found_by_verify(desk: Desk, cells: Path) -> None:
    made = desk.read("data", "add", str(cells))
    file = next(p for p in (desk.home / "catalog" / "sha256").rglob("*") if p.is_file())
    file.write_bytes(b"!" + file.read_bytes()[1:])
    done = desk.done("data", "verify")
    assert done.exit_code not in (0, 1)
    assert made["id"] in done.output
    assert file.name in done.output


def large(tmp_path: Path, rows: int = 150_000) -> Path:
    file = tmp_path / "large.csv"
    file.write_text("a,b,c\n" + "".join(f"{i},{i * 0.5},{i % 7}\n" for i in range(rows)))
    return file


PROGRAM = [sys.executable, "-c", "from firstlight.cli import main; main()"]


@pytest.mark.parametrize("after", [0.6, 1.2])
def test_kill_9_while_adding_leaves_all_or_nothing(desk: Desk, tmp_path: Path, after: float) -> None:
    words = ["data", "add", str(large(tmp_path)), "--yes", "--data-dir", str(desk.home)]
    with subprocess.Popen([*PROGRAM, *words], stdout=subprocess.DEVNULL) as adding:
        with contextlib.suppress(subprocess.TimeoutExpired):
            adding.wait(after)
        adding.kill()
    found = desk.read("data", "search")
    assert found["total"] in (0, 1)
    assert desk.read("data", "verify") == {"verified": found["total"], "wrong": {}}
    made = desk.read("data", "add", str(large(tmp_path)))
    assert (made["rows"], made["version"]) == (150_000, 1)
    assert desk.read("data", "verify") == {"verified": 1, "wrong": {}}


@pytest.mark.parametrize("most", [200_000, 2_000_000])
def test_a_full_disk_is_said_and_leaves_nothing(desk: Desk, tmp_path: Path, most: int) -> None:
    """Where it is full while the table is written, and while the file is kept."""
    limit = (
        f"import resource, signal; resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}));"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); from firstlight.cli import main; main()"
    )
    words = ["data", "add", str(large(tmp_path)), "--yes", "--data-dir", str(desk.home)]
    done = subprocess.run([sys.executable, "-c", limit, *words], capture_output=True, text=True)
    assert done.returncode not in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    assert "File too large" in done.stderr
    assert desk.read("data", "search")["total"] == 0
    assert [p for p in desk.kept() if "records" in p.parts or p.name.startswith(".")] == []


BARE = """
import sys
for name in ("httpx", "duckdb", "h5py", "zarr", "fsspec", "obstore", "plotly"):
    sys.modules[name] = None
from firstlight.cli import main
main()
"""


def test_without_the_extra_data_are_found_and_what_wants_it_says_so(desk: Desk, cells: Path, tmp_path: Path) -> None:
    desk.do("data", "add", str(cells), "--yes")

    def bare(*words: str) -> tuple[int, str]:
        command = [sys.executable, "-c", BARE, "data", *words, "--data-dir", str(desk.home)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    for words in ("search", "show cells", "trace cells", "verify"):
        assert bare(*words.split())[0] == 0
    assert bare("export", "cells", "--output", str(tmp_path / "crate"))[0] == 0
    for verb, wanted in (
        (["query", "SELECT 1"], "firstlight[data]"), (["add", str(cells), "--yes"], "firstlight[data]"),
        (["page", "cells"], "firstlight[report]"),
    ):  # fmt: skip
        code, said = bare(*verb)
        assert code not in (0, 1), said
        assert wanted in said


def test_data_are_in_an_object_store_that_hosts_share(
    desk: Desk, cells: Path, tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    other = Desk(tmp_path / "other")
    for home in (desk.home, other.home):
        home.mkdir()
        (home / "firstlight.toml").write_text(
            f'[catalog]\nstore = "s3://bucket/lab"\nendpoint = "{s3}"\nregion = "us-east-1"\n'
        )
    made = desk.read("data", "add", str(cells), "--set", "licence=CC0-1.0")
    assert [p for p in desk.home.rglob("*") if "sha256" in p.parts or "records" in p.parts] == []
    assert other.read("data", "show", "cells")["digest"] == made["digest"]
    assert other.read("data", "query", "SELECT count(*) FROM cells")["rows"] == [[8]]
    assert other.read("data", "verify") == {"verified": 1, "wrong": {}}
    crate = other.read("data", "export", "cells", "--output", str(tmp_path / "crate"))["path"]
    assert Desk(tmp_path / "third").read("data", "import", crate)["digest"] == made["digest"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[catalog]\nstore = "ftp://x"\n', "ftp:// is no store that is known"),
        ('[catalog]\nindex = "here"\n', "catalog.index is none that is known"),
        ('[catalog]\ncolour = "red"\n', "there is no option 'colour' of the catalog"),
        ("[catalog]\nstore = 3\n", "catalog.store is not text"),
        ("catalog = 3\n", "catalog is a table"),
        ("sources = 3\n", "sources are tables"),
        ('[facilities.local]\nmeasures = "yes"\n', "measures is true or false"),
    ],
)
def test_settings_that_cannot_be_are_said(desk: Desk, text: str, why: str) -> None:
    desk.home.mkdir()
    (desk.home / "firstlight.toml").write_text(text)
    done = desk.done("data", "search")
    assert done.exit_code not in (0, 1)
    assert why in done.stderr


# ------------------------------------------------------------------ other people's


def structure(number: int) -> dict[str, Any]:
    attributes = {
        "elements": ["Ac", "O"], "nelements": 2, "elements_ratios": [0.5, 0.5], "chemical_formula_reduced": "AcO",
        "chemical_formula_descriptive": "AcO", "chemical_formula_anonymous": "AB", "dimension_types": [1, 1, 1],
        "nperiodic_dimensions": 3, "lattice_vectors": [[4.0 + number, 0, 0], [0, 4.0, 0], [0, 0, 4.0]],
        "cartesian_site_positions": [[0, 0, 0], [2, 2, 2]], "nsites": 2, "species_at_sites": ["Ac", "O"],
        "species": [{"name": s, "chemical_symbols": [s], "concentration": [1.0]} for s in ("Ac", "O")],
        "structure_features": [], "last_modified": {"$date": "2026-01-02T03:04:05Z"},
    }  # fmt: skip
    return {"type": "structures", "id": f"ref-{number}", "attributes": attributes}


@pytest.fixture(scope="module")
def optimade(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The reference server."""
    python = Path(sys.prefix) / "fabric" / "bin" / "python"
    if not python.exists():
        pytest.skip("there is no environment fabric: make setup-fabric")
    home = tmp_path_factory.mktemp("optimade")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    lines = [{"x-optimade": {"meta": {"api_version": "1.1.0"}}}, {"type": "info", "id": "structures", "properties": {}}]
    lines += [structure(n) for n in range(17)]
    (home / "structures.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = {
        "insert_test_data": False, "insert_from_jsonl": str(home / "structures.jsonl"), "log_dir": str(home),
        "database_backend": "mongomock", "base_url": f"http://127.0.0.1:{port}",
        "provider": {"prefix": "ref", "name": "Reference", "description": "Structures"},
    }  # fmt: skip
    (home / "config.json").write_text(json.dumps(config))
    with open(home / "log", "wb") as log:
        server = subprocess.Popen(
            [python, "-m", "uvicorn", "optimade.server.main:app", "--port", str(port)], stdout=log, stderr=log,
            env={**os.environ, "OPTIMADE_CONFIG_FILE": str(home / "config.json")}, process_group=0,
        )  # fmt: skip
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def test_one_search_asks_ours_and_others(desk: Desk, cells: Path, optimade: str) -> None:
    desk.do("data", "add", str(cells), "--yes", "--set", "licence=CC0-1.0")
    desk.do("source", "add", "reference", "optimade", f"base_url={optimade}", "private=true")
    desk.do("source", "add", "gone", "optimade", "base_url=http://127.0.0.1:9", "tries=1", "private=true")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        desk.do("source", "add", "silent", "optimade", f"base_url=http://127.0.0.1:{silent.getsockname()[1]}",
                "private=true")  # fmt: skip
        began = time.monotonic()
        merged = desk.read("data", "search", "--everywhere", "--patience", "5", "--limit", "5")
        assert time.monotonic() - began < 15
    assert set(merged["failed"]) == {"gone", "silent"}
    assert "within 5 s" in merged["failed"]["silent"]
    by = {hit["record"]["provider"]: hit["record"] for hit in merged["hits"]}
    assert set(by) == {"here", "reference"}
    assert by["here"]["card"]["licence"] == "CC0-1.0"
    assert merged["totals"] == {"here": 1, "reference": 17}
    assert [s["source"] for s in desk.read("source", "list")["sources"]] == ["reference", "gone", "silent"]
    said = desk.done("data", "search", "--source", "gone")
    assert "no answer of gone" in said.stderr


def test_one_thing_is_brought_from_a_source(desk: Desk, optimade: str) -> None:
    desk.do("source", "add", "reference", "optimade", f"base_url={optimade}", "private=true")
    (hit, *_) = desk.read("data", "search", "--source", "reference", "--limit", "1")["hits"]
    made = desk.read("data", "add", hit["record"]["id"], "--set", "licence=CC0-1.0")
    shown = desk.read("data", "show", made["id"])
    assert (shown["provider"], shown["elements"], shown["card"]["licence"]) == ("reference", ["Ac", "O"], "CC0-1.0")
    assert shown["address"].startswith(optimade)


def test_what_is_restricted_is_not_published(desk: Desk, cells: Path) -> None:
    desk.do("source", "add", "beamline", "tiled", "url=http://127.0.0.1:9", "private=true")
    desk.do("data", "add", str(cells), "--set", "sensitivity=CUI", "--yes")
    assert "is CUI, and stays here" in desk.fails("data", "publish", "cells", "beamline")


def test_a_harvest_is_a_dataset_with_its_origin(desk: Desk, optimade: str) -> None:
    desk.do("source", "add", "reference", "optimade", f"base_url={optimade}", "private=true", "page=5")
    made = desk.read("data", "harvest", "reference", "--name", "minerals", "--set", "licence=CC-BY-4.0")
    assert (made["rows"], made["provider"], made["licence"]) == (17, "reference", "CC-BY-4.0")
    shown = desk.read("data", "show", "minerals")
    assert "Ac" in shown["elements"]
    assert desk.read("data", "query", "SELECT count(*) FROM minerals")["rows"] == [[17]]
    assert desk.read("data", "search", "--where", "provider=reference")["total"] == 1
    agents = desk.read("data", "trace", "minerals")["provenance"]["agent"]
    assert any("reference" in name for name in agents), agents
    assert list((desk.home / "catalog" / "incoming").rglob("*")) == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("source", "add", "here", "optimade", "base_url=http://x"), "cannot name a source"),
        (("source", "add", "x", "gopher", "url=http://x"), "there is no 'gopher' among the sources"),
        (("source", "add", "x", "optimade", "colour=red"), "optimade"),
        (("data", "search", "--source", "nobody"), "there is no source 'nobody'"),
        (("data", "publish", "cells", "nobody"), "there is no record"),
        (("data", "harvest", "nobody"), "there is no source 'nobody'"),
    ],
)
def test_what_is_wrong_with_a_source_is_said(desk: Desk, words: tuple[str, ...], why: str) -> None:
    assert why in desk.fails(*words)
