"""How quickly the catalog takes records in, finds them, and answers questions about their contents.

    catalog.py [--records N ...] [--postgres ADDRESS] [--peers N]

Every record has two variables with ranges, three elements, a keyword, a licence and a title; a query is asked nine
times of an index that has just been opened, and its facets are counted over all that is found.

Beside it, Tiled and MLflow do the same work: each writes as many records with the same metadata and a table of 100 rows
one after the other, and is asked for the same. They are servers, and asked by their own clients over HTTP on this
machine, as they are made to be; ours is a library, and is asked in this process. Both are here only where their
environments are (make setup-fabric setup-mlflow).
"""

import argparse
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from arro3.core import Array, DataType, Table
from arro3.io import write_parquet
from rich.console import Console
from rich.progress import Progress
from rich.table import Table as Printed

from firstlight.catalog.analysis import Analysis
from firstlight.catalog.index import Card, Index, Query, Range, Record, Variable
from firstlight.catalog.library import Library

ELEMENTS = ("H", "Li", "C", "N", "O", "F", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "K", "Ca", "Ti", "V", "Cr", "Mn",
            "Fe", "Co", "Ni", "Cu", "Zn")  # fmt: skip
WORDS = [f"word{i}" for i in range(5000)]
QUERIES = {
    "all": Query(),
    "two facets": Query(where={"element": ("Li",), "licence": ("MIT", "CC0-1.0")}),
    "a rare word": Query(text="word17 "),
    "the beginning of a word": Query(text="word17"),
    "a word of every record": Query(text="films"),
    "a range": Query(ranges=(Range("temperature", 390.0, 395.0, "K"),)),
    "a range and a facet": Query(where={"element": ("Li",)}, ranges=(Range("band_gap", 90.0, None, "%"),)),
    "the last tenth by time": Query(since=0.9),
}  # fmt: skip
BESIDE = {"two facets": QUERIES["two facets"], "a word": QUERIES["a rare word"], "a range": QUERIES["a range"]}
"""What is asked of the others, too."""
QUESTIONS = {
    "mean and count by observable": "SELECT observable, avg(value), count(*) FROM observations GROUP BY observable",
    "quantiles by dataset and observable": "SELECT dataset, observable, quantile_cont(value, [0.05, 0.5, 0.95]) "
    "FROM observations GROUP BY ALL",
    "the best ten trials of all": "SELECT dataset, trial, value FROM observations WHERE observable = 'yield' "
    "ORDER BY value DESC LIMIT 10",
    "means in bins of a parameter": "SELECT floor(temperature / 10), avg(yield), count(*) FROM everything GROUP BY 1",
}
HERE = Path(__file__).parent


def records(count: int, seed: int) -> Iterator[Record]:
    """As many records, made in the course of one second."""
    r = random.Random(seed)
    for i in range(count):
        observable = r.choice(["yield", "haze", "band_gap", "modulus"])
        yield Record(
            id=f"d{seed}.{i}@1", name=f"d{seed}.{i}", digest=f"sha256:{i}", created=i / count, rows=100,
            card=Card(
                title=f"{r.choice(WORDS)} {r.choice(WORDS)} films", keywords=(r.choice(WORDS[:30]),),
                licence=r.choice(["CC-BY-4.0", "CC0-1.0", "MIT"]), sensitivity=r.choice(["Public", "CUI"]),
            ),
            variables=(
                Variable("temperature", "parameter", "K", 300 + r.random() * 100, 400 + r.random() * 100),
                Variable(observable, "observable", "%", 0.0, r.random() * 100),
            ),
            elements=tuple(r.sample(ELEMENTS, 3)), campaign=f"c{i % 50}",
        )  # fmt: skip


def spread(times: Sequence[float]) -> dict[str, float]:
    """The first of nine, and of the others the middle and the slowest but for one in twenty: of eight, the slowest."""
    return {"first": times[0], "p50": sorted(times)[len(times) // 2], "p95": max(times[1:])}


def asked(work: Callable[[], object], times: int = 9) -> list[float]:
    """Milliseconds, each time."""
    taken = list[float]()
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - began))
    return taken


