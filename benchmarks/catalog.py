"""How quickly the catalog's index takes records in and finds them: `catalog.py [--records N ...]`.

Every record has two variables with ranges, three elements, a keyword, a licence and a title; a query is asked nine
times of a file that has just been opened, and its facets are counted over all that is found.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from firstlight.catalog.index import Card, Index, Query, Range, Record, Variable

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


def measured(count: int, scratch: Path) -> dict[str, object]:
    """Rates in records a second, times in milliseconds."""
    file = scratch / f"{count}.db"
    index, made = Index(file), records(count, 1)
    began = time.perf_counter()
    for _ in range(0, count, 1000):
        index.add(next(made) for _ in range(min(1000, count)))
        print(f"\r{time.perf_counter() - began:6.0f} s", end="", flush=True)
    batches = count / (time.perf_counter() - began)
    began = time.perf_counter()
    for one in records(200, 2):
        index.add([one])
    single = 200 / (time.perf_counter() - began)
    index.close()
    found = dict[str, dict[str, float]]()
    for name, query in QUERIES.items():
        index, times = Index(file), list[float]()
        for _ in range(9):
            began = time.perf_counter()
            total = index.search(query).total
            times.append(1000 * (time.perf_counter() - began))
        index.close()
        found[name] = {"first": times[0], "p50": sorted(times)[4], "p95": max(times[1:]), "found": total}
    return {"records": count, "in batches": batches, "one by one": single, "MB": file.stat().st_size / 1e6, "ms": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--records", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--scratch", type=Path, help="where the files are (default: a temporary directory)")
    parser.add_argument("--json", action="store_true")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=said.scratch) as scratch:
        for count in said.records:
            one = measured(count, Path(scratch))
            if said.json:
                print(json.dumps(one))
                continue
            print(
                f"\r{count:,} records: {one['in batches']:,.0f} a second in batches of 1,000, {one['one by one']:,.0f}"
            )
            print(f"one by one (each synced to disk), {one['MB']:,.0f} MB")
            print(f"{'query':26}{'first':>9}{'p50':>9}{'p95':>9}   ms, found")
            times = one["ms"]
            assert isinstance(times, dict)
            for name, t in times.items():
                print(f"{name:26}{t['first']:9.1f}{t['p50']:9.1f}{t['p95']:9.1f}   {t['found']:,}")


if __name__ == "__main__":
    main()
