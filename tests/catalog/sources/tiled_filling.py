"""Fills a Tiled server with its own client, and reads from it. It runs in the environment of that. Usage: URL WHAT.

It waits until somebody listens there. `fill` writes scans, an array in blocks and a container; `read PATH` prints the
table at a path as JSON.
"""

# mypy: disable-error-code="import-not-found"

import contextlib
import json
import socket
import sys
import time
import urllib.parse

import dask.array
import dask.dataframe
import numpy as np
from tiled.client import from_uri

address = urllib.parse.urlsplit(sys.argv[1])
for _ in range(600):
    with contextlib.suppress(OSError), socket.create_connection((address.hostname, address.port), 0.5):
        break
    time.sleep(0.1)
client = from_uri(sys.argv[1], api_key="secret")
if sys.argv[2] == "fill":
    for n in range(12):
        metadata = {
            "title": f"scan {n}", "sample": {"temperature": 20.0 + n}, "elements": ["Fe", "O"] if n % 2 else ["Ti"],
            "license": "CC-BY-4.0", "created": 1.7e9 + n, "authors": ["Ann", "Bo"], "tags": ["operando"],
        }  # fmt: skip
        client.write_table({"x": [float(n), 1.5], "n": [n, 2]}, key=f"t{n}", metadata=metadata)
    box = client.create_container("box", metadata={"title": "detector box"})
    image = np.arange(60_000, dtype="<f4").reshape(300, 200)
    blocks = dask.array.from_array(image, chunks=(100, 100))
    box.write_array(blocks, key="image", metadata={"title": "detector image"}, dims=["y", "x"])
    box.write_array(np.array(["a", "béta"]), key="names")
    inner = box.create_container("inner")
    inner.write_table({"y": [1, 2, 3]}, key="table")
else:
    frame = client[sys.argv[3]].read()
    print(json.dumps({name: frame[name].tolist() for name in frame.columns}))