def measured(count: int, place: str, progress: Progress) -> dict[str, Any]:
    """Rates in records a second, times in milliseconds."""
    made, took = records(count, 1), 0.0
    with closing(Index(place)) as index:
        task = progress.add_task(f"{count:,} records", total=count)
        for start in range(0, count, 1000):
            some = [next(made) for _ in range(min(1000, count - start))]
            began = time.perf_counter()
            index.add(some)
            took += time.perf_counter() - began
            progress.update(task, advance=len(some))
        more = list(records(200, 2))
        began = time.perf_counter()
        for one in more:
            index.add([one])
        single = len(more) / (time.perf_counter() - began)
        index.search(QUERIES["two facets"])
        after = list[float]()
        for one in records(50, 3):
            index.add([one])
            after += asked(lambda index=index: index.search(QUERIES["two facets"]), 1)  # type: ignore[misc]
    found = dict[str, dict[str, float]]()
    for name, query in QUERIES.items():
        with closing(Index(place)) as index:
            times = asked(lambda index=index, query=query: index.search(query))  # type: ignore[misc]
            found[name] = {**spread(times), "found": index.search(query).total}
    found["two facets, each after another record"] = {**spread(after), "found": found["two facets"]["found"]}
    progress.remove_task(task)
    return {"records": count, "batches": count / took, "single": single, "ms": found}


# ---------------------------------------------------------------------- beside others


def table(n: int) -> dict[str, list[float]]:
    """The table of a record: 100 rows."""
    r = random.Random(n)
    return {"temperature": [300 + r.random() * 200 for _ in range(100)], "value": [r.random() for _ in range(100)]}


def said(record: Record) -> dict[str, Any]:
    """A record's metadata, as others take them."""
    first, second = record.variables
    return {
        "title": record.card.title, "keyword": record.card.keywords[0], "licence": record.card.licence,
        "sensitivity": record.card.sensitivity, "campaign": record.campaign, "elements": list(record.elements),
        "created": record.created, "temperature_low": first.low, "temperature_high": first.high,
        "observable": second.name, f"{second.name}_high": second.high, "rows": float(record.rows),
    }  # fmt: skip


def ours(some: Sequence[Record], scratch: Path, progress: Progress) -> dict[str, Any]:
    """A dataset with its table into a library, each synced to disk before the next; all of them once more in hundreds;
    and then the queries."""
    seconds = list[float]()
    task = progress.add_task("Firstlight", total=len(some))
    tables = [contents_of(table(n)) for n in range(len(some))]
    with Library(scratch / "ours") as library:
        for record, content in zip(some, tables, strict=True):
            began = time.perf_counter()
            library.add(record, {"table.parquet": content})
            seconds.append(time.perf_counter() - began)
            progress.update(task, advance=1)
        index, queries = library.index, {}
        for name, query in BESIDE.items():
            page = index.search(query)
            times = asked(lambda query=query: index.search(query, facets=()))  # type: ignore[misc]
            whole = asked(lambda query=query: index.search(query))  # type: ignore[misc]
            queries[name] = {"found": page.total, "ms": times, "with facets": whole}
    with Library(scratch / "together") as library:
        began = time.perf_counter()
        for n in range(0, len(some), 100):
            pairs = zip(some[n : n + 100], tables[n : n + 100], strict=True)
            library.add_all([(record, {"table.parquet": content}) for record, content in pairs])
        together = len(some) / (time.perf_counter() - began)
    return {"seconds": seconds, "queries": queries, "in hundreds": together}


def contents_of(columns: dict[str, list[float]]) -> bytes:
    """A table as Parquet."""
    out = io.BytesIO()
    arrays = [Array(values, type=DataType.float64()) for values in columns.values()]
    write_parquet(Table.from_arrays(arrays, names=list(columns)), out)
    return out.getvalue()


def written(file: Path, columns: dict[str, list[float]], about: Mapping[str, object], trials: bool = False) -> None:
    """A table with an account of itself."""
    arrays = [Array(values, type=DataType.float64()) for values in columns.values()]
    names = list(columns)
    if trials:
        arrays.insert(0, Array([f"t{i}" for i in range(len(arrays[0]))], type=DataType.string()))
        names.insert(0, "trial")
    with file.with_suffix(".part").open("wb") as out:
        write_parquet(Table.from_arrays(arrays, names=names), out, key_value_metadata={"firstlight": json.dumps(about)})
        out.flush()
        os.fsync(out.fileno())
    file.with_suffix(".part").replace(file)


