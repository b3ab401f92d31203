"""Slurm's own commands, and what their words mean."""

import asyncio
import os
import re
import time
from collections.abc import Sequence
from datetime import datetime

import msgspec

from ....core import Cause, Failure, Unavailable

PATIENCE = 60.0
"""Seconds after which a command that does not return counts as having got no answer."""

# It was not accepted, and may be another time. A limit is named in a line before the one that says it is violated.
_LATER = (
    r"Unable to contact|Connection refused|[Cc]ommunication|[Aa]uthentication|[Mm]unge|temporarily|try again|busy|"
    r"Submit\w*Limit"
)
# It may have been accepted.
_UNKNOWN = r"[Tt]imed out|Zero Bytes|Unexpected message|Interrupted|did not answer"
_NEVER = (
    r"[Ii]nvalid|not available|can ?not be satisfied|unrecognized|requires an argument|ambiguous|not permitted|denied|"
    r"violates|exceeds|not supported|not allowed|disabled|specification|never"
)
_RULES = r"partition|account|qos|QOS|permitted|denied|violates|limit|reservation|allowed"
_FEWER = r"job array|Submit\w*Limit"

FOREVER = frozenset({
    "PartitionTimeLimit", "PartitionNodeLimit", "PartitionConfig", "BadConstraints", "InvalidAccount", "InvalidQOS",
    "AccountNotAllowed", "QOSNotAllowed", "AssociationTimeLimit", "QOSMaxNodePerJob", "QOSMaxWallDurationPerJobLimit",
    "AssocMaxWallDurationPerJobLimit", "QOSMaxNodePerJobLimit", "AssocMaxNodePerJobLimit", "QOSMaxCpuPerJobLimit",
    "QOSMaxMemoryPerJob", "AssocMaxCpuPerJobLimit", "AssocMaxMemPerJob",
})  # fmt: skip
"""Reasons for which a job waits that no waiting ends."""


class Refused(Exception):
    """Slurm does not do it; the message is its own. `never` says that it would not another time either."""

    def __init__(self, said: str, accepted: bool | None = False) -> None:
        super().__init__(said)
        self.accepted = accepted
        later = re.search(_LATER, said) is not None or accepted is None
        self.never = not later and re.search(_NEVER, said) is not None
        self.fewer = re.search(_FEWER, said) is not None
        """Whether fewer at once may be accepted."""

    @property
    def failure(self) -> Failure:
        """What comes of an action that is refused so."""
        cause: Cause = "refused" if re.search(_RULES, str(self)) else "invalid-input"
        return Failure(cause=cause, message=f"Slurm refused it: {self}")


class Job(msgspec.Struct, frozen=True):
    """A job, or one task of an array, as squeue tells of it. `start` is in seconds since 1970 UTC, 0 where unknown."""

    id: str
    state: str
    reason: str
    start: float
    seconds: float
    nodes: int

    @property
    def runs(self) -> bool:
        return self.state not in ("PENDING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")


async def ask(*command: str) -> str:
    """What a command prints. Raises Refused where it fails, Unavailable where it is not there."""
    # Inside of a job, Slurm's variables speak of that job.
    inside = "SLURM_JOB_ID" in os.environ
    environment = {k: v for k, v in os.environ.items() if not inside or k == "SLURM_CONF" or k[:6] != "SLURM_"}
    try:
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        raise Unavailable(f"{command[0]} cannot be run on this machine: {error.strerror}") from None
    try:
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate()
    except TimeoutError:
        raise Refused(f"{command[0]} did not answer within {PATIENCE:g} s", accepted=None) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        said = _words(err.decode(errors="replace")) or f"{command[0]} ended with exit code {process.returncode}"
        raise Refused(said, accepted=None if re.search(_UNKNOWN, said) else False)
    return out.decode(errors="replace")


async def look(*command: str) -> str:
    """What a command prints that changes nothing. Raises Unavailable: nothing is known then."""
    try:
        return await ask(*command)
    except Refused as error:
        raise Unavailable(f"Slurm does not answer: {error}") from None


async def jobs(*options: str) -> dict[str, Job]:
    """This user's jobs that have not ended, by their names and places in an array: "name[3]". Raises Unavailable."""
    said = await look("squeue", "--noheader", "--array", "--me", "--format=%i|%K|%T|%r|%S|%M|%D|%j", *options)
    found = {}
    for line in said.splitlines():
        id, place, state, reason, start, seconds, nodes, name = line.split("|", 7)
        found[place_of(name, place)] = Job(
            id=id, state=state, reason=reason.replace("_", " "), start=moment(start), seconds=duration(seconds) or 0.0,
            nodes=int(nodes) if nodes.isdigit() else 1,
        )  # fmt: skip
    return found


async def state_of(place: str) -> str:
    """What Slurm says of a job that is not among those that live, while it still remembers it. Raises Unavailable."""
    return {p: job.state for p, job in (await jobs("--states=all", f"--name={name_of(place)}")).items()}.get(place, "")


async def test_only(options: Sequence[str]) -> float:
    """In how many seconds a job like this would begin. Raises Refused and Unavailable."""
    # Where it would begin is said on stderr, which a command that succeeds has for nobody.
    said = await ask("sh", "-c", 'exec sbatch "$@" 2>&1', "sbatch", "--test-only", *options, "--wrap=true")
    found = re.search(r"to start at (\S+)", said)
    return max(0.0, moment(found[1]) - time.time()) if found else 0.0


def place_of(name: str, place: str) -> str:
    """The place of a job in an array of this name, whose only job it may be."""
    return f"{name}[{place if place.isdigit() else 0}]"


def name_of(place: str) -> str:
    """The name of the array."""
    return place.rpartition("[")[0]


def moment(said: str) -> float:
    """Seconds since 1970 UTC of a time as Slurm writes it; 0 where it knows none."""
    try:
        return datetime.fromisoformat(said).timestamp()
    except ValueError:
        return 0.0


def duration(said: str) -> float | None:
    """Seconds of "1-02:03:04", "03:04", "infinite" (None) and so on; None also where there is no time in it."""
    if re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", said) is None:
        return None
    days, _, rest = said.rpartition("-")
    seconds = 0.0
    for part in rest.split(":"):
        seconds = 60 * seconds + int(part)
    return seconds + 86400 * int(days or 0)


def _words(said: str) -> str:
    """Without the names of the programs, and every line once."""
    lines = [re.sub(r"^(\w+: )?(error|fatal): |^s[a-z]+: (?=unrecognized)", "", line) for line in said.splitlines()]
    return "; ".join(dict.fromkeys(line.strip() for line in lines if line.strip() and not line.startswith("Try ")))
