"""Functions for workers to perform: good ones, and every way of going wrong."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import firstlight as fl

NOT_A_FUNCTION = 3
Point = dict[str, Any]


def square(point: Point) -> float:
    return float(point["x"]) ** 2


def add(point: Point, offset: float) -> dict[str, float]:
    return {"y": point["x"] + offset}


async def later(point: Point) -> float:
    await asyncio.sleep(0.01)
    return 7.0


def nothing(point: Point) -> None:
    return None


def where(point: Point) -> dict[str, Any]:
    threads = float(os.environ.get("OMP_NUM_THREADS", "nan"))
    return {"pid": os.getpid(), "threads": threads, "session": os.getsid(0)}


def tally_and_wait(point: Point, tally: str, seconds: float) -> float:
    with open(tally, "a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(seconds)
    with open(tally, "a") as file:
        file.write("ended\n")
    return 1.0


def not_converging(point: Point) -> None:
    raise fl.Failed("did-not-converge", "the residual grew")


def raising(point: Point) -> None:
    print("before the end")
    raise ValueError("no such luck")


def no_memory(point: Point) -> None:
    raise MemoryError


def leaving(point: Point) -> None:
    sys.exit(3)


def segfault(point: Point) -> None:
    print("about to read address 0")
    ctypes.string_at(0)


def abort(point: Point) -> None:
    os.abort()


def exit_at_once(point: Point) -> None:
    os._exit(7)


def killed(point: Point) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def endless(point: Point) -> None:
    print("round and round")
    while True:
        pass


def endless_in_c(point: Point) -> None:
    ctypes.PyDLL(None).pause()  # Holds the interpreter's lock all the while.


def hog(point: Point) -> int:
    held = []
    while True:
        held.append(b"x" * 10_000_000)
        time.sleep(0.005)


def hog_in_a_child(point: Point) -> int:
    code = "import time; held = b'x' * 400_000_000; time.sleep(60)"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode


def leave_a_child(point: Point) -> float:
    child = subprocess.Popen(["sleep", "300"], start_new_session=bool(point["x"]))
    with open(point["file"], "w") as file:
        file.write(str(child.pid))
    while True:
        time.sleep(1)


def chatter(point: Point) -> None:
    for line in range(10_000):
        print("line", line)
    os.system("echo from a child")
    raise RuntimeError("enough")


def close_everything(point: Point) -> float:
    os.closerange(3, 100)
    time.sleep(30)
    return 1.0


def leave_a_thread(point: Point) -> float:
    threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
    return 1.0
