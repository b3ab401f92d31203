"""A client to be killed: submits some actions, waits for what comes of them, and says so.

client.py ROOT URL TOKEN WORKDIR TALLY COUNT
"""

import asyncio
import sys
from pathlib import Path

from firstlight import core
from firstlight.facilities.compute.iri import IriFacility


def permit(tally: Path, number: int) -> core.Permit:
    action = core.Action(
        id=f"c1.{number}.evaluate", trial=f"c1.{number}", facility="iri", name="evaluate",
        operation="firstlight.testing.facility:slow", point={"x": 0.2}, settings={"tally": str(tally / str(number))},
    )  # fmt: skip
    return core.Permit(action=action, policies=("test@1",))


async def main() -> None:
    root, url, token, workdir, tally, count = sys.argv[1:]
    facility = IriFacility(
        root, url=url, resource="hpc", token=token, project="m0001", workdir=workdir, python=sys.executable, poll=0.1,
        grace=2.0,
    )  # fmt: skip
    permits = [permit(Path(tally), number) for number in range(int(count))]

    async def one(permit: core.Permit) -> core.Outcome:
        job = await facility.find(permit.action.id) or await facility.submit(permit)
        return await facility.outcome(job)

    outcomes = await asyncio.gather(*map(one, permits))
    await facility.close()
    assert all(isinstance(outcome, core.Measured) for outcome in outcomes), outcomes
    print("all measured", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
