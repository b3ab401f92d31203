"""The loop. It sequences stages and records facts; every decision is in core."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from .. import core
from ..core import Campaign, Fact, Journal, Ports, next_steps
from ._recorder import Clock, Listener, Recorder, take_up
from ._slots import Slots
from ._stages import Stages

NEVER = 2**62
"""A sequence number no campaign reaches: waiting for entries after it is waiting for mail only."""


async def run(
    campaign_id: str,
    ports: Ports,
    *,
    by: str,
    parallel: int = 0,
    versions: Mapping[str, str] | None = None,
    slots: Slots | None = None,
    listeners: Sequence[Listener] = (),
) -> Campaign:
    """Advance one campaign until it is closed. Raises Held where somebody else runs it.

    Safe to call again after any crash: a campaign is whatever its journal says. Cancelling it lays the
    campaign down: what its facilities are doing goes on, and is found again by the next run. `slots` is
    shared by the campaigns that run side by side.
    """
    recorder = await take_up(campaign_id, ports.journal, ports.clock, by, ports.archive, ports.models)
    recorder.listeners.extend(listeners)
    try:
        if not recorder.campaign.closed:
            await recorder.record(core.RunStarted(runner=by, versions=dict(versions or {}), parallel=parallel))
            await _run(recorder, ports, slots or Slots())
        return recorder.campaign
    finally:
        await recorder.let_go()


async def _run(recorder: Recorder, ports: Ports, slots: Slots) -> None:
    # Strategies are never asked twice at once for one campaign: one thread does all the thinking.
    thinking = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"design {recorder.campaign.spec.id}")
    stages = Stages(recorder, ports, slots, thinking)
    reason = "interrupted"
    try:
        with slots.shared_by(recorder.campaign.spec.id, lambda facility: recorder.campaign.wanted(facility)):
            await _loop(recorder, stages)
            await recorder.on_disk()
        reason = "closed"
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise
    finally:
        stages.let_go_all()
        thinking.shutdown(wait=False, cancel_futures=True)
        # After a failed append nothing more can be recorded, and the first error is the one to show.
        with contextlib.suppress(core.Conflict, core.Unavailable):
            await recorder.record(core.RunEnded(reason=reason))


async def _loop(recorder: Recorder, stages: Stages) -> None:
    underway: dict[str, asyncio.Task[None]] = {}
    ended = asyncio.get_running_loop().create_future()

    def settle(task: asyncio.Task[None], subject: str) -> None:
        del underway[subject]
        if not task.cancelled() and (error := task.exception()) and not ended.done():
            ended.set_exception(error)
        recorder.wake()

    def begin(subject: str, task: asyncio.Task[None]) -> None:
        underway[subject] = task
        task.add_done_callback(lambda done: settle(done, subject))

    begin("mail", asyncio.create_task(_read_mail(recorder)))
    try:
        while not recorder.campaign.closed:
            if recorder.broken is not None:
                raise recorder.broken
            change = recorder.next_change()
            for step in next_steps(recorder.campaign):
                if step.subject not in underway:
                    begin(step.subject, asyncio.create_task(stages.take(step)))
            await asyncio.wait((change, ended), return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                ended.result()
    finally:
        tasks = list(underway.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        ended.cancel()
        if ended.done() and not ended.cancelled():
            ended.exception()  # Raised above, or overtaken by an interruption.


async def _read_mail(recorder: Recorder) -> None:
    """Record what people ask for, as soon as they ask."""
    while True:
        await recorder.answer_mail()
        await recorder.journal.changed(recorder.campaign.spec.id, NEVER, 60.0)


async def request(
    campaign_id: str, fact: Fact, journal: Journal, clock: Clock, *, by: str, patience: float = 10.0
) -> None:
    """Have a person's fact recorded: by whoever runs the campaign, or here where nobody does.

    Raises LookupError for an unknown campaign, InconsistentError with the reason where the fact cannot
    follow, and Unavailable where the runner has not answered after `patience` seconds.
    """
    if campaign_id not in await journal.campaigns():
        raise LookupError(f"there is no campaign {campaign_id}")
    mail = await journal.post(campaign_id, fact, by)
    deadline = asyncio.get_running_loop().time() + patience
    while (refusal := await journal.answered(mail)) is None:
        try:
            recorder = await take_up(campaign_id, journal, clock, by)
        except core.Held as held:
            if asyncio.get_running_loop().time() > deadline:
                raise core.Unavailable(f"{held.holder} has not answered; it will find the request later") from held
            await asyncio.sleep(0.02)
            continue
        try:
            await recorder.answer_mail()
        finally:
            await recorder.let_go()
    if refusal:
        raise core.InconsistentError(refusal)