def theirs(who: str, python: Path, some: Sequence[Record], scratch: Path, progress: Progress) -> dict[str, Any]:
    """What a peer's own script says, in a process of its own environment."""
    file = scratch / f"{who}.jsonl"
    with file.open("w") as out:
        for n, record in enumerate(some):
            # A name without dots and signs: not all take them.
            out.write(json.dumps({"name": f"d{n}", "metadata": said(record), "table": table(n)}) + "\n")
    task = progress.add_task(who, total=len(some))
    command = [str(python), str(HERE / f"_{who.lower()}.py"), str(file), str(scratch / who)]
    with (scratch / f"{who}.log").open("w+") as log:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
            assert process.stdout is not None
            result: dict[str, Any] | None = None
            for line in process.stdout:
                answer = json.loads(line) if line.startswith("{") else {}
                progress.update(task, completed=answer.get("written", len(some)))
                result = answer.get("result", result)
        if result is None:
            log.seek(0)
            raise SystemExit(f"{who} did not finish: {log.read()[-2000:]}")
    return result


def beside(count: int, peers: dict[str, Path], scratch: Path, progress: Progress) -> dict[str, Any]:
    some = list(records(count, 1))
    results = {"Firstlight": ours(some, scratch, progress)}
    for who, python in peers.items():
        if python.exists():
            results[who] = theirs(who, python, some, scratch, progress)
        else:
            progress.console.print(f"{who} is not there (make setup-fabric setup-mlflow): {python}")
    answers = dict[str, dict[str, Any]]()
    for who, one in results.items():
        queries = dict[str, dict[str, float]]()
        for name, query in one["queries"].items():
            if query["found"] != results["Firstlight"]["queries"][name]["found"]:
                raise SystemExit(f"{who} found {query['found']} for {name}: it was asked for something else")
            queries[name] = {"found": query["found"], **spread(query["ms"])}
            if "with facets" in query:
                queries[name]["with facets"] = spread(query["with facets"])["p50"]
        taken = sorted(1000 * s for s in one["seconds"])
        answers[who] = {
            "a second": 1000 * count / sum(taken), "queries": queries,
            "ms": {"p50": taken[len(taken) // 2], "p95": taken[int(0.95 * len(taken))]},
            **({"in hundreds": one["in hundreds"]} if "in hundreds" in one else {}),
        }  # fmt: skip
    return {"records": count, "beside": answers}


# ---------------------------------------------------------------------- their contents


def contents(datasets: int, trials: int, scratch: Path, progress: Progress) -> dict[str, Any]:
    """A file for each dataset: three parameters, and five observables of the eight that there are."""
    r, files = random.Random(1), dict[str, list[Path]]()
    task = progress.add_task("datasets", total=datasets)
    for d in range(datasets):
        seen = ["yield", *r.sample(["haze", "gap", "modulus", "roughness", "cost", "purity", "lifetime"], 4)]
        names = ["temperature", "pressure", f"parameter{d % 7}", *seen]
        about = {"columns": [{"name": "trial", "role": "trial"}, *(
            {"name": name, "unit": "%", "role": "observable" if name in seen else "parameter"} for name in names
        )]}  # fmt: skip
        columns = {name: [100 * r.random() for _ in range(trials)] for name in names}
        file = scratch / f"{hashlib.sha256(str(d).encode()).hexdigest()}.parquet"
        written(file, columns, about, trials=True)
        files[f"campaign{d}@{file.name[:12]}"] = [file]
        progress.update(task, advance=1)
    progress.remove_task(task)
    began = time.perf_counter()
    with Analysis(files) as analysis:
        opened = 1000 * (time.perf_counter() - began)
        ((count,),) = analysis.query("SELECT count(*) FROM observations").rows
        asked_ = {name: spread(asked(lambda sql=sql: analysis.query(sql))) for name, sql in QUESTIONS.items()}  # type: ignore[misc]
    return {"datasets": datasets, "observations": count, "opened": opened, "questions": asked_}


# ---------------------------------------------------------------------- what is said of it


def shown(console: Console, one: dict[str, Any]) -> None:
    rows: list[tuple[str, ...]]
    if "questions" in one:
        title = f"{one['observations']:,} observations in {one['datasets']} datasets, opened in {one['opened']:.0f} ms"
        rows = [(name, *times(t)) for name, t in one["questions"].items()]
        printed(console, title, ["question", "first", "p50", "p95 (ms)"], rows)
    elif "beside" in one:
        rows = [(who, f"{a['a second']:,.1f}", f"{a['ms']['p50']:.1f}", f"{a['ms']['p95']:.1f}") for who, a in
                one["beside"].items()]  # fmt: skip
        together = one["beside"]["Firstlight"]["in hundreds"]
        title = (
            f"{one['records']:,} records, each with its table, one after the other (ours in hundreds: {together:,.0f})"
        )
        printed(console, title, ["written by", "a second", "p50", "p95 (ms)"], rows)
        rows = [
            (name, who, *times(q), f"{q['with facets']:.1f}" if "with facets" in q else "none", f"{q['found']:,}")
            for name in BESIDE for who, a in one["beside"].items() if (q := a["queries"][name])
        ]  # fmt: skip
        printed(console, "", ["query", "asked of", "first", "p50", "p95", "p50 with facets (ms)", "found"], rows)
    else:
        title = (
            f"{one['records']:,} records in {one['where']}: {one['batches']:,.0f} a second in batches of 1,000, "
            f"{one['single']:,.0f} one by one, each synced to disk"
        )
        rows = [(name, *times(t), f"{t['found']:,.0f}") for name, t in one["ms"].items()]
        printed(console, title, ["query", "first", "p50", "p95 (ms)", "found"], rows)


def times(t: dict[str, float]) -> tuple[str, str, str]:
    return f"{t['first']:.1f}", f"{t['p50']:.1f}", f"{t['p95']:.1f}"


def printed(console: Console, title: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if title:
        console.print(f"\n{title}")
    made = Printed(box=None, pad_edge=False)
    for i, name in enumerate(names):
        made.add_column(name, justify="right" if i and rows[0][i][:1].isdigit() else "left")
    for row in rows:
        made.add_row(*row)
    console.print(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--records", type=int, nargs="*", default=[100_000, 1_000_000], help="sizes of our index")
    parser.add_argument("--postgres", help="the address of an empty database, for the first of these sizes once more")
    parser.add_argument("--peers", type=int, default=2_000, help="records beside Tiled and MLflow (0: not)")
    parser.add_argument("--tiled", type=Path, default=Path(sys.prefix) / "fabric/bin/python", help="its Python")
    parser.add_argument("--mlflow", type=Path, default=Path(sys.prefix) / "mlflow/bin/python", help="its Python")
    parser.add_argument(
        "--datasets", type=int, default=200, help="files with 1,000 trials each, to be analysed (0: not)"
    )
    parser.add_argument("--scratch", type=Path, help="where the files are (default: a temporary directory)")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    console = Console(width=120)
    with (
        tempfile.TemporaryDirectory(dir=given.scratch) as scratch,
        Progress(console=Console(stderr=True), transient=True) as progress,
    ):
        place = Path(scratch)

        def tell(one: dict[str, Any]) -> None:
            if given.json:
                print(json.dumps(one), flush=True)
            else:
                shown(console, one)

        for count in given.records:
            one = measured(count, str(place / f"{count}.db"), progress)
            size = (place / f"{count}.db").stat().st_size / 1e6
            tell({"where": f"SQLite ({size:,.0f} MB)", **one})
        if given.postgres:
            tell({"where": "PostgreSQL", **measured(given.records[0], given.postgres, progress)})
        if given.peers:
            tell(beside(given.peers, {"Tiled": given.tiled, "MLflow": given.mlflow}, place, progress))
        if given.datasets:
            tell(contents(given.datasets, 1000, place, progress))


if __name__ == "__main__":
    main()
