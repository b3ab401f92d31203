"""What putting requests together is worth: points a second, one by one and batched.

    python benchmarks/serve.py [--quick] [--out FILE]

Models are served by a real server in another process. Two other processes ask it over kept-open connections, 32 each,
for one point a request, and again as soon as they are answered. `table` is an ensemble of five networks in numpy;
`slow` is one that takes 10 ms a call, however many rows it has (as a module on a GPU does). Needs
firstlight[models,serve].
Another load on the machine shows: the server, and those who ask, need a core each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from firstlight.core import Observation
from firstlight.models._prediction import Prediction
from firstlight.models._weights import write_weights
from firstlight.models.serve import Batching, Served, inputs_of, serve
from firstlight.models.table import Table

_COLUMNS = ("a", "b", "c", "d")
_CONNECTIONS, _ASKERS = 32, 2
_MODES = {
    "one by one": (Batching(rows=1, wait=0.0), 1),
    "batched": (Batching(), 1),
    "batched, 64 a request": (Batching(), 64),
}


class Slow:
    """Ten milliseconds a call."""

    def predict(self, points: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """The sum of the columns."""
        time.sleep(0.01)
        return [Prediction({"y": Observation("y", float(sum(p.values())))}) for p in points]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each is asked")
    parser.add_argument("--quick", action="store_true", help="two seconds each")
    parser.add_argument("--out", type=Path, help="write the table here, too")
    told = parser.parse_args()
    seconds = 2.0 if told.quick else told.seconds
    lines = ["| model | requests | points a second | median ms | 99 % ms |", "|---|---|---|---|---|"]
    for model in ("table", "slow"):
        for mode in _MODES:
            times = _measured(model, mode, seconds)
            rate = len(times) * _MODES[mode][1] / seconds
            middle, late = np.quantile(times, [0.5, 0.99]) * 1e3
            lines.append(f"| {model} | {mode} | {rate:.0f} | {middle:.1f} | {late:.1f} |")
            print(f"{model}, {mode}: {rate:.0f} points a second", flush=True)
    table = "\n".join(lines)
    print("\n" + table)
    if told.out:
        told.out.write_text(table + "\n")


def _measured(model: str, mode: str, seconds: float) -> list[float]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(model, mode, theirs), daemon=True)
    server.start()
    port = int(ours.recv().rsplit(":", 1)[1])
    with context.Pool(_ASKERS) as pool:
        found = pool.starmap(_ask, [(model, port, _MODES[mode][1], seconds)] * _ASKERS)
    server.terminate()
    server.join()
    return [t for times in found for t in times]


def _serve(model: str, mode: str, told: Any) -> None:
    made: Any = _table() if model == "table" else Slow()
    served = Served(model, f"{model}:1", made, inputs=inputs_of(made))
    serve([served], batching=_MODES[mode][0], started=told.send)


def _table() -> Any:
    """A model as it is released; what it has learned makes no difference to how quick it is."""
    from firstlight.models._family import Examples, Item

    draw, family = np.random.default_rng(0), Table(target="y", inputs=_COLUMNS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        _write(path, {n: draw.uniform(size=600) for n in (*_COLUMNS, "y")})
        rows: Examples = family.read([Item(dataset="d", path=path.name, digest="", size=0)], [path])
        learner = family.begin(rows, rows, None, 0)
        weights = {n: t.detach().numpy() for n, t in learner.module.state_dict().items()}
        write_weights(Path(folder) / "model.safetensors", weights)
        (Path(folder) / "config.json").write_text(json.dumps({"config": learner.config()}))
        return family.load(Path(folder))


def _write(path: Path, columns: Mapping[str, Any]) -> None:
    from arro3.core import Array, ChunkedArray, DataType, Field, Schema
    from arro3.core import Table as Arrow
    from arro3.io import write_parquet

    arrays = [ChunkedArray([Array(v.tolist(), type=DataType.float64())]) for v in columns.values()]
    fields = [Field(n, DataType.float64()) for n in columns]
    write_parquet(Arrow.from_arrays(arrays, schema=Schema(fields)), path)


def _ask(model: str, port: int, rows: int, seconds: float) -> list[float]:
    """Seconds of every answer, after half a second of warming up."""

    async def one(number: int) -> list[float]:
        body = json.dumps({"points": [dict.fromkeys(_COLUMNS, 0.5)] * rows}).encode()
        head = f"POST /models/{model}/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        times, begun = list[float](), time.perf_counter()
        while (asked := time.perf_counter()) < begun + 0.5 + seconds:
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(answer.decode())
            length = next(x for x in answer.lower().split(b"\r\n") if x.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
            if asked > begun + 0.5:
                times.append(time.perf_counter() - asked)
        writer.close()
        return times

    async def all_of_them() -> list[float]:
        return [t for times in await asyncio.gather(*map(one, range(_CONNECTIONS))) for t in times]

    return asyncio.run(all_of_them())


if __name__ == "__main__":
    main()
