"""One run of an operation, from before it is sent until it is known, or known to be unknown, how it ended."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from ...core import ENDED, Cause, InDoubt, Instrument, NotStarted, Permit, Run, Unavailable
from ._store import RunRow, Store

log = logging.getLogger(__name__)

FIRST_RETRY, LONGEST_RETRY = 0.1, 5.0
FINAL_CALL = 5.0
"""Seconds that an instrument has to say what became of a run after it was asked to end it."""


class Ended(NamedTuple):
    """How a run ended: `state` is succeeded, failed, cancelled, "doubt", or "never" where nothing was sent."""

    state: str
    message: str = ""
    cause: Cause = "instrument-fault"
    run: Run | None = None


async def perform(
    store: Store, run: RunRow, permit: Permit, instrument: Instrument, seconds: float,
    begun: Callable[[str], Awaitable[None]],
) -> Ended:  # fmt: skip
    """Send a run that the store holds as starting, say when it has begun, and wait for its end; at most `seconds`."""
    try:
        handle = await instrument.start(permit)
    except NotStarted as error:
        return Ended("failed", str(error), error.cause)
    except Unavailable as error:
        return Ended("never", str(error))
    except InDoubt as doubt:
        # It may have arrived all the same: whoever knows is the instrument.
        return await take_up(store, run, instrument, seconds, str(doubt))
    store.started(run.id, handle)
    with contextlib.suppress(Unavailable):
        await begun(handle)
    return await follow(instrument, handle, seconds)


async def take_up(store: Store, run: RunRow, instrument: Instrument, seconds: float, said: str = "") -> Ended:
    """Find a run again that was sent, or was about to be, before a crash or a lost reply; and wait for its end."""
    delay = FIRST_RETRY
    while True:
        try:
            handle = await instrument.reattach(run.id, run.handle)
        except Unavailable as error:
            log.warning("%s: %s cannot be asked (%s); again in %g s", run.id, run.instrument, error, delay)
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_RETRY)
        except InDoubt as doubt:
            return Ended("doubt", said or str(doubt))
        else:
            break
    if handle is None:
        return Ended("never", "it had not begun")
    store.started(run.id, handle)
    return await follow(instrument, handle, seconds)


async def follow(instrument: Instrument, handle: str, seconds: float) -> Ended:
    """Wait for the end of a run. After `seconds` it is asked to end; if it does not say so, nobody knows."""
    watching = asyncio.create_task(_last(instrument, handle))
    try:
        done, _ = await asyncio.wait((watching,), timeout=seconds)
        late = not done
        if late:
            with contextlib.suppress(Unavailable, NotStarted, InDoubt, TimeoutError):
                async with asyncio.timeout(FINAL_CALL):
                    await instrument.cancel(handle)
            done, _ = await asyncio.wait((watching,), timeout=FINAL_CALL)
        if not done:
            return Ended("doubt", f"it has not ended within {seconds:.4g} s, and does not end when asked to")
        last = watching.result()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    if last.state == "unknown":
        return Ended("doubt", last.message or "the instrument does not know what became of it", last.cause, last)
    if late and last.state == "cancelled":
        return Ended("failed", f"it had not ended within {seconds:.4g} s and was cancelled", "timed-out", last)
    cause: Cause = "cancelled" if last.state == "cancelled" else last.cause
    return Ended(last.state, last.message, cause, last)


async def _last(instrument: Instrument, handle: str) -> Run:
    delay = FIRST_RETRY
    while True:
        try:
            async for run in instrument.follow(handle):
                if run.state in ENDED:
                    return run
                delay = FIRST_RETRY
        except Unavailable as error:
            log.warning("%s cannot be followed (%s); again in %g s", handle, error, delay)
        await asyncio.sleep(delay)
        delay = min(2 * delay, LONGEST_RETRY)
