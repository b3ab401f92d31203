"""MLflow's side of the benchmark of catalogs: `python _mlflow.py RECORDS SCRATCH`, in the environment that has MLflow.

A real `mlflow server` on this machine with its database (SQLite) and its files below SCRATCH, asked by its own client
over HTTP: a run for each record, with tags, metrics, and the table as an artifact. Prints lines of JSON: how many
records are written, and what came of it all at the end.
"""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

QUERIES = {
    "two facets": (
        "tags.`element.Li` = 'yes' AND tags.licence = 'MIT'", "tags.`element.Li` = 'yes' AND tags.licence = 'CC0-1.0'"
    ),
    "a word": ("tags.title LIKE '%word17 %'", "tags.keyword = 'word17'"),
    "a range": ("metrics.temperature_low <= 395 AND metrics.temperature_high >= 390",),
}  # fmt: skip
"""It has no OR, and no IN for tags: what the parts find is put together."""


def main(file: str, scratch: str) -> None:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        port = some.getsockname()[1]
    place = Path(scratch)
    (place / "artifacts").mkdir(parents=True)
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
               "--backend-store-uri", f"sqlite:///{place / 'mlflow.db'}",
               "--artifacts-destination", str(place / "artifacts"), "--workers", "1"]  # fmt: skip
    with (
        (place / "log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log, cwd=place, start_new_session=True) as server,
    ):
        try:
            address = f"http://127.0.0.1:{port}"
            reached(f"{address}/health", server)
            print(json.dumps({"result": measured(address, Path(file), place)}), flush=True)
        finally:
            os.killpg(server.pid, signal.SIGTERM)  # It has processes of its own.


def reached(address: str, server: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            if time.monotonic() > until or server.poll() is not None:
                raise
            time.sleep(0.2)


def measured(address: str, file: Path, place: Path) -> dict[str, Any]:
    from mlflow import MlflowClient  # type: ignore[import-not-found]
    from mlflow.entities import Metric, RunTag  # type: ignore[import-not-found]

    client = MlflowClient(tracking_uri=address)
    experiment = client.create_experiment("records")
    records = [json.loads(line) for line in file.read_text().splitlines()]
    seconds = list[float]()
    for n, record in enumerate(records, 1):
        said = record["metadata"]
        table = place / "table.csv"
        began = time.perf_counter()
        tags = {key: str(value) for key, value in said.items() if isinstance(value, str)}
        tags.update({f"element.{element}": "yes" for element in said["elements"]})
        run = client.create_run(experiment, run_name=record["name"]).info.run_id
        metrics = [Metric(key, value, 0, 0) for key, value in said.items() if isinstance(value, float)]
        client.log_batch(run, metrics=metrics, tags=[RunTag(*tag) for tag in tags.items()])
        with table.open("w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(record["table"])
            writer.writerows(zip(*record["table"].values(), strict=True))
        client.log_artifact(run, str(table))
        client.set_terminated(run)
        seconds.append(time.perf_counter() - began)
        if n % 20 == 0 or n == len(records):
            print(json.dumps({"written": n}), flush=True)
    found = dict[str, dict[str, Any]]()
    for name, parts in QUERIES.items():
        times = list[float]()
        for _ in range(9):
            began = time.perf_counter()
            for part in parts:
                client.search_runs([experiment], part, max_results=20)
            times.append(1000 * (time.perf_counter() - began))
        ids = set[str]()
        for part in parts:
            token = None
            while True:
                page = client.search_runs([experiment], part, max_results=1000, page_token=token)
                ids.update(run.info.run_id for run in page)
                token = page.token
                if not token:
                    break
        found[name] = {"found": len(ids), "ms": times}
    return {"seconds": seconds, "queries": found}


if __name__ == "__main__":
    main(*sys.argv[1:])
